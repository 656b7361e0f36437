package stack

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
	"github.com/phala-go/phala/pruntime/chaintest"
)

// A Stack is a chain, served as a node, with enclaves.
type Stack struct {
	t       testing.TB
	Chain   *chaintest.Chain
	Server  *chaintest.Server
	Node    *httptest.Server
	Vendor  *simulator.Store // of the simulated machines
	TEE     TEE
	mu      sync.Mutex // one step at a time
	List    []*Enclave
	Cluster proto.ClusterID
}

// An Enclave is a runtime with its servers and its relayer.
type Enclave struct {
	s       *Stack
	Name    string
	Config  pruntime.Config
	RT      *pruntime.Runtime
	Private *httptest.Server
	Public  *httptest.Server
	Relayer *pherry.Relayer
	Off     bool  // its relayer does nothing
	Err     error // of the relayer's last round
}

// Quiet logs to nobody.
func Quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// New returns a chain that began half a day ago, with a block each 100 ms on its own clock.
// That clock runs faster than the real one, by which clients judge headers, and must not
// overtake it however slow the machine: Go makes less than 500 blocks a second, for which
// that is enough for a quarter of an hour.
func New(t testing.TB) *Stack {
	start := time.Now().UTC().Add(-12 * time.Hour).Truncate(time.Millisecond)
	s := &Stack{t: t, Chain: chaintest.New(comettest.Config{Start: start, Interval: 100 * time.Millisecond}), Vendor: newVendor(t, start)}
	s.TEE, s.Chain.Roots = &machines{t, s.Vendor, start}, &s.Vendor.Roots
	s.Server = s.Chain.Server()
	s.Server.Eager = true
	s.Node = httptest.NewServer(s.Server)
	t.Cleanup(s.Node.Close)
	return s
}

// Key returns the key of a name; its account has money.
func (s *Stack) Key(name string) *identity.KeyPair {
	seed := sha256.Sum256([]byte(name))
	k, err := identity.FromSeed(seed[:])
	if err != nil {
		s.t.Fatal(err)
	}
	pub := k.Public()
	s.Chain.Fund(pub[:])
	s.Chain.Next(1)
	return k
}

// Sender returns a sender of the named account.
func (s *Stack) Sender(name string) *tx.Sender {
	return &tx.Sender{Node: rpc.New(s.Node.URL), Chain: "comettest-1", Key: s.Key(name)}
}

// NewRelayer returns another relayer for an enclave, with an operator of its own.
func (s *Stack) NewRelayer(e *Enclave, operator *tx.Sender) *pherry.Relayer {
	return &pherry.Relayer{Node: rpc.New(s.Node.URL), Runtime: pherry.NewRuntime(e.Private.URL), Operator: operator, Interval: time.Millisecond, Log: Quiet()}
}

// Network is what a client needs to know.
func (s *Stack) Network() client.Network {
	root := s.Chain.Root()
	return client.Network{Chain: "comettest-1", Node: s.Node.URL, RootHeight: root.Height, Root: root.Hash, Simulated: true}
}

// Add starts an enclave.
func (s *Stack) Add(name string, role proto.Role) *Enclave {
	s.t.Helper()
	e := &Enclave{s: s, Name: name, Config: pruntime.DefaultConfig()}
	operator := s.Sender("operator of " + name)
	pub := operator.Key.Public()
	c := &e.Config
	c.DataDir, c.Chain, c.Root, c.Role, c.Operator, c.Roots = s.t.TempDir(), "comettest-1", s.Chain.Root(), role, pub[:], s.TEE.Roots()
	c.Lease, c.CheckpointInterval, c.Log, c.Now = 6*time.Second, time.Second, Quiet(), s.Chain.Time
	// The public API is at a fixed address, which the registration names.
	e.Public = httptest.NewUnstartedServer(nil)
	c.Endpoints = []string{"http://" + e.Public.Listener.Addr().String()}
	e.Start()
	e.Public.Config.Handler = api.Public(e.RT)
	e.Public.Start()
	e.Private = httptest.NewServer(api.Private(e.RT))
	e.Relayer = s.NewRelayer(e, operator)
	s.t.Cleanup(func() { e.Private.Close(); e.Public.Close(); e.Stop() })
	s.List = append(s.List, e)
	return e
}

// Start opens the runtime; Stop closes it.
func (e *Enclave) Start() {
	e.s.t.Helper()
	rt, err := pruntime.Open(context.Background(), e.Config, e.s.TEE.Producer(e.Name))
	if err != nil {
		e.s.t.Fatal(err)
	}
	e.RT = rt
}

// Stop closes the runtime.
func (e *Enclave) Stop() {
	if e.RT != nil {
		if err := e.RT.Close(context.Background()); err != nil {
			e.s.t.Error(err)
		}
		e.RT = nil
	}
}

// Restart stops the runtime, with its servers, and starts it at the same addresses.
func (e *Enclave) Restart() {
	e.s.t.Helper()
	e.Stop()
	e.Start()
	e.Private.Config.Handler, e.Public.Config.Handler = api.Private(e.RT), api.Public(e.RT)
}

// Step is one block and one round of every relayer.
func (s *Stack) Step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Chain.Next(1)
	for _, e := range s.List {
		if !e.Off {
			e.Err = e.Relayer.Round(context.Background())
		}
	}
}

// Until steps until the condition holds.
func (s *Stack) Until(what string, holds func() bool) {
	s.t.Helper()
	for i := range 200 {
		if holds() {
			return
		}
		s.Step()
		// Codes are prepared in the background, which a busy machine takes long for.
		if i < 100 {
			time.Sleep(time.Millisecond)
		} else {
			time.Sleep(time.Second)
		}
	}
	for _, e := range s.List {
		st := e.RT.Status()
		s.t.Logf("%s: height %d, why %q, fatal %q, outbox %+v, wants %v; relayer: %v", e.Name, st.Height, st.Why, st.Fatal, st.Outbox, st.WantCodes, e.Err)
	}
	s.t.Fatalf("it does not come to this: %s", what)
}

// Go steps in the background until the test ends or stop is called.
func (s *Stack) Go() (stop func()) {
	end, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			default:
				s.Step()
				time.Sleep(2 * time.Millisecond)
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(end); <-done }) }
	s.t.Cleanup(stop)
	return stop
}

// Ready is a gatekeeper and workers with seats in a cluster that has a key.
func Ready(t testing.TB, workers int) *Stack {
	t.Helper()
	s := New(t)
	g := s.Add("gatekeeper", proto.RoleGatekeeper)
	s.Until("the gatekeeper is active", func() bool { return g.RT.Status().Serving })
	for i := range workers {
		s.Add("worker-"+string(rune('0'+i)), proto.RoleWorker)
	}
	s.Cluster = s.Chain.CreateCluster([]byte("owner"), uint32(workers))
	s.Until("the workers serve", func() bool {
		for _, e := range s.List {
			if !e.RT.Status().Serving {
				return false
			}
		}
		return s.Chain.Cluster(s.Cluster).EpochKey != [32]byte{}
	})
	return s
}
