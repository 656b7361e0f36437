package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
)

// A Network says which network to use and how to reach it.
type Network struct {
	Chain      string     `json:"chain"`
	Node       string     `json:"node"` // RPC of a node
	RootHeight int64      `json:"root_height"`
	Root       proto.Hash `json:"root"` // hash of the header at RootHeight
	Simulated  bool       `json:"simulated,omitempty"`
}

// Failure classes. Test with errors.Is.
var (
	ErrTrustRoot  = errors.New("client: the node's chain does not start at the trust root")
	ErrNoContract = errors.New("client: no such contract")
	ErrNotReady   = errors.New("client: the cluster is not ready")
	ErrNoWorker   = errors.New("client: no worker of the cluster answers")
	ErrReceipt    = errors.New("client: the answer is not in the final receipt")
	ErrNoCluster  = errors.New("client: no such cluster")
	ErrNoReceipt  = errors.New("client: there is no receipt for this message")
	ErrAnswer     = errors.New("client: the worker's answer is not for this query")
	ErrNoKey      = errors.New("client: this needs a key")
	ErrInput      = errors.New("client: the input is larger than any enclave takes: send it in parts")
	// ErrOtherMessage: the node says where the command is in the cluster's order, and
	// another one is there.
	ErrOtherMessage = errors.New("client: the node names another message as this command: ask another node before you send it again")
)

// A Client uses one network as one account. It is safe for concurrent use.
type Client struct {
	net  Network
	node *rpc.Client
	key  *identity.KeyPair // nil: reads and anonymous queries only
	tx   *tx.Sender

	mu    sync.Mutex
	light *comet.Client

	connections connections
}

// trustingPeriod is shorter than the chain's unbonding period of 21 days.
const (
	trustingPeriod = 14 * 24 * time.Hour
	maxClockDrift  = 10 * time.Second
)

// Open returns a client of the network that acts as key, which may be nil.
func Open(net Network, key *identity.KeyPair) *Client {
	node := rpc.New(net.Node)
	return &Client{net: net, node: node, key: key, tx: &tx.Sender{Node: node, Chain: net.Chain, Key: key}}
}

// Node returns the RPC client.
func (c *Client) Node() *rpc.Client { return c.node }

// Sender returns the sender of this client's account.
func (c *Client) Sender() *tx.Sender { return c.tx }

// Network returns the network.
func (c *Client) Network() Network { return c.net }

// Sync verifies the node's newest header and returns it.
func (c *Client) Sync(ctx context.Context) (*comet.Header, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := c.node.Status(ctx)
	if err != nil {
		return nil, err
	}
	if st.Chain != c.net.Chain {
		return nil, fmt.Errorf("%w: the node serves %q, wanted %q", ErrTrustRoot, st.Chain, c.net.Chain)
	}
	if c.light == nil {
		h, err := c.node.Header(ctx, c.net.RootHeight)
		if err != nil {
			return nil, err
		}
		if proto.Hash(h.Hash()) != c.net.Root {
			return nil, fmt.Errorf("%w: header %d is %x, wanted %s", ErrTrustRoot, c.net.RootHeight, h.Hash(), c.net.Root)
		}
		c.light = comet.NewClient(comet.Params{ChainID: c.net.Chain, TrustingPeriod: trustingPeriod, MaxClockDrift: maxClockDrift}, *h, rand.Reader)
	}
	if st.Height > c.light.Trusted().Height {
		if err := c.walk(ctx, st.Height, 0); err != nil {
			return nil, err
		}
	}
	h := *c.light.Trusted()
	return &h, nil
}

// A TrustRoot names a header from which light clients start.
type TrustRoot struct {
	Height int64      `json:"height"`
	Hash   proto.Hash `json:"hash"`
}

// String returns HEIGHT:HASH, as flags take it.
func (r TrustRoot) String() string { return fmt.Sprintf("%d:%s", r.Height, r.Hash) }

// ParseTrustRoot reads HEIGHT:HASH.
func ParseTrustRoot(s string) (r TrustRoot, err error) {
	height, hash, ok := strings.Cut(s, ":")
	if r.Height, err = strconv.ParseInt(height, 10, 64); err != nil || !ok || r.Height < 1 || r.Hash.UnmarshalText([]byte(strings.ToLower(hash))) != nil {
		return TrustRoot{}, fmt.Errorf("%q is not HEIGHT:HASH with 64 hexadecimal digits", s)
	}
	return r, nil
}

// NewestTrustRoot returns the newest trust root that the chain keeps, for new enclaves and
// clients: the one that this client started from, on a chain that is too young for another.
// The chain's record of it is proven under the newest header.
func (c *Client) NewestTrustRoot(ctx context.Context) (TrustRoot, error) {
	h, err := c.Sync(ctx)
	if err != nil {
		return TrustRoot{}, err
	}
	height := (h.Height - 1) / proto.TrustRootInterval * proto.TrustRootInterval
	if height <= c.net.RootHeight {
		return TrustRoot{c.net.RootHeight, c.net.Root}, nil
	}
	hash, err := read(ctx, c, proto.StoreRegistry, proto.KeyBlock(uint64(height)), func(b []byte) (*proto.Hash, error) {
		if len(b) != 32 {
			return nil, fmt.Errorf("client: hash of block %d of %d bytes", height, len(b))
		}
		h := proto.Hash(b)
		return &h, nil
	})
	if err != nil {
		return TrustRoot{}, fmt.Errorf("client: trust root %d: %w", height, err)
	}
	return TrustRoot{height, *hash}, nil
}

