package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/merkle"
	"github.com/phala-go/phala/proto"
)

// CallOptions bound a command. The zero value is a good default.
type CallOptions struct {
	GasLimit uint64   // 0: DefaultGas
	Expiry   uint64   // blocks from now within which it may run; 0: DefaultExpiry
	After    [16]byte // a nonce of this account that must have run before
	Nonce    [16]byte // zero: drawn at random
}

// Defaults of CallOptions.
const (
	DefaultGas    = 64 << 20
	DefaultExpiry = 1000
)

// gasPush is the chain's gas of a command: a part for each byte of the envelope.
const (
	gasPush = 200_000
	gasByte = 60
)

// A Receipt is what became of a command, verified: the output is in the receipt that a
// majority of the cluster's seats signed.
type Receipt struct {
	Contract proto.ContractID `json:"contract"`
	Cluster  proto.ClusterID  `json:"cluster"`
	Seq      uint64           `json:"seq"`
	Height   uint64           `json:"height"` // block in which the command was ordered
	Tx       string           `json:"tx"`
	Status   string           `json:"status"`
	GasUsed  uint64           `json:"gas_used"`
	Return   []byte           `json:"-"`
	Error    string           `json:"error,omitempty"`
	Seats    int              `json:"seats"` // seats that signed the same
	Nonce    [16]byte         `json:"-"`

	// What everyone sees, for --show chain.
	Envelope []byte `json:"-"`
	GasTier  uint8  `json:"-"`
}

// A Pending is a command that is on its way.
type Pending struct {
	Receipt
	fresh *commkey.SecretKey
	epoch *proto.Cluster
	ctx   envelope.Context
}

// A CallError is a command that ended with another status than ok.
type CallError struct{ Receipt *Receipt }

// Error says how it ended.
func (e *CallError) Error() string {
	return fmt.Sprintf("the command ended with %s: %s", e.Receipt.Status, e.Receipt.Error)
}

// Call pushes a command and waits for its final receipt. A status other than ok is a
// *CallError, with the receipt.
func (c *Client) Call(ctx context.Context, to proto.ContractID, method string, arg any, o CallOptions) (*Receipt, error) {
	input, err := Input(method, arg)
	if err != nil {
		return nil, err
	}
	p, err := c.Push(ctx, to, input, o)
	if err != nil {
		return nil, err
	}
	return c.Wait(ctx, p)
}

// Push seals, signs and sends a command and returns once it is in a block.
func (c *Client) Push(ctx context.Context, to proto.ContractID, input []byte, o CallOptions) (*Pending, error) {
	if c.key == nil {
		return nil, ErrNoKey
	}
	ct, err := c.Contract(ctx, to)
	if err != nil {
		return nil, err
	}
	cl, err := c.Cluster(ctx, ct.Cluster)
	if err != nil {
		return nil, err
	}
	gas := o.GasLimit
	if gas == 0 {
		gas = DefaultGas
	}
	tier, ok := proto.TierFor(gas)
	if !ok {
		return nil, fmt.Errorf("client: gas limit %d is above the largest tier, %d", gas, proto.TierGas(proto.MaxTier))
	}
	env := proto.CommandContext(c.net.Chain, cl.ID, cl.Epoch, tier, 0)
	p, err := c.seal(ctx, cl, env, to, input, gas, o)
	if err != nil {
		return nil, err
	}
	p.GasTier = tier
	res, err := c.tx.Send(ctx, gasPush+gasByte*uint64(len(p.Envelope)), tx.PushCommand(c.Account(), uint32(cl.ID), cl.Epoch, tier, 0, p.Envelope))
	if err != nil {
		return nil, err
	}
	return p, p.ordered(res)
}

// PushMany pushes n commands to one contract without waiting for each, and returns the
// number of the cluster's message that the last of them became.
func (c *Client) PushMany(ctx context.Context, to proto.ContractID, n int, input func(i int) ([]byte, error)) (uint64, error) {
	if c.key == nil {
		return 0, ErrNoKey
	}
	ct, err := c.Contract(ctx, to)
	if err != nil {
		return 0, err
	}
	cl, err := c.Cluster(ctx, ct.Cluster)
	if err != nil {
		return 0, err
	}
	tier, _ := proto.TierFor(DefaultGas)
	var last string
	for i := range n {
		in, err := input(i)
		if err != nil {
			return 0, err
		}
		p, err := c.seal(ctx, cl, proto.CommandContext(c.net.Chain, cl.ID, cl.Epoch, tier, 0), to, in, DefaultGas, CallOptions{})
		if err != nil {
			return 0, err
		}
		msg := tx.PushCommand(c.Account(), uint32(cl.ID), cl.Epoch, tier, 0, p.Envelope)
		if last, err = c.tx.Broadcast(ctx, gasPush+gasByte*uint64(len(p.Envelope)), false, msg); err != nil {
			return 0, fmt.Errorf("command %d of %d: %w", i+1, n, err)
		}
	}
	res, err := c.tx.Wait(ctx, last)
	if err != nil {
		return 0, err
	}
	p := new(Pending)
	err = p.ordered(res)
	return p.Seq, err
}

