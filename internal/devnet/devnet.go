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
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
)

// Options say what to start.
type Options struct {
	Dir     string // folder of the devnet
	Bin     string // folder of the binaries
	Workers int
	Fresh   bool
	Out     io.Writer
	Hello   string // Wasm module of the hello example; "" deploys nothing
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

	Measurement string    `json:"measurement"` // of the pruntime binary
	Genesis     string    `json:"genesis"`     // SHA-256 of the genesis file
	Workers     int       `json:"workers"`
	Ports       portTable `json:"ports"`
	Ready       bool      `json:"ready"` // deployed and serving once
}

type portTable struct {
	RPC     int   `json:"rpc"`
	P2P     int   `json:"p2p"`
	TEE     []int `json:"tee"`     // gatekeeper, then workers
	Private []int `json:"private"` // the same order
	Public  []int `json:"public"`
}

// StateFile is the file's name in the folder.
const StateFile = "devnet.json"

// DevAccount is the well-known development account that a devnet funds.
const DevAccount = "//Alice"

const operatorAccount = "//Operator"

// A Net is a running devnet.
type Net struct {
	opt     Options
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

func (n *Net) bin(name string) string { return filepath.Join(n.opt.Bin, name) }

func (n *Net) save() error {
	b, err := json.MarshalIndent(n.state, "", "  ")
	if err != nil {
		return err
	}
	tmp := n.path(StateFile + ".tmp")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, n.path(StateFile))
}

// Load reads a folder's state.
func Load(dir string) (*State, error) {
	b, err := os.ReadFile(filepath.Join(dir, StateFile))
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, StateFile), err)
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
	n.names = []string{"gatekeeper"}
	for i := range opt.Workers {
		n.names = append(n.names, fmt.Sprintf("worker-%d", i+1))
	}
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	if opt.Fresh {
		if err := os.RemoveAll(opt.Dir); err != nil {
			return nil, err
		}
	}
	measurement, err := fileHash(n.bin("pruntime"))
	if err != nil {
		return nil, fmt.Errorf("devnet: %w: run make build", err)
	}
	old, err := Load(opt.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := n.create(measurement); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		n.state = *old
		if err := n.check(measurement); err != nil {
			return nil, err
		}
		n.say("continuing the devnet in %s", opt.Dir)
	}
	return n, n.run(ctx)
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
		return fmt.Errorf("%w: %v; start afresh with: bin/phala devnet --fresh", ErrForeign, err)
	}
	switch {
	case genesis != n.state.Genesis:
		return fmt.Errorf("%w: the genesis file is another one; start afresh with: bin/phala devnet --fresh", ErrForeign)
	case measurement != n.state.Measurement:
		return fmt.Errorf("%w: sealed files open only for the pruntime that sealed them, and it has been rebuilt; start afresh with: bin/phala devnet --fresh", ErrForeign)
	case n.opt.Workers != n.state.Workers:
		return fmt.Errorf("%w: it has %d workers, not %d; start afresh with: bin/phala devnet --fresh --workers %d", ErrForeign, n.state.Workers, n.opt.Workers, n.opt.Workers)
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

// create makes the folder: TEE roots, genesis, ports.
func (n *Net) create(measurement string) error {
	n.say("making a new network in %s", n.opt.Dir)
	if err := os.MkdirAll(n.opt.Dir, 0o755); err != nil {
		return err
	}
	taken := map[int]bool{}
	var ports portTable
	var err error
	take := func(want int) int {
		p, ferr := free(want, taken)
		err = errors.Join(err, ferr)
		return p
	}
	ports.RPC, ports.P2P = take(26657), take(26656)
	for range n.names {
		ports.TEE, ports.Private, ports.Public = append(ports.TEE, take(8300)), append(ports.Private, take(8000)), append(ports.Public, take(8100))
	}
	if err != nil {
		return err
	}
	if _, err := n.output("tee-simulator", "init", "--dir", n.path("tee"), "--no-snp"); err != nil {
		return err
	}
	roots, err := os.ReadFile(n.path("tee", "roots.bin"))
	if err != nil {
		return err
	}
	digest, err := n.output("tee-simulator", "measure", "--class", "sgx", "--measurement", measurement)
	if err != nil {
		return err
	}
	var suffix [4]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return err
	}
	chain := "phala-devnet-" + hex.EncodeToString(suffix[:])
	alice, operator := account(DevAccount), account(operatorAccount)
	spec := map[string]any{
		"chain_id": chain, "genesis_time": time.Now().UTC().Add(-time.Second), "block_interval": "100ms", "min_gas_price": "0.001ppha",
		"validators": []any{map[string]any{"home": n.path("node"), "seed": hex.EncodeToString(randomSeed()),
			"rpc": fmt.Sprintf("tcp://127.0.0.1:%d", ports.RPC), "p2p": fmt.Sprintf("tcp://127.0.0.1:%d", ports.P2P)}},
		"accounts": []any{map[string]any{"address": alice, "pha": 1_000_000}, map[string]any{"address": operator, "pha": 1_000_000}},
		"roots":    hex.EncodeToString(roots),
		"registry": map[string]any{"measurements": []any{map[string]any{"digest": digest, "from": 0, "until": 0}}, "gatekeeper_operators": []string{operator},
			"recent_blocks": 600, "attestation_blocks": 5_000_000, "lease_blocks": 6000, "worst_level": 5, "registrations_per_block": 8},
		// Eras of a minute, so that they can be watched.
		"npos": map[string]any{"seats": 7, "session_blocks": 100, "sessions_per_era": 5, "unbonding_eras": 4, "slash_defer_eras": 1, "history_eras": 84,
			"min_nominator_bond": "1000000000000", "min_validator_bond": "1000000000000000", "min_commission": 0, "max_candidates": 100, "max_electing_voters": 22_500,
			"balancing_iterations": 10, "max_era_seconds": 172_800,
			"issuance": map[string]any{"min": uint64(25e15), "max": uint64(100e15), "ideal": uint64(750e15), "falloff": uint64(50e15)}},
	}
	b, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.path("network-spec.json"), b, 0o600); err != nil {
		return err
	}
	if _, err := n.output("phala-node", "init-network", n.path("network-spec.json")); err != nil {
		return err
	}
	if err := os.WriteFile(n.path("operator.key"), []byte(operatorAccount+"\n"), 0o600); err != nil {
		return err
	}
	genesis, err := fileHash(n.path("node", "config", "genesis.json"))
	if err != nil {
		return err
	}
	n.state = State{Network: client.Network{Chain: chain, Node: fmt.Sprintf("http://127.0.0.1:%d", ports.RPC), Simulated: true}, Account: DevAccount,
		Contracts: map[string]proto.ContractID{}, Measurement: measurement, Genesis: genesis, Workers: n.opt.Workers, Ports: ports}
	n.mark("genesis")
	return n.save()
}

