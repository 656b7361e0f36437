package chaintest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
)

// An account as the chain's auth module has it.
type accountRecord struct {
	number, sequence uint64
}

type txResult struct {
	height int64
	refusal
	events [][3]string // type, key, value
}

type refusal struct {
	space, log string
	code       uint32
}

// Fund makes an account, so that it can send.
func (c *Chain) Fund(account []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &accountRecord{number: uint64(len(c.accounts))}
	c.accounts[string(account)] = a
	c.putAccount(account, a)
}

func (c *Chain) putAccount(account []byte, a *accountRecord) {
	var base []byte
	base = protowire.AppendString(protowire.AppendTag(base, 1, protowire.BytesType), "address")
	for n, v := range map[protowire.Number]uint64{3: a.number, 4: a.sequence} {
		if v != 0 {
			base = protowire.AppendVarint(protowire.AppendTag(base, n, protowire.VarintType), v)
		}
	}
	rec := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "/cosmos.auth.v1beta1.BaseAccount")
	rec = protowire.AppendBytes(protowire.AppendTag(rec, 2, protowire.BytesType), base)
	c.C.Put("acc", tx.KeyAccount(account), rec)
}

// fields reads a protobuf message: numbers to the values of the field, in order, varints
// as eight bytes.
func fields(b []byte) map[protowire.Number][][]byte {
	out := map[protowire.Number][][]byte{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			panic("chaintest: not protobuf")
		}
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			out[num], b = append(out[num], v), b[n:]
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			out[num], b = append(out[num], protowire.AppendFixed64(nil, v)), b[n:]
		default:
			panic("chaintest: field of another type")
		}
	}
	return out
}

type message map[protowire.Number][][]byte

func (m message) bytes(n protowire.Number) []byte {
	if len(m[n]) == 0 {
		return nil
	}
	return m[n][0]
}

func (m message) uint(n protowire.Number) uint64 {
	if len(m[n]) == 0 {
		return 0
	}
	v, _ := protowire.ConsumeFixed64(m[n][0])
	return v
}

func (m message) account(n protowire.Number) []byte {
	a, err := address.Parse(string(m.bytes(n)))
	if err != nil {
		panic(err)
	}
	return a
}

// broadcast carries out a transaction for the next block, or refuses it.
func (c *Chain) broadcast(raw []byte) (hash string, err error) {
	sum := sha256.Sum256(raw)
	hash = strings.ToUpper(hex.EncodeToString(sum[:]))
	t := message(fields(raw))
	body, auth := message(fields(t.bytes(1))), message(fields(t.bytes(2)))
	info := message(fields(auth.bytes(1)))
	key := message(fields(message(fields(info.bytes(1))).bytes(2))).bytes(1)
	a := c.accounts[string(key)]
	if a == nil {
		return hash, refuse("sdk", 9, "account does not exist")
	}
	doc := append([]byte(nil), raw...)
	doc = doc[:len(doc)-len(protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), t.bytes(3)))]
	doc = protowire.AppendString(protowire.AppendTag(doc, 3, protowire.BytesType), c.C.ChainID())
	if a.number != 0 {
		doc = protowire.AppendVarint(protowire.AppendTag(doc, 4, protowire.VarintType), a.number)
	}
	if got := info.uint(3); got != a.sequence {
		return hash, refuse("sdk", 32, "account sequence mismatch, expected %d, got %d", a.sequence, got)
	}
	if err := identity.Verify(identity.PublicKey(key), doc, t.bytes(3)); err != nil {
		return hash, refuse("sdk", 4, "signature verification failed: %v", err)
	}
	res := &txResult{height: c.C.Height() + 1}
	for _, m := range body[1] {
		any := message(fields(m))
		if err := c.execute(string(any.bytes(1)), fields(any.bytes(2)), res); err != nil {
			return hash, err
		}
	}
	a.sequence++
	c.putAccount(key, a)
	c.txs[hash] = res
	return hash, nil
}

