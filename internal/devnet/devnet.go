package devnet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// Options say what to start.
type Options struct {
	Dir     string   // folder of the devnet
	Bin     string   // folder of the binaries
	Workers int      // 0: as many as the folder's network has, or one
	Seats   int      // of the first cluster; 0: as many as there are workers
	Bonds   []int64  // PHA that each validator bonds in a new network's genesis; nil: as many as the folder's has, or one. One that bonds 0 may join later
	Port    int      // of a new network: from where on free ports are looked for; 0: from the components' usual ones
	Flags   []string // of every pruntime, beside its own
	// Parameters of a new network's modules that differ from a devnet's.
	Registry, Contracts, NPoS, Slashing map[string]any
	TLS                                 bool // workers serve by RA-TLS, for as long as the network lives
	Fresh                               bool
	Out                                 io.Writer
	Hello                               string // Wasm module of the hello example; "" deploys nothing
}

func (o *Options) seats() int {
	if o.Seats == 0 {
		return o.Workers
	}
	return o.Seats
}

// ErrForeign: the folder's state does not fit what is here.
var ErrForeign = errors.New("devnet: this folder's state was made by another build or with other settings")

// A State is what the folder remembers, in devnet.json. Other tools read it to find
// the network, so that no command needs a flag.
type State struct {
	client.Network
	Account   string                      `json:"account"` // secret URI of the funded account: public, for development only
	Contracts map[string]proto.ContractID `json:"contracts"`
	Cluster   proto.ClusterID             `json:"cluster"`

	// EnclavesRoot is where the enclaves' light clients started, for ever. The network's
	// root, which clients use, moves on with the chain.
	EnclavesRoot client.TrustRoot `json:"enclaves_root"`
	Measurement  string           `json:"measurement"` // of the pruntime binary
	Genesis      string           `json:"genesis"`     // SHA-256 of the genesis file
	Workers      int              `json:"workers"`
	TLS          bool             `json:"tls,omitempty"`
	Ports        portTable        `json:"ports"`
	Ready        bool             `json:"ready"` // deployed and serving once
}

// StateFile is the file's name in the folder.
const StateFile = "devnet.json"

// DevAccount is the well-known development account that a devnet funds.
const DevAccount = "//Alice"

const operatorAccount = "//Operator"

// A Net is a running devnet.
type Net struct {
	opt     Options
	lock    *os.File
	held    map[int]net.Listener // ports of components that are not started yet
	state   State
	began   time.Time
	procs   []*Process
	Client  *client.Client
	names   []string // gatekeeper, worker-1, …
	Timings map[string]float64
}

func (n *Net) say(format string, args ...any) {
	fmt.Fprintf(n.opt.Out, "%6.2fs  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

func (n *Net) mark(step string) { n.Timings[step] = time.Since(n.began).Seconds() }

func (n *Net) path(elem ...string) string {
	return filepath.Join(append([]string{n.opt.Dir}, elem...)...)
}

// short is a path as whoever reads it would type it: from where he is, if it is below.
func short(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}

func (n *Net) bin(name string) string { return filepath.Join(n.opt.Bin, name) }

// Load reads a folder's state.
func Load(dir string) (*State, error) {
	b, err := os.ReadFile(filepath.Join(dir, StateFile))
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, (&Options{Dir: dir}).foreign("%s: %v", StateFile, err)
	}
	return s, nil
}

// State returns what the folder remembers.
func (n *Net) State() *State { return &n.state }

// Processes returns the running components.
func (n *Net) Processes() []*Process { return n.procs }

// Start starts or continues a devnet and returns when it serves. On an error
// everything is stopped again.
func Start(ctx context.Context, opt Options) (_ *Net, err error) {
	abs, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, err
	}
	opt.Dir = abs
	n := &Net{opt: opt, began: time.Now(), Timings: map[string]float64{}}
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	measurement, err := fileHash(n.bin("pruntime"))
	if err != nil {
		return nil, fmt.Errorf("devnet: %w: run make build", err)
	}
	if n.lock, err = take(opt.Dir); err != nil {
		return nil, err
	}
	if opt.Fresh {
		if err := empty(opt.Dir); err != nil {
			return nil, err
		}
	}
	old, err := Load(opt.Dir)
	if err == nil {
		err = n.resume(old, measurement)
	}
	// Nobody has seen a block of a network without a trust root: if it cannot go on, nothing
	// is lost with it.
	if errors.Is(err, os.ErrNotExist) || err != nil && old != nil && old.RootHeight == 0 {
		n.opt.Workers = max(1, opt.Workers)
		n.name()
		err = errors.Join(empty(opt.Dir), n.create(measurement))
	}
	if err != nil {
		return nil, err
	}
	return n, n.run(ctx)
}