func randomSeed() []byte {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		panic("devnet: no random source: " + err.Error())
	}
	return b
}

func account(uri string) string {
	k, err := identity.FromURI(uri)
	if err != nil {
		panic("devnet: broken invariant: " + err.Error())
	}
	pub := k.Public()
	s, err := address.Bech32(address.HRP, pub[:])
	if err != nil {
		panic("devnet: broken invariant: " + err.Error())
	}
	return s
}

// spawn starts a component and reports it.
func (n *Net) spawn(name, addr string, env []string, bin string, args ...string) error {
	p, err := start(name, addr, n.opt.Dir, env, n.bin(bin), args...)
	if err != nil {
		return err
	}
	n.procs = append(n.procs, p)
	n.say("%-14s pid %-7d %-26s %s", name, p.PID(), addr, p.Log)
	return nil
}

func (n *Net) startNode() error {
	return n.spawn("node", n.state.Node, []string{"GOGC=50", "NO_COLOR=1"}, "phala-node", "start", "--home", n.path("node"), "--log_no_color")
}

func (n *Net) startTEE(i int) error {
	return n.spawn("tee-"+n.names[i], fmt.Sprintf("127.0.0.1:%d", n.state.Ports.TEE[i]), nil, "tee-simulator", "serve", "--dir", n.path("tee"),
		"--listen", fmt.Sprintf("127.0.0.1:%d", n.state.Ports.TEE[i]), "--class", "sgx", "--measurement", n.state.Measurement, "--machine", n.names[i])
}

