package client

import (
	"bytes"
	"cmp"
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
	GasLimit uint64 // 0: DefaultGas
	// DepositLimit is the most of this account's money, base units, that new storage may
	// bind. 0: DefaultDeposit. What is not bound returns with the receipt.
	DepositLimit uint64
	Expiry       uint64   // blocks from now within which it may run; 0: DefaultExpiry
	After        [16]byte // a nonce of this account that must have run before
	Nonce        [16]byte // zero: drawn at random
}

// Defaults of CallOptions.
const (
	DefaultGas     = 64 << 20
	DefaultDeposit = 1 << 30 // about a megabyte
	DefaultExpiry  = 1000
)

// filled is o with the defaults.
func (o CallOptions) filled() CallOptions {
	o.GasLimit, o.DepositLimit, o.Expiry = cmp.Or(o.GasLimit, DefaultGas), cmp.Or(o.DepositLimit, DefaultDeposit), cmp.Or(o.Expiry, DefaultExpiry)
	return o
}

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
	Deposit  uint64           `json:"deposit"` // what new storage bound, base units
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
	after uint64 // height at which it was sealed
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
	return c.push(ctx, ct.Cluster, to, input, o)
}

// push is Push where the cluster is known.
func (c *Client) push(ctx context.Context, cluster proto.ClusterID, to proto.ContractID, input []byte, o CallOptions) (*Pending, error) {
	cl, err := c.Cluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	o = o.filled()
	tier, ok := proto.TierFor(o.GasLimit)
	if !ok {
		return nil, fmt.Errorf("client: gas limit %d is above the largest tier, %d", o.GasLimit, proto.TierGas(proto.MaxTier))
	}
	var p *Pending
	err = c.inEpoch(ctx, cl, func(cl *proto.Cluster) error {
		env := (&proto.PushedCommand{Payer: c.Account(), Epoch: cl.Epoch, GasTier: tier, DepositLimit: o.DepositLimit}).Context(c.net.Chain, cl.ID)
		if p, err = c.seal(ctx, cl, env, to, input, o); err != nil {
			return err
		}
		p.GasTier = tier
		res, err := c.tx.Send(ctx, gasPush+gasByte*uint64(len(p.Envelope)), tx.PushCommand(c.Account(), uint32(cl.ID), cl.Epoch, tier, o.DepositLimit, p.Envelope))
		if err != nil {
			return err
		}
		return p.ordered(res)
	})
	return p, err
}

// inEpoch does what is sealed to a cluster's epoch, and does it again where the epoch
// ended meanwhile.
func (c *Client) inEpoch(ctx context.Context, cl *proto.Cluster, do func(*proto.Cluster) error) error {
	for {
		err := do(cl)
		var refused *tx.Refused
		if !errors.Is(err, errEpochEnded) && (!errors.As(err, &refused) || refused.Space != proto.StoreContracts || refused.Code != codeEpoch) {
			return err
		}
		old := cl.Epoch
		err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
			var err error
			cl, err = c.Cluster(ctx, cl.ID)
			return err == nil && cl.Epoch != old, err
		})
		if err != nil {
			return err
		}
	}
}

// codeEpoch is the chain's code for a message that is sealed to another epoch than the
// cluster's.
const codeEpoch = 5