func (c *Chain) execute(kind string, m message, res *txResult) error {
	cmd := func(epoch, tier, deposit, env protowire.Number) proto.PushedCommand {
		return proto.PushedCommand{Payer: m.account(1), Epoch: m.uint(epoch), GasTier: uint8(m.uint(tier)), DepositLimit: m.uint(deposit), Envelope: m.bytes(env)}
	}
	switch kind {
	case "/phala.registry.v1.MsgRegisterWorker":
		return c.register(m.bytes(2), m.bytes(3), m.bytes(4))
	case "/phala.registry.v1.MsgUpdateCollateral":
		return c.updateCollateral(m.bytes(2))
	case "/phala.mq.v1.MsgSubmitOutbox":
		var entries []Entry
		for _, e := range m[4] {
			f := message(fields(e))
			entries = append(entries, Entry{f.bytes(1), f.bytes(2)})
		}
		return c.submit(proto.WorkerID(m.bytes(2)), m.uint(3), entries)
	case "/phala.contracts.v1.MsgUploadCode":
		manifest, err := proto.ParseCodeManifest(m.bytes(2))
		if err != nil {
			return refuse("contracts", 2, "%v", err)
		}
		return c.chunk(manifest, uint32(m.uint(3)), m.bytes(4))
	case "/phala.contracts.v1.MsgPushCommand":
		seq, err := c.push(proto.ClusterID(m.uint(2)), cmd(3, 4, 5, 6))
		res.events = append(res.events, [3]string{"command", "seq", fmt.Sprint(seq)})
		return err
	case "/phala.contracts.v1.MsgDeploy":
		_, err := c.deploy(proto.ClusterID(m.uint(2)), proto.Hash(m.bytes(3)), m.bytes(4), cmd(5, 6, 7, 8))
		return err
	}
	return refuse("sdk", 6, "unknown message %s", kind)
}

// A Server is the chain's RPC. A test may change what it answers.
type Server struct {
	*Chain
	asking    sync.Mutex
	intercept Intercept
	// Eager makes a block whenever somebody asks for a transaction that waits for one.
	Eager bool
}

// An Intercept sees every request first, one at a time; a result that is not nil is the
// answer, and an error is a node's error.
type Intercept func(method string, params map[string]any) (result any, err error)

// Intercept puts f, which may be nil, before the node, in place of what was there. That
// does not run any more when it returns.
func (s *Server) Intercept(f Intercept) {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.intercept = f
}

func (s *Server) intercepted(method string, params map[string]any) (result any, err error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.intercept == nil {
		return nil, nil
	}
	return s.intercept(method, params)
}

// Server returns an RPC for httptest.
func (c *Chain) Server() *Server { return &Server{Chain: c} }

// ServeHTTP answers one JSON-RPC request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	var req struct {
		Method string
		Params map[string]any
	}
	if err := json.Unmarshal(b, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	result, err := s.intercepted(req.Method, req.Params)
	if result == nil && err == nil {
		s.mu.Lock()
		result, err = s.answer(req.Method, req.Params)
		if s.Eager && req.Method == "tx" && err != nil {
			s.next()
		}
		s.mu.Unlock()
	}
	out := map[string]any{"jsonrpc": "2.0", "id": 1, "result": result}
	if err != nil {
		out = map[string]any{"jsonrpc": "2.0", "id": 1, "error": map[string]any{"code": -32603, "message": "Internal error", "data": err.Error()}}
	}
	json.NewEncoder(w).Encode(out)
}

type object = map[string]any

func param(p map[string]any, name string) string { v, _ := p[name].(string); return v }

func (c *Chain) answer(method string, p map[string]any) (any, error) {
	height, _ := strconv.ParseInt(param(p, "height"), 10, 64)
	switch method {
	case "status":
		return object{"node_info": object{"network": c.C.ChainID()}, "sync_info": object{"latest_block_height": fmt.Sprint(c.C.Height()), "catching_up": false}}, nil
	case "commit", "validators":
		if height < 1 || height > c.C.Height() {
			return nil, fmt.Errorf("height %d must be less than or equal to the current blockchain height %d", height, c.C.Height())
		}
		b := c.C.Light(height)
		if method == "commit" {
			return object{"signed_header": Commit(b), "canonical": true}, nil
		}
		return validators(b, param(p, "page"))
	case "abci_query":
		data, err := hex.DecodeString(param(p, "data"))
		if err != nil {
			return nil, err
		}
		prove, _ := p["prove"].(bool)
		return object{"response": c.query(param(p, "path"), data, height, prove)}, nil
	case "broadcast_tx_sync":
		var raw []byte
		if err := json.Unmarshal([]byte(strconv.Quote(param(p, "tx"))), &raw); err != nil {
			return nil, err
		}
		hash, err := c.broadcast(raw)
		var r *Refusal
		if errors.As(err, &r) {
			return object{"code": r.Code, "codespace": r.Space, "log": r.Log, "hash": hash}, nil
		}
		return object{"code": 0, "hash": hash}, err
	case "tx":
		var raw []byte
		if err := json.Unmarshal([]byte(strconv.Quote(param(p, "hash"))), &raw); err != nil {
			return nil, err
		}
		res := c.txs[strings.ToUpper(hex.EncodeToString(raw))]
		if res == nil || res.height > c.C.Height() {
			return nil, fmt.Errorf("tx (%X) not found", raw)
		}
		events := []object{}
		for _, e := range res.events {
			events = append(events, object{"type": e[0], "attributes": []object{{"key": e[1], "value": e[2]}}})
		}
		return object{"height": fmt.Sprint(res.height), "tx_result": object{"code": res.code, "codespace": res.space, "log": res.log, "gas_used": "1", "events": events}}, nil
	}
	return nil, fmt.Errorf("method not found: %s", method)
}

