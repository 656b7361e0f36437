package devnet

import (
	"errors"
	"fmt"
	"net"
	"slices"
)

// A portTable says where the components listen. It is remembered, so that no command and
// no later start needs to be told.
type portTable struct {
	RPC     []int `json:"rpc"` // of each validator's node
	P2P     []int `json:"p2p"`
	TEE     []int `json:"tee"`     // gatekeeper, then workers
	Private []int `json:"private"` // the same order
	Public  []int `json:"public"`
}

// usual are the ports from which free ones are looked for.
var usual = struct{ rpc, p2p, tee, private, public int }{26657, 26656, 8300, 8000, 8100}

// findPorts finds ports for a new network.
func (n *Net) findPorts(validators int) (p portTable, err error) {
	take := func(want int) int {
		if n.opt.Port != 0 {
			want = n.opt.Port
		}
		port, ferr := n.free(want, nil)
		err = errors.Join(err, ferr)
		return port
	}
	for range validators {
		p.RPC, p.P2P = append(p.RPC, take(usual.rpc)), append(p.P2P, take(usual.p2p))
	}
	for range n.names {
		p.TEE, p.Private, p.Public = append(p.TEE, take(usual.tee)), append(p.Private, take(usual.private)), append(p.Public, take(usual.public))
	}
	return p, err
}

// avoid moves the components whose ports somebody else took since the network last ran.
// Validators find each other by theirs: of several, none can move.
func (n *Net) avoid() error {
	p := &n.state.Ports
	all := [][]int{p.RPC, p.P2P, p.TEE, p.Private, p.Public}
	taken := map[int]bool{}
	var lost []*int
	for _, ports := range all {
		for i := range ports {
			if !n.hold(ports[i]) {
				lost = append(lost, &ports[i])
			}
			taken[ports[i]] = true
		}
	}
	if len(lost) == 0 {
		return nil
	}
	for _, port := range lost {
		if i := slices.Index(p.P2P, *port); i >= 0 && len(p.P2P) > 1 {
			return fmt.Errorf("devnet: port %d is taken, at which the other validators find %s: stop what listens there, or start afresh with: %s", *port, nodeName(i), n.opt.afresh())
		}
		got, err := n.free(*port, taken)
		if err != nil {
			return err
		}
		n.say("port %d is taken: %d instead", *port, got)
		*port = got
	}
	n.state.Node = fmt.Sprintf("http://127.0.0.1:%d", p.RPC[0])
	return n.save()
}

// hold takes a port that nobody listens on, until its component starts: networks that
// start at the same time would otherwise find the same ones.
func (n *Net) hold(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	if n.held == nil {
		n.held = map[int]net.Listener{}
	}
	n.held[port] = l
	return true
}

// letGo leaves ports to whoever starts now.
func (n *Net) letGo(ports ...int) {
	for _, port := range ports {
		if l := n.held[port]; l != nil {
			l.Close()
			delete(n.held, port)
		}
	}
}

// free holds a port that nobody listens on, from want upwards, and not one of others that
// are taken.
func (n *Net) free(want int, taken map[int]bool) (int, error) {
	for port := want; port < min(want+500, 1<<16); port++ {
		if !taken[port] && n.hold(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("devnet: no free port from %d to %d", want, want+499)
}
