package devnet

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/pherry"
)

// nodeName is the name, and the folder, of a validator's node: node, node-2, …
func nodeName(i int) string {
	if i == 0 {
		return "node"
	}
	return fmt.Sprintf("node-%d", i+1)
}

// specFile is what the network was made from, with the validators' seeds.
const specFile = "network-spec.json"

// A validatorSpec is a validator in what "phala-node init-network" reads.
type validatorSpec struct {
	Home string `json:"home"`
	Seed string `json:"seed"`
	RPC  string `json:"rpc"`
	P2P  string `json:"p2p"`
	Bond int64  `json:"bond"`
}

// A Validator is one of a devnet's validators, with its keys: tests move its stake, and
// sign as it what it would not.
type Validator struct {
	Name      string // of its node
	Node      *rpc.Client
	Operator  *tx.Sender         // of the account that bonds
	Consensus ed25519.PrivateKey // signs blocks
}

// Validators returns the validators, in the order of Options.Bonds.
func (n *Net) Validators() ([]*Validator, error) {
	b, err := os.ReadFile(n.path(specFile))
	if err != nil {
		return nil, err
	}
	var spec struct{ Validators []validatorSpec }
	if err := json.Unmarshal(b, &spec); err != nil {
		return nil, fmt.Errorf("%s: %w", n.path(specFile), err)
	}
	var out []*Validator
	for i, s := range spec.Validators {
		seed, err := hex.DecodeString(s.Seed)
		if err != nil {
			return nil, fmt.Errorf("%s: seed of validator %d is not hexadecimal", n.path(specFile), i+1)
		}
		account, err := identity.FromSeed(seed)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(s.Home, "config", "priv_validator_key.json")
		if b, err = os.ReadFile(file); err != nil {
			return nil, err
		}
		var key struct {
			PrivKey struct{ Value []byte } `json:"priv_key"`
		}
		if err := json.Unmarshal(b, &key); err != nil || len(key.PrivKey.Value) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("%s: no ed25519 key: %v", file, err)
		}
		node := rpc.New(fmt.Sprintf("http://127.0.0.1:%d", n.state.Ports.RPC[i]))
		out = append(out, &Validator{Name: nodeName(i), Node: node, Consensus: key.PrivKey.Value,
			Operator: &tx.Sender{Node: node, Chain: n.state.Chain, Key: account}})
	}
	return out, nil
}

// Run starts a component that is not running, by its name. Flags are added to its own,
// and win.
func (n *Net) Run(name string, flags ...string) error { return n.Also(name, name, flags...) }

// Also starts a process like a component under another name: a second relayer, or a
// copy of a worker, whose flags then give it other ports.
func (n *Net) Also(name, like string, flags ...string) error {
	if like == "pherry" {
		var urls []string
		for _, p := range n.state.Ports.Private {
			urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", p))
		}
		return n.spawn(name, "", nil, "pherry", append([]string{"--node", n.state.Node, "--pruntime", strings.Join(urls, ","),
			"--operator-key-file", n.path("operator.key"), "--pccs", fmt.Sprintf("http://127.0.0.1:%d/vendor", n.state.Ports.TEE[0])}, flags...)...)
	}
	for i, port := range n.state.Ports.RPC {
		if like == nodeName(i) {
			n.letGo(port, n.state.Ports.P2P[i])
			return n.spawn(name, fmt.Sprintf("http://127.0.0.1:%d", port), []string{"GOGC=50", "NO_COLOR=1"}, "phala-node",
				append([]string{"start", "--home", n.path(like), "--log_no_color",
					"--rpc.laddr", fmt.Sprintf("tcp://127.0.0.1:%d", port), "--p2p.laddr", fmt.Sprintf("tcp://127.0.0.1:%d", n.state.Ports.P2P[i])}, flags...)...)
		}
	}
	for i, who := range n.names {
		switch like {
		case who:
			n.letGo(n.state.Ports.Private[i], n.state.Ports.Public[i])
			return n.startRuntime(name, i, flags)
		case "tee-" + who:
			n.letGo(n.state.Ports.TEE[i])
			addr := fmt.Sprintf("127.0.0.1:%d", n.state.Ports.TEE[i])
			return n.spawn(name, addr, nil, "tee-simulator", append([]string{"serve", "--dir", n.path("tee"),
				"--listen", addr, "--class", "sgx", "--measurement", n.state.Measurement, "--machine", who}, flags...)...)
		}
	}
	return fmt.Errorf("devnet: no component %q", like)
}