// ordered reads from the transaction where the chain put the command.
func (p *Pending) ordered(res *rpc.TxResult) error {
	p.Tx = res.Hash
	s, ok := res.Find("command", "seq")
	seq, err := strconv.ParseUint(s, 10, 64)
	if !ok || err != nil || seq == 0 {
		return fmt.Errorf("client: the node does not say where the command of transaction %s is in the cluster's order, but %q: ask another node", res.Hash, s)
	}
	p.Seq, p.Receipt.Height = seq, uint64(res.Height)
	return nil
}

// seal makes a signed invocation and its envelope.
func (c *Client) seal(ctx context.Context, cl *proto.Cluster, env envelope.Context, to proto.ContractID, input []byte, gas uint64, o CallOptions) (*Pending, error) {
	if cl.EpochKey == [32]byte{} {
		return nil, fmt.Errorf("%w: cluster %s has no key yet", ErrNotReady, cl.ID)
	}
	h, err := c.height(ctx)
	if err != nil {
		return nil, err
	}
	expiry := o.Expiry
	if expiry == 0 {
		expiry = DefaultExpiry
	}
	inv := &proto.Invocation{From: c.Account(), To: to, Input: input, Nonce: o.Nonce, GasLimit: gas, Expiry: h + expiry, After: o.After,
		Scheme: uint8(identity.SchemeSr25519), PublicKey: c.Account()}
	if inv.Nonce == [16]byte{} {
		if _, err := rand.Read(inv.Nonce[:]); err != nil {
			return nil, err
		}
	}
	sig, err := c.key.Sign(rand.Reader, inv.SignedBytes(c.net.Chain, cl.ID))
	if err != nil {
		return nil, err
	}
	inv.Signature = sig[:]
	fresh, err := commkey.Generate(rand.Reader)
	if err != nil {
		return nil, err
	}
	sealed, err := envelope.Seal(rand.Reader, env, fresh, cl.EpochKey, inv.Marshal())
	if err != nil {
		return nil, err
	}
	env.Purpose += "-output"
	return &Pending{Receipt: Receipt{Contract: to, Cluster: cl.ID, Nonce: inv.Nonce, Envelope: sealed}, fresh: fresh, epoch: cl, ctx: env}, nil
}

// height is the verified height that expiries count from: at most a second old, so that
// many commands in a row do not each ask for it.
func (c *Client) height(ctx context.Context) (uint64, error) {
	c.mu.Lock()
	if c.light != nil {
		if h := c.light.Trusted(); time.Since(h.Time) < time.Second {
			defer c.mu.Unlock()
			return uint64(h.Height), nil
		}
	}
	c.mu.Unlock()
	h, err := c.Sync(ctx)
	if err != nil {
		return 0, err
	}
	return uint64(h.Height), nil
}

// Wait waits for a command's final receipt, opens the answer and checks that it is in
// the receipt.
func (c *Client) Wait(ctx context.Context, p *Pending) (*Receipt, error) {
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		cl, err := c.Cluster(ctx, p.Cluster)
		if err != nil {
			return false, err
		}
		if cl.FinalSeq < p.Seq {
			return false, nil
		}
		return c.open(ctx, p)
	})
	if err != nil {
		return nil, err
	}
	r := p.Receipt
	if r.Status != proto.StatusOK.String() {
		return &r, &CallError{&r}
	}
	return &r, nil
}

// open looks for an output that opens and that the final receipt holds. A seat may post
// anything; what is not in the receipt is passed over.
func (c *Client) open(ctx context.Context, p *Pending) (bool, error) {
	outputs, err := c.node.Outputs(ctx, uint32(p.Cluster), p.Seq)
	if err != nil {
		return false, err
	}
	for _, raw := range outputs {
		o, err := proto.ParseSealedOutput(raw)
		if err != nil || o.Seq != p.Seq || uint64(o.Index) >= p.Seq {
			continue
		}
		plain, err := envelope.OpenReply(p.ctx, p.fresh, p.epoch.EpochKey, o.Sealed)
		if err != nil {
			continue
		}
		out, err := proto.ParseOutput(plain)
		if err != nil || out.Seq != p.Seq {
			continue
		}
		seats, err := c.inReceipt(ctx, p.Cluster, o, out)
		if errors.Is(err, ErrReceipt) {
			continue
		}
		if err != nil {
			return false, err
		}
		p.Receipt.Height, p.Status, p.GasUsed, p.Return, p.Error, p.Seats = out.Height, out.Status.String(), out.GasUsed, out.Return, out.Error, seats
		return true, nil
	}
	return false, nil
}