// resume takes up the folder's network.
func (n *Net) resume(old *State, measurement string) error {
	n.state = *old
	if err := n.check(measurement); err != nil {
		return err
	}
	n.opt.Workers = old.Workers
	n.name()
	n.say("continuing the devnet in %s", short(n.opt.Dir))
	return n.avoid()
}

// name names the enclaves.
func (n *Net) name() {
	n.names = []string{"gatekeeper"}
	for i := range n.opt.Workers {
		n.names = append(n.names, fmt.Sprintf("worker-%d", i+1))
	}
}

func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// check refuses a folder that cannot continue.
func (n *Net) check(measurement string) error {
	genesis, err := fileHash(n.path("node", "config", "genesis.json"))
	if err != nil {
		return n.opt.foreign("%v", err)
	}
	validators := len(n.state.Ports.RPC)
	switch {
	case genesis != n.state.Genesis:
		return n.opt.foreign("the genesis file is another one")
	case measurement != n.state.Measurement:
		return n.opt.foreign("sealed files open only for the pruntime that sealed them, and it has been rebuilt")
	case n.opt.Workers != 0 && n.opt.Workers != n.state.Workers:
		return n.opt.foreign("it has %d workers, not %d", n.state.Workers, n.opt.Workers)
	case n.opt.Bonds != nil && len(n.opt.Bonds) != validators:
		return n.opt.foreign("it has %d validators, not %d", validators, len(n.opt.Bonds))
	case n.opt.TLS && !n.state.TLS:
		return n.opt.foreign("its workers serve without TLS")
	}
	return nil
}