func (c *Chain) query(path string, data []byte, height int64, prove bool) object {
	fail := func(format string, args ...any) object {
		return object{"code": 1, "log": fmt.Sprintf(format, args...), "height": "0"}
	}
	if height == 0 {
		height = c.C.Height()
	}
	if store, ok := strings.CutPrefix(path, "/store/"); ok {
		store = strings.TrimSuffix(store, "/key")
		if height > c.C.Height() || (prove && height < 2) {
			return fail("no state of height %d", height)
		}
		value, ok := c.C.Get(height, store, data)
		out := object{"code": 0, "height": fmt.Sprint(height), "value": value}
		if ok && prove {
			_, p := c.C.Prove(height, store, data)
			m := p.Marshal()
			out["proofOps"] = object{"ops": []object{{"type": "ics23:iavl", "data": m.IAVL}, {"type": "ics23:simple", "data": m.Store}}}
		}
		return out
	}
	m := message(fields(data))
	var values [][]byte
	size := 0
	switch path {
	case "/phala.mq.v1.Query/Messages":
		for _, msg := range c.C.Messages(string(m.bytes(1)), m.uint(2)-1, c.C.Height()) {
			if size += len(msg.Payload); msg.Seq <= m.uint(4) && len(values) < int(m.uint(3)) && (size < 8<<20 || len(values) == 0) {
				values = append(values, msg.Marshal())
			}
		}
	case "/phala.contracts.v1.Query/Chunk":
		if b := c.chunks[chunkKey(proto.Hash(m.bytes(1)), uint32(m.uint(2)))]; b != nil {
			values = append(values, b)
		}
	case "/phala.contracts.v1.Query/Piece":
		if b := c.chunks[pieceKey(proto.ClusterID(m.uint(1)), m.uint(2), uint32(m.uint(3)))]; b != nil {
			values = append(values, b)
		}
	case "/phala.contracts.v1.Query/Output":
		values = c.outputs[outputKey(proto.ClusterID(m.uint(1)), m.uint(2))]
	default:
		return fail("unknown path %s", path)
	}
	var out []byte
	for _, v := range values {
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), v)
	}
	return object{"code": 0, "height": "0", "value": out}
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func blockID(id comet.BlockID) object {
	return object{"hash": upper(id.Hash), "parts": object{"total": id.PartsTotal, "hash": upper(id.PartsHash)}}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Commit is a light block's header and commit as a node answers them.
func Commit(b *comet.LightBlock) any {
	h := &b.Header
	sigs := []object{}
	for _, s := range b.Commit.Signatures {
		sig := object{"block_id_flag": s.Flag, "validator_address": "", "timestamp": "0001-01-01T00:00:00Z", "signature": nil}
		if s.Flag != comet.FlagAbsent {
			sig["validator_address"], sig["timestamp"], sig["signature"] = upper(s.Address[:]), stamp(s.Time), s.Signature[:]
		}
		sigs = append(sigs, sig)
	}
	return object{
		"header": object{"version": object{"block": fmt.Sprint(h.VersionBlock), "app": fmt.Sprint(h.VersionApp)}, "chain_id": h.ChainID, "height": fmt.Sprint(h.Height),
			"time": stamp(h.Time), "last_block_id": blockID(h.LastBlockID), "last_commit_hash": upper(h.LastCommitHash), "data_hash": upper(h.DataHash),
			"validators_hash": upper(h.ValidatorsHash), "next_validators_hash": upper(h.NextValidatorsHash), "consensus_hash": upper(h.ConsensusHash),
			"app_hash": upper(h.AppHash), "last_results_hash": upper(h.LastResultsHash), "evidence_hash": upper(h.EvidenceHash), "proposer_address": upper(h.ProposerAddress)},
		"commit": object{"height": fmt.Sprint(b.Commit.Height), "round": b.Commit.Round, "block_id": blockID(b.Commit.BlockID), "signatures": sigs},
	}
}

// validators answers three to a page, so that clients turn pages.
func validators(b *comet.LightBlock, page string) (any, error) {
	n, err := strconv.Atoi(page)
	if err != nil || n < 1 {
		return nil, fmt.Errorf("page %q", page)
	}
	all := b.Validators.Validators
	var out []object
	for i := 3 * (n - 1); i < min(3*n, len(all)); i++ {
		v := all[i]
		out = append(out, object{"pub_key": object{"type": "tendermint/PubKeyEd25519", "value": v.PublicKey[:]}, "voting_power": fmt.Sprint(v.Power)})
	}
	return object{"validators": out, "total": fmt.Sprint(len(all)), "count": fmt.Sprint(len(out))}, nil
}