// inReceipt checks an opened output against the final receipt and returns how many
// seats signed it.
func (c *Client) inReceipt(ctx context.Context, cl proto.ClusterID, o *proto.SealedOutput, out *proto.Output) (int, error) {
	rec, err := read(ctx, c, proto.StoreContracts, proto.KeyReceipt(cl, o.Seq-uint64(o.Index)), proto.ParseReceiptRecord)
	if errors.Is(err, rpc.ErrNotFound) {
		return 0, fmt.Errorf("%w: message %d of cluster %s", ErrReceipt, o.Seq, cl)
	}
	if err != nil {
		return 0, err
	}
	if !rec.Final {
		return 0, fmt.Errorf("%w: message %d of cluster %s is not final", ErrReceipt, o.Seq, cl)
	}
	r := &rec.Receipts[rec.Agreed]
	leaf := out.Commitment()
	siblings := make([][32]byte, len(o.Proof))
	for i, h := range o.Proof {
		siblings[i] = h
	}
	if int(o.Count) != len(r.Items) || !merkle.Verify(r.Outputs, leaf[:], int(o.Index), int(o.Count), siblings) {
		return 0, fmt.Errorf("%w: message %d of cluster %s", ErrReceipt, o.Seq, cl)
	}
	digest, seats := proto.Hash(sha256.Sum256(proto.MarshalEntry(*r))), 0
	for _, v := range rec.Votes {
		if v.Digest == digest {
			seats++
		}
	}
	return seats, nil
}

// A Deployment is a new contract.
type Deployment struct {
	Contract proto.ContractID `json:"contract"`
	Cluster  proto.ClusterID  `json:"cluster"`
	Code     proto.Hash       `json:"code"`
	Receipt  *Receipt         `json:"receipt"`
}

// Upload uploads a module, except for the chunks that the chain has. progress, which
// may be nil, is told how many chunks are done.
func (c *Client) Upload(ctx context.Context, module []byte, progress func(done, total int)) (proto.Hash, error) {
	if c.key == nil {
		return proto.Hash{}, ErrNoKey
	}
	if len(module) == 0 || len(module) > proto.MaxCode {
		return proto.Hash{}, fmt.Errorf("client: module of %d bytes, at least 1 and at most %d", len(module), proto.MaxCode)
	}
	m := proto.NewCodeManifest(module)
	hash, manifest := m.Hash(), m.Marshal()
	code, err := c.Code(ctx, hash)
	if err != nil && !errors.Is(err, rpc.ErrNotFound) {
		return hash, err
	}
	have := make([]bool, len(m.Chunks))
	if code != nil {
		if code.Missing() == 0 {
			return hash, nil
		}
		copy(have, code.Have)
	}
	var sent []string
	for i := range m.Chunks {
		if !have[i] {
			packed := proto.PackChunk(module[i*proto.ChunkSize:][:m.ChunkLen(uint32(i))])
			id, err := c.tx.Broadcast(ctx, 1_000_000+32*uint64(len(packed)), false, tx.UploadCode(c.Account(), manifest, uint32(i), packed))
			if err != nil {
				return hash, fmt.Errorf("chunk %d of %d: %w", i+1, len(have), err)
			}
			sent = append(sent, id)
		}
		if progress != nil {
			progress(i+1, len(have))
		}
	}
	for _, id := range sent {
		if _, err := c.tx.Wait(ctx, id); err != nil {
			return hash, err
		}
	}
	return hash, nil
}

// Deploy uploads a module and makes a contract of it in a cluster. arg is what its
// constructor takes. It returns when the constructor's receipt is final.
func (c *Client) Deploy(ctx context.Context, cluster proto.ClusterID, module, salt []byte, arg any, progress func(done, total int)) (*Deployment, error) {
	hash, err := c.Upload(ctx, module, progress)
	if err != nil {
		return nil, err
	}
	cl, err := c.Cluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	input, err := Input("Init", arg)
	if err != nil {
		return nil, err
	}
	id := proto.NewContractID(c.net.Chain, cluster, c.Account(), hash, salt)
	tier, _ := proto.TierFor(DefaultGas)
	env := proto.InstantiateContext(c.net.Chain, cluster, cl.Epoch, tier, 0, id, c.Account(), hash)
	p, err := c.seal(ctx, cl, env, id, input, DefaultGas, CallOptions{Expiry: 9_000})
	if err != nil {
		return nil, err
	}
	p.GasTier = tier
	res, err := c.tx.Send(ctx, gasPush+gasByte*uint64(len(p.Envelope)), tx.Deploy(c.Account(), uint32(cluster), hash, salt, cl.Epoch, tier, 0, p.Envelope))
	if err != nil {
		return nil, err
	}
	p.Tx = res.Hash
	d := &Deployment{Contract: id, Cluster: cluster, Code: hash}
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
		ct, err := c.Contract(ctx, id)
		if errors.Is(err, ErrNoContract) {
			return false, nil // in the newest block, whose state the next header proves
		}
		if err != nil {
			return false, err
		}
		if ct.Phase == proto.ContractRefused {
			return false, fmt.Errorf("client: the cluster's workers refused the code %s: does it build with \"phala build\"?", hash)
		}
		p.Seq = ct.Seq
		return ct.Phase == proto.ContractStarted, nil
	})
	if err != nil {
		return d, err
	}
	d.Receipt, err = c.Wait(ctx, p)
	return d, err
}