func (n *Net) output(bin string, args ...string) (string, error) {
	var stderr strings.Builder
	cmd := exec.Command(n.bin(bin), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", bin, args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// limit ends a start that hangs. One that is only slow, on a busy machine, goes on.
const limit = 5 * time.Minute

// wait polls f until it is true; it fails when a component ends meanwhile.
func (n *Net) wait(ctx context.Context, what string, f func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	var last error
	for {
		ok, err := f()
		if ok {
			return nil
		}
		if err != nil {
			last = err
		}
		for _, p := range n.procs {
			if p.exited() {
				return p.failure()
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("devnet: %s took longer than %s; last: %v", what, limit, last)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// run starts the components and brings the network to where it serves.
func (n *Net) run(ctx context.Context) error {
	fmt.Fprintln(n.opt.Out, "The TEE is simulated: it protects nothing from the person who runs this machine.")
	for i := range n.state.Ports.RPC {
		if err := n.Run(nodeName(i)); err != nil {
			return err
		}
	}
	for i := range n.names {
		if err := n.Run("tee-" + n.names[i]); err != nil {
			return err
		}
	}
	key, err := identity.FromURI(DevAccount)
	if err != nil {
		return err
	}
	if n.state.RootHeight == 0 {
		node := client.Open(n.state.Network, nil).Node()
		err := n.wait(ctx, "the first block", func() (bool, error) {
			h, err := node.Header(ctx, 1)
			if err == nil {
				n.state.RootHeight, n.state.Root = 1, proto.Hash(h.Hash())
				n.state.EnclavesRoot = client.TrustRoot{Height: 1, Hash: n.state.Root}
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
		n.say("first block %s: the trust root of enclaves and clients", n.state.Root)
		if err := n.save(); err != nil {
			return err
		}
	}
	n.Client = client.Open(n.state.Network, key)
	for i := range n.names {
		// An enclave asks its TEE for the sealing key when it starts.
		err := n.wait(ctx, "the simulated TEE", func() (bool, error) {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.state.Ports.TEE[i]))
			if err == nil {
				conn.Close()
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
		if err := n.Run(n.names[i]); err != nil {
			return err
		}
	}
	if err := n.Run("pherry"); err != nil {
		return err
	}
	n.mark("started")
	if err := n.wait(ctx, "the node", func() (bool, error) {
		_, err := n.Client.Sync(ctx)
		return err == nil, err
	}); err != nil {
		return err
	}
	// Whoever stopped it on the way to here goes on from the last of these.
	if n.state.Cluster == 0 {
		if err := n.createCluster(ctx); err != nil {
			return err
		}
	}
	if _, deployed := n.state.Contracts["hello"]; n.opt.Hello != "" && !n.state.Ready && !deployed {
		if err := n.deployHello(ctx); err != nil {
			return err
		}
	}
	if !n.state.Ready {
		if err := n.waitKeys(ctx); err != nil {
			return err
		}
	}
	if err := n.waitServing(ctx); err != nil {
		return err
	}
	root, err := n.Client.NewestTrustRoot(ctx)
	if err != nil {
		return err
	}
	n.state.RootHeight, n.state.Root = root.Height, root.Hash
	n.state.Ready = true
	n.mark("ready_s")
	return n.save()
}

func (n *Net) createCluster(ctx context.Context) error {
	var refused error
	err := n.wait(ctx, "the accounts of genesis", func() (bool, error) {
		_, refused = n.Client.Sender().Send(ctx, 400_000, tx.CreateCluster(n.Client.Account(), uint32(n.opt.seats()), true))
		return !errors.Is(refused, tx.ErrNoAccount), refused // they are there from the second block on
	})
	if err := errors.Join(err, refused); err != nil {
		return fmt.Errorf("devnet: create a cluster: %w", err)
	}
	n.state.Cluster = 1
	n.say("cluster %s created with %d seats", n.state.Cluster, n.opt.seats())
	return n.save()
}

func (n *Net) deployHello(ctx context.Context) error {
	module, err := os.ReadFile(n.opt.Hello)
	if err != nil {
		return fmt.Errorf("devnet: %w: run make build", err)
	}
	// The code goes up while the gatekeeper releases the cluster's keys.
	if _, err := n.Client.Upload(ctx, module, nil); err != nil {
		return fmt.Errorf("devnet: upload hello: %w", err)
	}
	n.say("hello's code uploaded")
	if err := n.waitKeys(ctx); err != nil {
		return err
	}
	n.say("workers registered and seated, keys released by the gatekeeper")
	n.mark("keys")
	// With a salt of its own: a deployment that was cut off may have reached the chain.
	d, err := n.Client.Deploy(ctx, n.state.Cluster, module, []byte(rand.Text()), "Hello, confidential world!", nil)
	if err != nil {
		return fmt.Errorf("devnet: deploy hello: %w", err)
	}
	n.state.Contracts["hello"] = d.Contract
	n.say("hello deployed as contract %s", d.Contract)
	n.mark("deployed")
	return n.save()
}

// waitKeys waits until every seat is taken and the cluster has its key.
func (n *Net) waitKeys(ctx context.Context) error {
	return n.wait(ctx, "the cluster's keys", func() (bool, error) {
		c, err := n.Client.Cluster(ctx, n.state.Cluster)
		return err == nil && c.EpochKey != [32]byte{} && len(c.Seats) == n.opt.seats(), err
	})
}

// waitServing waits until the gatekeeper and every worker with a seat answer.
func (n *Net) waitServing(ctx context.Context) error {
	want := 1 + min(n.opt.seats(), n.opt.Workers)
	err := n.wait(ctx, "gatekeeper and workers to serve", func() (bool, error) {
		serving, why := 0, error(nil)
		for _, name := range n.names {
			st, err := n.Private(name).Status(ctx)
			if err != nil {
				return false, err
			}
			if st.Serving {
				serving++
			} else {
				why = fmt.Errorf("%s: %s", name, st.Why)
			}
		}
		return serving >= want, why
	})
	if err != nil {
		return err
	}
	if id, ok := n.state.Contracts["hello"]; ok {
		return n.wait(ctx, "hello to answer", func() (bool, error) {
			_, err := n.Client.Query(ctx, id, "GetGreeting", nil, client.QueryOptions{})
			return err == nil, err
		})
	}
	return nil
}
