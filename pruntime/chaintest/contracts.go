package chaintest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/phala-go/phala/proto"
)

// CreateCluster makes a cluster that anyone may deploy to.
func (c *Chain) CreateCluster(owner []byte, seats uint32) proto.ClusterID {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := proto.ClusterID(len(c.clusters) + 1)
	topic := proto.TopicCluster(id)
	cl := &proto.Cluster{ID: id, Owner: owner, Public: true, SeatsWanted: seats, Rules: c.rules, Epoch: 1, FinalHead: proto.CreatedCursor(c.C.ChainID(), topic).Head}
	c.clusters = append(c.clusters, cl)
	c.C.CreateTopic(topic)
	c.putCluster(cl)
	if c.rules > 1 {
		c.send(topic, proto.RulesActivated{Version: c.rules, EffectiveHeight: uint64(c.C.Height()) + 2, Images: proto.ImagesDigest(c.rules, nil)})
	}
	return id
}

func (c *Chain) cluster(id proto.ClusterID) *proto.Cluster {
	if id == 0 || int(id) > len(c.clusters) {
		return nil
	}
	return c.clusters[id-1]
}

// Cluster returns a cluster's record.
func (c *Chain) Cluster(id proto.ClusterID) proto.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.cluster(id)
}

// endBlock starts contracts whose code a majority prepared and fills free seats.
func (c *Chain) endBlock() {
	c.announceAgain()
	c.waiting = slices.DeleteFunc(c.waiting, func(ct *proto.Contract) bool {
		cl, code := c.cluster(ct.Cluster), c.codes[ct.Code]
		image, agreed := code.Agreed(cl)
		switch {
		case agreed && c.held(cl):
			return false
		case agreed:
			c.start(ct, image)
		case code.Hopeless(cl):
			ct.Phase = proto.ContractRefused
		default:
			return false
		}
		c.C.Put(proto.StoreContracts, proto.KeyContract(ct.ID), ct.Marshal())
		return true
	})
	for _, cl := range c.clusters {
		for _, id := range c.order {
			w := c.workers[id]
			if len(cl.Seats) < int(cl.SeatsWanted) && w.Role == proto.RoleWorker && w.State.Cluster == 0 && w.Rules >= cl.Rules && !c.gone[id] {
				cl.Seats = append(cl.Seats, id)
				w.State.Cluster = cl.ID
				c.putWorker(w)
				c.putCluster(cl)
				e := proto.Seated{Cluster: cl.ID, Worker: id, Epoch: cl.Epoch, State: cl.State}
				c.send(proto.TopicWorker(id), e)
				c.send(proto.TopicGatekeeper, e)
			}
		}
		c.followRules(cl)
	}
}

// Unseat takes a worker's seat away, for good.
func (c *Chain) Unseat(id proto.WorkerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.workers[id]
	cl := c.cluster(w.State.Cluster)
	cl.Seats = slices.DeleteFunc(cl.Seats, func(s proto.WorkerID) bool { return s == id })
	cl.Ready = slices.DeleteFunc(cl.Ready, func(r proto.RulesWord) bool { return r.Worker == id })
	cl.SeatsWanted--
	w.State.Cluster = 0
	c.putWorker(w)
	c.putCluster(cl)
	e := proto.Unseated{Cluster: cl.ID, Worker: id}
	c.send(proto.TopicWorker(id), e)
	c.send(proto.TopicGatekeeper, e)
}

func (c *Chain) start(ct *proto.Contract, image proto.Hash) {
	ct.Phase = proto.ContractStarted
	ct.Seq = c.send(proto.TopicCluster(ct.Cluster), proto.Instantiated{Contract: ct.ID, Deployer: ct.Deployer, Code: ct.Code, Image: image, Command: ct.Command})
	c.record(ct.Cluster, ct.Seq, &ct.Command)
	if cl := c.cluster(ct.Cluster); cl.Wanted != 0 {
		cl.CodesSeq = ct.Seq
		c.putCluster(cl)
	}
}

func (c *Chain) record(id proto.ClusterID, seq uint64, cmd *proto.PushedCommand) {
	k, r := proto.KeyCommand(id, seq), &proto.CommandRecord{Payer: cmd.Payer, GasTier: cmd.GasTier, DepositLimit: cmd.DepositLimit, Height: uint64(c.C.Height()) + 1}
	c.commands[string(k)] = r
	c.C.Put(proto.StoreContracts, k, r.Marshal())
}