func (n *Net) startRuntime(i int) error {
	role := "worker"
	if i == 0 {
		role = "gatekeeper"
	}
	public := fmt.Sprintf("127.0.0.1:%d", n.state.Ports.Public[i])
	var prepare []string
	if i > 0 && n.opt.Hello != "" && !n.state.Ready {
		prepare = []string{"--prepare", n.opt.Hello}
	}
	return n.spawn(n.names[i], "http://"+public, nil, "pruntime", append(prepare, "--data", n.path(n.names[i]), "--chain", n.state.Chain,
		"--trust-root", fmt.Sprintf("%d:%s", n.state.RootHeight, n.state.Root), "--role", role, "--operator", account(operatorAccount),
		"--endpoints", "http://"+public, "--public", public, "--private", fmt.Sprintf("127.0.0.1:%d", n.state.Ports.Private[i]),
		"--tee", fmt.Sprintf("simulator:127.0.0.1:%d", n.state.Ports.TEE[i]), "--simulated-roots", n.path("tee", "roots.bin"))...)
}

func (n *Net) startPherry() error {
	var urls []string
	for _, p := range n.state.Ports.Private {
		urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", p))
	}
	return n.spawn("pherry", "", nil, "pherry", "--node", n.state.Node, "--pruntime", strings.Join(urls, ","), "--operator-key-file", n.path("operator.key"))
}

