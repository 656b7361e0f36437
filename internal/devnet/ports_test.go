package devnet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
)

// ports are all ports of a table.
func (p *portTable) all() []int {
	return slices.Concat(p.RPC, p.P2P, p.TEE, p.Private, p.Public)
}

// TestPortsAreHeld: networks that start at the same time have ports of their own, new ones
// and such as go on where they were; each is free for its component, and all are after a
// stop.
func TestPortsAreHeld(t *testing.T) {
	base := 10_000 + rand.IntN(20_000)
	networks := make([]*Net, 3)
	seen := map[int]bool{}
	for i := range networks {
		n := &Net{opt: Options{Dir: t.TempDir(), Out: t.Output(), Port: base}, names: []string{"gatekeeper", "worker-1"}}
		t.Cleanup(n.Stop)
		var err error
		if n.state.Ports, err = n.findPorts(1); err != nil {
			t.Fatal(err)
		}
		networks[i] = n
		all := n.state.Ports.all()
		if len(all) != 8 {
			t.Fatalf("%d ports", len(all))
		}
		for _, port := range all {
			if seen[port] {
				t.Errorf("network %d has port %d, which another one has", i, port)
			}
			seen[port] = true
		}
	}
	// One that goes on at the ports of the first, which does too.
	again := &Net{opt: networks[0].opt, names: networks[0].names, state: State{Ports: networks[0].state.Ports}}
	again.opt.Dir = t.TempDir()
	again.state.Ports.RPC = slices.Clone(again.state.Ports.RPC)
	again.state.Ports.P2P = slices.Clone(again.state.Ports.P2P)
	again.state.Ports.TEE = slices.Clone(again.state.Ports.TEE)
	again.state.Ports.Private = slices.Clone(again.state.Ports.Private)
	again.state.Ports.Public = slices.Clone(again.state.Ports.Public)
	t.Cleanup(again.Stop)
	if err := again.avoid(); err != nil {
		t.Fatal(err)
	}
	for _, port := range again.state.Ports.all() {
		if seen[port] {
			t.Errorf("it goes on with port %d, which another one has", port)
		}
	}
	// A component finds its port free, and the others' are still held.
	first := networks[0]
	first.letGo(first.state.Ports.RPC[0])
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first.state.Ports.RPC[0]))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first.state.Ports.TEE[0])); err == nil {
		l.Close()
		t.Error("the port of a component that is not started is free")
	}
	first.Stop()
	if len(first.held) > 0 {
		t.Errorf("%d ports are held after the end", len(first.held))
	}
}