// walk verifies the block at height, with blocks in between where it cannot skip.
func (c *Client) walk(ctx context.Context, height int64, depth int) error {
	b, err := c.node.LightBlock(ctx, height)
	if err != nil {
		return err
	}
	for {
		err = c.light.Advance(b, time.Now())
		trusted := c.light.Trusted().Height
		var mid int64
		switch {
		case errors.Is(err, comet.ErrNotTrusted):
			mid = (trusted + height) / 2
		case errors.Is(err, comet.ErrNeedNextSet):
			mid = trusted + 1
		default:
			return err
		}
		if mid <= trusted || mid >= height || depth > 60 {
			return err
		}
		if err := c.walk(ctx, mid, depth+1); err != nil {
			return err
		}
	}
}

// read reads a value that the newest verified state proves.
func read[T any](ctx context.Context, c *Client, store string, key []byte, parse func([]byte) (*T, error)) (*T, error) {
	var h *comet.Header
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		var err error
		h, err = c.Sync(ctx)
		// A node proves states from height 2 on, so a young chain is waited for.
		return err == nil && h.Height >= 3, err
	})
	if err != nil {
		return nil, err
	}
	value, proof, err := c.node.Prove(ctx, store, key, h.Height-1)
	if err != nil {
		return nil, err
	}
	if err := comet.VerifyExistence(h.AppHash, store, key, value, proof); err != nil {
		return nil, err
	}
	return parse(value)
}

// Prove reads a value of a store that the newest verified state proves.
func (c *Client) Prove(ctx context.Context, store string, key []byte) ([]byte, error) {
	b, err := read(ctx, c, store, key, func(b []byte) (*[]byte, error) { return &b, nil })
	if err != nil {
		return nil, err
	}
	return *b, nil
}

// Contract reads a contract's record.
func (c *Client) Contract(ctx context.Context, id proto.ContractID) (*proto.Contract, error) {
	ct, err := read(ctx, c, proto.StoreContracts, proto.KeyContract(id), proto.ParseContract)
	if errors.Is(err, rpc.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoContract, id)
	}
	return ct, err
}

// Cluster reads a cluster's record.
func (c *Client) Cluster(ctx context.Context, id proto.ClusterID) (*proto.Cluster, error) {
	cl, err := read(ctx, c, proto.StoreContracts, proto.KeyCluster(id), proto.ParseCluster)
	if errors.Is(err, rpc.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoCluster, id)
	}
	return cl, err
}

// Worker reads a worker's record.
func (c *Client) Worker(ctx context.Context, id proto.WorkerID) (*proto.WorkerInfo, error) {
	return read(ctx, c, proto.StoreRegistry, proto.KeyWorker(id), proto.ParseWorkerInfo)
}

// Attestation reads the chain's verdict on a worker's newest evidence.
func (c *Client) Attestation(ctx context.Context, id proto.WorkerID) (*proto.Attestation, error) {
	return read(ctx, c, proto.StoreRegistry, proto.KeyAttestation(id), proto.ParseAttestation)
}

// Code reads a code's record.
func (c *Client) Code(ctx context.Context, h proto.Hash) (*proto.Code, error) {
	return read(ctx, c, proto.StoreContracts, proto.KeyCode(h), proto.ParseCode)
}

// Account returns this client's account.
func (c *Client) Account() []byte {
	if c.key == nil {
		return nil
	}
	pub := c.key.Public()
	return pub[:]
}

// Input is what a contract written with package contract takes: a method's name and
// its argument as JSON.
func Input(method string, arg any) ([]byte, error) {
	in := struct {
		Method string `json:"method"`
		Args   any    `json:"args,omitempty"`
	}{method, arg}
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("client: argument of %s: %w", method, err)
	}
	return b, nil
}

// checkInput refuses before it is paid for what no enclave would open.
func checkInput(input []byte) error {
	if len(input) > proto.MaxInput {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrInput, len(input), proto.MaxInput)
	}
	return nil
}

// poll calls f until it returns true or an error, with a pause in between.
func poll(ctx context.Context, every time.Duration, f func() (bool, error)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		done, err := f()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// Receipt reads what the seats said about the messages of one height, of which from is
// the first.
func (c *Client) Receipt(ctx context.Context, cluster proto.ClusterID, from uint64) (*proto.ReceiptRecord, error) {
	return read(ctx, c, proto.StoreContracts, proto.KeyReceipt(cluster, from), proto.ParseReceiptRecord)
}

// ReceiptOf reads what the seats said about the height of a message, whichever of that
// height's messages it is: what is final or, before, what there is.
func (c *Client) ReceiptOf(ctx context.Context, cluster proto.ClusterID, seq uint64) (*proto.ReceiptRecord, error) {
	cl, err := c.Cluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	from := seq
	cmd, err := read(ctx, c, proto.StoreContracts, proto.KeyCommand(cluster, seq), proto.ParseCommandRecord)
	switch {
	case err == nil && cmd.Done:
		from = cmd.Receipt
	case err != nil && !errors.Is(err, rpc.ErrNotFound):
		return nil, err
	}
	rec, err := c.Receipt(ctx, cluster, from)
	if errors.Is(err, rpc.ErrNotFound) {
		return nil, fmt.Errorf("%w: message %d of cluster %s, whose receipts are final up to %d", ErrNoReceipt, seq, cluster, cl.FinalSeq)
	}
	return rec, err
}