// wait polls f until it is true; it fails when a component ends meanwhile.
func (n *Net) wait(ctx context.Context, what string, limit time.Duration, f func() (bool, error)) error {
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
	began := time.Now()
	fmt.Fprintln(n.opt.Out, "The TEE is simulated: it protects nothing from the person who runs this machine.")
	if err := n.startNode(); err != nil {
		return err
	}
	for i := range n.names {
		if err := n.startTEE(i); err != nil {
			return err
		}
	}
	key, err := identity.FromURI(DevAccount)
	if err != nil {
		return err
	}
	if n.state.RootHeight == 0 {
		node := client.Open(n.state.Network, nil).Node()
		err := n.wait(ctx, "the first block", time.Minute, func() (bool, error) {
			h, err := node.Header(ctx, 1)
			if err == nil {
				n.state.RootHeight, n.state.Root = 1, proto.Hash(h.Hash())
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
		err := n.wait(ctx, "the simulated TEE", 10*time.Second, func() (bool, error) {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.state.Ports.TEE[i]))
			if err == nil {
				conn.Close()
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
		if err := n.startRuntime(i); err != nil {
			return err
		}
	}
	if err := n.startPherry(); err != nil {
		return err
	}
	n.mark("started")
	if n.state.Cluster == 0 {
		if err := n.createCluster(ctx); err != nil {
			return err
		}
	}
	if n.opt.Hello != "" && !n.state.Ready {
		if err := n.deployHello(ctx); err != nil {
			return err
		}
	}
	if err := n.waitServing(ctx); err != nil {
		return err
	}
	n.state.Ready = true
	n.mark("ready")
	n.Timings["ready_s"] = time.Since(began).Seconds()
	return n.save()
}

func (n *Net) createCluster(ctx context.Context) error {
	err := n.wait(ctx, "the node's RPC", time.Minute, func() (bool, error) {
		_, err := n.Client.Sender().Send(ctx, 400_000, tx.CreateCluster(n.Client.Account(), uint32(n.opt.Workers), true))
		return err == nil, err
	})
	if err != nil {
		return err
	}
	n.state.Cluster = 1
	n.say("cluster %s created with %d seats", n.state.Cluster, n.opt.Workers)
	if err := n.save(); err != nil {
		return err
	}
	if n.opt.Hello != "" {
		// The code goes up while the gatekeeper releases the cluster's keys.
		module, err := os.ReadFile(n.opt.Hello)
		if err != nil {
			return fmt.Errorf("devnet: %w: run make build", err)
		}
		if _, err := n.Client.Upload(ctx, module, nil); err != nil {
			return fmt.Errorf("devnet: upload hello: %w", err)
		}
		n.say("hello's code uploaded")
	}
	err = n.wait(ctx, "the cluster's keys", 2*time.Minute, func() (bool, error) {
		c, err := n.Client.Cluster(ctx, n.state.Cluster)
		return err == nil && c.EpochKey != [32]byte{} && len(c.Seats) == n.opt.Workers, err
	})
	if err == nil {
		n.say("workers registered and seated, keys released by the gatekeeper")
		n.mark("keys")
	}
	return err
}

func (n *Net) deployHello(ctx context.Context) error {
	module, err := os.ReadFile(n.opt.Hello)
	if err != nil {
		return fmt.Errorf("devnet: %w: run make build", err)
	}
	d, err := n.Client.Deploy(ctx, n.state.Cluster, module, []byte("hello"), "Hello, confidential world!", nil)
	if err != nil {
		return fmt.Errorf("devnet: deploy hello: %w", err)
	}
	n.state.Contracts["hello"] = d.Contract
	n.say("hello deployed as contract %s", d.Contract)
	n.mark("deployed")
	return n.save()
}

// waitServing waits until every worker answers.
func (n *Net) waitServing(ctx context.Context) error {
	for i := range n.names {
		rt := pherry.NewRuntime(fmt.Sprintf("http://127.0.0.1:%d", n.state.Ports.Private[i]))
		err := n.wait(ctx, n.names[i]+" to serve", 2*time.Minute, func() (bool, error) {
			st, err := rt.Status(ctx)
			if err != nil {
				return false, err
			}
			return st.Serving, errors.New(st.Why)
		})
		if err != nil {
			return err
		}
	}
	if id, ok := n.state.Contracts["hello"]; ok {
		return n.wait(ctx, "hello to answer", time.Minute, func() (bool, error) {
			_, err := n.Client.Query(ctx, id, "GetGreeting", nil, client.QueryOptions{})
			return err == nil, err
		})
	}
	return nil
}

// Restart ends a component without notice, as a crash does, and starts it again after a
// while.
func (n *Net) Restart(name string, down time.Duration) error {
	if err := n.Kill(name); err != nil {
		return err
	}
	time.Sleep(down)
	return n.Run(name)
}

// Kill ends a component without notice.
func (n *Net) Kill(name string) error {
	for i, p := range n.procs {
		if p.Name == name {
			p.kill()
			n.procs = append(n.procs[:i], n.procs[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("devnet: no component %q", name)
}

// Run starts a component that was killed.
func (n *Net) Run(name string) error {
	switch name {
	case "node":
		return n.startNode()
	case "pherry":
		return n.startPherry()
	}
	for j, who := range n.names {
		switch name {
		case who:
			return n.startRuntime(j)
		case "tee-" + who:
			return n.startTEE(j)
		}
	}
	return fmt.Errorf("devnet: no component %q", name)
}

// Private returns the private API of a component that is a pruntime.
func (n *Net) Private(name string) *pherry.Runtime {
	for i, who := range n.names {
		if who == name {
			return pherry.NewRuntime(fmt.Sprintf("http://127.0.0.1:%d", n.state.Ports.Private[i]))
		}
	}
	return nil
}

// Operator returns a sender of the operator's account, which registers the enclaves.
func (n *Net) Operator() (*tx.Sender, error) {
	key, err := identity.FromURI(operatorAccount)
	if err != nil {
		return nil, err
	}
	return &tx.Sender{Node: n.Client.Node(), Chain: n.state.Chain, Key: key}, nil
}

// Names returns the components' names.
func (n *Net) Names() (out []string) {
	for _, p := range n.procs {
		out = append(out, p.Name)
	}
	return out
}

// Watch waits until the context ends, or a component does by itself.
func (n *Net) Watch(ctx context.Context) error {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		for _, p := range n.procs {
			if p.exited() {
				return p.failure()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Stop stops everything: relayer first, node last.
func (n *Net) Stop() {
	for i := len(n.procs) - 1; i >= 0; i-- {
		n.procs[i].stop()
	}
	n.procs = nil
}

// Memory returns the resident memory of each component, bytes.
func (n *Net) Memory() map[string]int64 {
	out := map[string]int64{}
	for _, p := range n.procs {
		out[p.Name] = p.resident()
	}
	return out
}

// Remember gives a contract a name in a devnet's folder.
func Remember(dir, name string, id proto.ContractID) error {
	s, err := Load(dir)
	if err != nil {
		return err
	}
	s.Contracts[name] = id
	n := &Net{opt: Options{Dir: dir}, state: *s}
	return n.save()
}