func (c *Chain) clusterEntry(w *proto.WorkerInfo, seq uint64, raw Entry, entry proto.Entry) error {
	seat := func(id proto.ClusterID) (*proto.Cluster, error) {
		cl := c.cluster(id)
		if cl == nil || !cl.HasSeat(w.Worker) {
			return nil, refuse("contracts", 10, "%s has no seat in %s", w.Worker, id)
		}
		return cl, nil
	}
	vote := func(id proto.ClusterID, hash proto.Hash, rules uint32, image proto.Hash, ok bool) error {
		cl, err := seat(id)
		code := c.codes[hash]
		if err != nil || code == nil {
			return refuse("contracts", 7, "%s: %v", hash, err)
		}
		v := proto.CodeVote{Cluster: id, Worker: w.Worker, Rules: rules, Image: image}
		if rules != cl.Rules || code.Voted(cl, w.Worker) {
			return nil
		}
		if ok {
			code.Prepared = append(code.Prepared, v)
		} else {
			code.Refused = append(code.Refused, v)
		}
		c.C.Put(proto.StoreContracts, proto.KeyCode(hash), code.Marshal())
		return nil
	}
	switch e := entry.(type) {
	case proto.PublishEpochKey:
		cl, err := seat(e.Cluster)
		if err != nil {
			return err
		}
		if cl.Next != 0 && e.Epoch == cl.Next {
			return c.nextKey(cl, w.Worker, e.Public)
		}
		if e.Epoch != cl.Epoch {
			return nil
		}
		same := 1
		for _, s := range cl.Sealed {
			if s.Worker == w.Worker {
				return nil
			}
			if s.Public == e.Public {
				same++
			}
		}
		cl.Sealed = append(cl.Sealed, proto.SealedEpoch{Worker: w.Worker, Public: e.Public})
		if same >= cl.Majority() {
			cl.EpochKey = e.Public
		}
		c.putCluster(cl)
		return nil
	case proto.CodePrepared:
		return vote(e.Cluster, e.Code, e.Rules, e.Image, true)
	case proto.CodeRefused:
		return vote(e.Cluster, e.Code, e.Rules, proto.Hash{}, false)
	case proto.RulesReady:
		cl, err := seat(e.Cluster)
		if err != nil {
			return err
		}
		return c.rulesReady(cl, w.Worker, e)
	case proto.Receipt:
		cl, err := seat(e.Cluster)
		if err != nil {
			return err
		}
		return c.receipt(cl, w.Worker, seq, raw, e)
	case proto.SnapshotTaken:
		cl, err := seat(e.Cluster)
		if err != nil {
			return err
		}
		return c.snapshotTaken(cl, w.Worker, &e.Snapshot)
	case proto.SnapshotPiece:
		cl, err := seat(e.Cluster)
		if err != nil {
			return err
		}
		return c.snapshotPiece(cl, &e)
	case proto.PostOutputs:
		if _, err := seat(e.Cluster); err != nil {
			return err
		}
		for i := range e.Outputs {
			k := outputKey(e.Cluster, e.Outputs[i].Seq)
			c.outputs[k] = append(c.outputs[k], e.Outputs[i].Marshal())
		}
		return nil
	}
	return refuse("contracts", 2, "entry %T", entry)
}

func outputKey(c proto.ClusterID, seq uint64) string { return fmt.Sprint(c, "/", seq) }

// Outputs returns the sealed answers to a message.
func (c *Chain) Outputs(id proto.ClusterID, seq uint64) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outputs[outputKey(id, seq)]
}

func (c *Chain) receipt(cl *proto.Cluster, worker proto.WorkerID, seq uint64, raw Entry, r proto.Receipt) error {
	key := proto.KeyReceipt(cl.ID, r.FromSeq)
	rec := c.receipts[string(key)]
	if rec == nil {
		if r.FromSeq <= cl.FinalSeq {
			return refuse("contracts", 11, "messages from %d are inside a final receipt", r.FromSeq)
		}
		rec = &proto.ReceiptRecord{}
		c.receipts[string(key)] = rec
	}
	digest, known := proto.Hash(sha256.Sum256(proto.MarshalEntry(r))), false
	for _, v := range rec.Votes {
		if v.Worker == worker {
			return refuse("contracts", 11, "%s already gave its word from %d", worker, r.FromSeq)
		}
		known = known || v.Digest == digest
	}
	if !known {
		rec.Receipts = append(rec.Receipts, r)
	}
	rec.Votes = append(rec.Votes, proto.ReceiptVote{Worker: worker, OutboxSeq: seq, Digest: digest, Signature: [64]byte(raw.Signature)})
	c.C.Put(proto.StoreContracts, key, rec.Marshal())
	for {
		key := proto.KeyReceipt(cl.ID, cl.FinalSeq+1)
		rec := c.receipts[string(key)]
		if rec == nil || rec.Final {
			return nil
		}
		for i := range rec.Receipts {
			d, n := proto.Hash(sha256.Sum256(proto.MarshalEntry(rec.Receipts[i]))), 0
			for _, v := range rec.Votes {
				if v.Digest == d {
					n++
				}
			}
			if n >= cl.Majority() {
				rec.Final, rec.Agreed = true, uint32(i)
			}
		}
		if !rec.Final {
			return nil
		}
		r := rec.Receipts[rec.Agreed]
		for seq := r.FromSeq; seq <= r.ToSeq; seq++ {
			k := proto.KeyCommand(cl.ID, seq)
			if cmd := c.commands[string(k)]; cmd != nil {
				cmd.Done, cmd.Receipt = true, r.FromSeq
				c.C.Put(proto.StoreContracts, k, cmd.Marshal())
			}
		}
		cl.FinalSeq, cl.FinalHead, cl.FinalRoot = r.ToSeq, r.Head, r.StateRoot
		c.C.Put(proto.StoreContracts, key, rec.Marshal())
		c.putCluster(cl)
	}
}