func (n *Net) startRuntime(name string, i int, flags []string) error {
	role := "worker"
	if i == 0 {
		role = "gatekeeper"
	}
	public := fmt.Sprintf("127.0.0.1:%d", n.state.Ports.Public[i])
	endpoint := "http://" + public
	if n.state.TLS {
		endpoint, flags = "ratls://"+public, append([]string{"--tls"}, flags...)
	}
	args := []string{"--data", n.path(n.names[i]), "--chain", n.state.Chain,
		"--trust-root", n.state.EnclavesRoot.String(), "--role", role, "--operator", account(operatorAccount),
		"--endpoints", endpoint, "--public", public, "--private", fmt.Sprintf("127.0.0.1:%d", n.state.Ports.Private[i]),
		"--tee", fmt.Sprintf("simulator:127.0.0.1:%d", n.state.Ports.TEE[i]), "--simulated-roots", n.path("tee", "roots.bin")}
	if i > 0 && n.opt.Hello != "" {
		args = append(args, "--native", filepath.Join(n.opt.Bin, "native"))
		if !n.state.Ready {
			args = append(args, "--prepare", n.opt.Hello)
		}
	}
	return n.spawn(name, endpoint, nil, "pruntime", slices.Concat(args, n.opt.Flags, flags)...)
}

// spawn starts a process and reports it.
func (n *Net) spawn(name, addr string, env []string, bin string, args ...string) error {
	p, err := start(name, addr, n.opt.Dir, env, n.bin(bin), args...)
	if err != nil {
		return err
	}
	n.procs = append(n.procs, p)
	n.say("%-14s pid %-7d %-26s %s", name, p.PID(), addr, short(p.Log))
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
func (n *Net) Kill(name string) error { return n.end(name, (*Process).kill) }

// KillKeyring ends a worker's keyring without notice, and with it the worker.
func (n *Net) KillKeyring(name string) error { return n.end(name, (*Process).killChildren) }

// End stops a component cleanly.
func (n *Net) End(name string) error { return n.end(name, (*Process).stop) }

func (n *Net) end(name string, how func(*Process)) error {
	i := slices.IndexFunc(n.procs, func(p *Process) bool { return p.Name == name })
	if i < 0 {
		return fmt.Errorf("devnet: no component %q is running", name)
	}
	how(n.procs[i])
	n.procs = slices.Delete(n.procs, i, i+1)
	return nil
}

// Private returns the private API of a component that is a pruntime.
func (n *Net) Private(name string) *pherry.Runtime {
	if i := slices.Index(n.names, name); i >= 0 {
		return pherry.NewRuntime(fmt.Sprintf("http://127.0.0.1:%d", n.state.Ports.Private[i]))
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

// Names returns the names of the running components.
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

// Stop stops everything, relayer first, node last, and lets go of the folder.
func (n *Net) Stop() {
	for i := len(n.procs) - 1; i >= 0; i-- {
		n.procs[i].stop()
	}
	n.procs = nil
	n.letGo(slices.Collect(maps.Keys(n.held))...)
	if n.lock != nil {
		n.lock.Close()
		n.lock = nil
	}
}

// Memory returns the resident memory of each component, bytes.
func (n *Net) Memory() map[string]int64 {
	out := map[string]int64{}
	for _, p := range n.procs {
		out[p.Name] = p.resident()
	}
	return out
}