// errEpochEnded: a contract waited for its code until the epoch was over to which its
// constructor was sealed.
var errEpochEnded = errors.New("client: the epoch ended before the contract's code was ready")

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
	o := CallOptions{}.filled()
	tier, _ := proto.TierFor(o.GasLimit)
	env := (&proto.PushedCommand{Payer: c.Account(), Epoch: cl.Epoch, GasTier: tier, DepositLimit: o.DepositLimit}).Context(c.net.Chain, cl.ID)
	var last string
	for i := range n {
		in, err := input(i)
		if err != nil {
			return 0, err
		}
		p, err := c.seal(ctx, cl, env, to, in, o)
		if err != nil {
			return 0, err
		}
		msg := tx.PushCommand(c.Account(), uint32(cl.ID), cl.Epoch, tier, o.DepositLimit, p.Envelope)
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
func (c *Client) seal(ctx context.Context, cl *proto.Cluster, env envelope.Context, to proto.ContractID, input []byte, o CallOptions) (*Pending, error) {
	if err := checkInput(input); err != nil {
		return nil, err
	}
	if cl.EpochKey == [32]byte{} {
		return nil, fmt.Errorf("%w: cluster %s has no key yet", ErrNotReady, cl.ID)
	}
	h, err := c.height(ctx)
	if err != nil {
		return nil, err
	}
	inv := &proto.Invocation{From: c.Account(), To: to, Input: input, Nonce: o.Nonce, GasLimit: o.GasLimit, DepositLimit: o.DepositLimit, Expiry: h + o.Expiry, After: o.After,
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
	return &Pending{Receipt: Receipt{Contract: to, Cluster: cl.ID, Nonce: inv.Nonce, Envelope: sealed}, fresh: fresh, epoch: cl, ctx: env, after: h}, nil
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
// the receipt. A command that the workers could not open has a receipt and no answer: it
// ends with the status not_opened.
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
		p.Receipt.Height, p.Status, p.GasUsed, p.Deposit, p.Return, p.Error, p.Seats = out.Height, out.Status.String(), out.GasUsed, out.Deposit, out.Return, out.Error, seats
		return true, nil
	}
	return c.unanswered(ctx, p)
}

// unanswered reports whether the final receipt says that there is no answer: the seats
// could not open the command, so none of them knows to whom it would be sealed. Where the
// command is, the node said; that it is one of this payer and of that time is proven.
func (c *Client) unanswered(ctx context.Context, p *Pending) (bool, error) {
	cmd, err := read(ctx, c, proto.StoreContracts, proto.KeyCommand(p.Cluster, p.Seq), proto.ParseCommandRecord)
	if err != nil || !cmd.Done {
		return false, err
	}
	if !bytes.Equal(cmd.Payer, c.Account()) || cmd.GasTier != p.GasTier || cmd.Height <= p.after {
		return false, fmt.Errorf("%w: message %d of cluster %s", ErrOtherMessage, p.Seq, p.Cluster)
	}
	rec, err := c.Receipt(ctx, p.Cluster, cmd.Receipt)
	if err != nil {
		return false, err
	}
	r, seats := agreed(rec)
	if r == nil || p.Seq < r.FromSeq || p.Seq > r.ToSeq {
		return false, fmt.Errorf("%w: message %d of cluster %s", ErrReceipt, p.Seq, p.Cluster)
	}
	item := r.Items[p.Seq-r.FromSeq]
	if item.Answered {
		return false, nil // it is still on its way to this node
	}
	p.Status, p.Seats, p.Receipt.Height = proto.StatusNotOpened.String(), seats, cmd.Height
	p.GasUsed = proto.GasOfBucket(item.GasBucket)
	p.Error = "the cluster's workers could not open it, and nothing ran: it was sealed to another cluster, epoch, payer or gas tier than it was sent with"
	return true, nil
}

// agreed returns the final receipt of a record and how many seats signed it, or nil.
func agreed(rec *proto.ReceiptRecord) (*proto.Receipt, int) {
	if !rec.Final {
		return nil, 0
	}
	r := &rec.Receipts[rec.Agreed]
	digest, seats := proto.Hash(sha256.Sum256(proto.MarshalEntry(*r))), 0
	for _, v := range rec.Votes {
		if v.Digest == digest {
			seats++
		}
	}
	return r, seats
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
	r, seats := agreed(rec)
	if r == nil {
		return 0, fmt.Errorf("%w: message %d of cluster %s is not final", ErrReceipt, o.Seq, cl)
	}
	if !inTree(r, o, out.Commitment()) {
		return 0, fmt.Errorf("%w: message %d of cluster %s", ErrReceipt, o.Seq, cl)
	}
	return seats, nil
}

// inTree reports whether a receipt holds what was posted, with this commitment to the
// output.
func inTree(r *proto.Receipt, o *proto.SealedOutput, commitment proto.Hash) bool {
	leaf := proto.ReceiptLeaf(commitment, o.Events)
	siblings := make([][32]byte, len(o.Proof))
	for i, h := range o.Proof {
		siblings[i] = h
	}
	return int(o.Count) == len(r.Items) && merkle.Verify(r.Outputs, leaf[:], int(o.Index), int(o.Count), siblings)
}