// Receipt returns what the seats said about the messages of one height, of which from
// is the first.
func (c *Chain) Receipt(id proto.ClusterID, from uint64) (proto.ReceiptRecord, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rec := c.receipts[string(proto.KeyReceipt(id, from))]; rec != nil {
		return *rec, true
	}
	return proto.ReceiptRecord{}, false
}

// Upload takes a whole module and returns its hash.
func (c *Chain) Upload(module []byte) proto.Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := proto.NewCodeManifest(module)
	i := uint32(0)
	for chunk := range slices.Chunk(module, proto.ChunkSize) {
		if err := c.chunk(m, i, proto.PackChunk(chunk)); err != nil {
			panic(err)
		}
		i++
	}
	return m.Hash()
}

func chunkKey(code proto.Hash, i uint32) string { return fmt.Sprint(code, "/", i) }

func (c *Chain) chunk(m *proto.CodeManifest, i uint32, packed []byte) error {
	hash := m.Hash()
	code := c.codes[hash]
	if code == nil {
		code = &proto.Code{Manifest: *m, Have: make([]bool, len(m.Chunks))}
	}
	if int(i) < len(code.Have) && code.Have[i] {
		return nil
	}
	if _, err := m.Unpack(i, packed); err != nil {
		return refuse("contracts", 8, "%v", err)
	}
	c.codes[hash] = code
	code.Have[i] = true
	c.chunks[chunkKey(hash, i)] = bytes.Clone(packed)
	c.C.Put(proto.StoreContracts, proto.KeyCode(hash), code.Marshal())
	return nil
}

func (c *Chain) accept(id proto.ClusterID, epoch uint64) (*proto.Cluster, error) {
	cl := c.cluster(id)
	switch {
	case cl == nil:
		return nil, refuse("contracts", 3, "no such cluster %s", id)
	case cl.EpochKey == [32]byte{}:
		return nil, refuse("contracts", 4, "cluster %s has no key yet", id)
	case epoch != cl.Epoch:
		return nil, refuse("contracts", 5, "epoch %d", epoch)
	}
	return cl, nil
}

// Push appends a command and returns its sequence in the cluster's topic.
func (c *Chain) Push(id proto.ClusterID, cmd proto.PushedCommand) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.push(id, cmd)
}

func (c *Chain) push(id proto.ClusterID, cmd proto.PushedCommand) (uint64, error) {
	if _, err := c.accept(id, cmd.Epoch); err != nil {
		return 0, err
	}
	seq := c.send(proto.TopicCluster(id), cmd)
	c.record(id, seq, &cmd)
	return seq, nil
}

// Deploy makes a contract of an uploaded code.
func (c *Chain) Deploy(id proto.ClusterID, code proto.Hash, salt []byte, cmd proto.PushedCommand) (proto.ContractID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deploy(id, code, salt, cmd)
}

func (c *Chain) deploy(id proto.ClusterID, hash proto.Hash, salt []byte, cmd proto.PushedCommand) (proto.ContractID, error) {
	contract := proto.NewContractID(c.C.ChainID(), id, cmd.Payer, hash, salt)
	cl, err := c.accept(id, cmd.Epoch)
	if err != nil {
		return contract, err
	}
	code := c.codes[hash]
	if code == nil || code.Missing() > 0 {
		return contract, refuse("contracts", 7, "code %s is not uploaded", hash)
	}
	ct := &proto.Contract{ID: contract, Cluster: id, Deployer: cmd.Payer, Code: hash, Phase: proto.ContractWaiting, Height: uint64(c.C.Height()) + 1, Command: cmd}
	if image, agreed := code.Agreed(cl); agreed && !c.held(cl) {
		c.start(ct, image)
	} else if agreed {
		c.waiting = append(c.waiting, ct)
	} else {
		if !slices.ContainsFunc(c.waiting, func(o *proto.Contract) bool { return o.Code == hash && o.Cluster == id }) {
			c.send(proto.TopicCluster(id), proto.CodeAnnounced{Code: hash, Size: code.Manifest.Size})
		}
		c.waiting = append(c.waiting, ct)
	}
	c.C.Put(proto.StoreContracts, proto.KeyContract(contract), ct.Marshal())
	return contract, nil
}
