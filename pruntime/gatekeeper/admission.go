package gatekeeper

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/phala-go/phala/proto"
)

// A Judge verifies a registration's evidence at a time, with the collateral that comes
// with it or the one held, whichever is newer: it returns an error unless the evidence is
// valid, of software that may have keys, and its report data is the one given.
type Judge func(evidence []byte, reportData [64]byte, at time.Time, held func(platform string) []byte) (*Verdict, error)

// A Verdict is what good evidence says.
type Verdict struct {
	Machine    [32]byte
	Level      uint8     // confidence level, 1 (best) to 5
	Until      time.Time // when evidence or collateral ends
	Platform   string
	Collateral []byte // the one that was used: it is held from now on
}

// A Policy is what a gatekeeper was made with; its evidence and its sealed files bind it.
type Policy struct {
	Roots    proto.Hash     // digest of the attestation roots
	Root     Block          // the header from which its light client started
	Settings proto.Settings // no worker's may go further
}

// A Block names a header.
type Block struct {
	Height uint64
	Hash   proto.Hash
}

// registered judges a registration.
func (g *Gatekeeper) registered(e *proto.WorkerRegistered, height uint64, at time.Time) {
	reg, err := proto.ParseRegistration(e.Registration)
	if err != nil {
		return // the chain does not admit these; nobody gets a key by one
	}
	if reg.Chain != g.chain {
		return
	}
	if reg.Role != proto.RoleWorker {
		return // gatekeepers have no seats
	}
	w := g.worker(reg.Worker)
	if reg.Epoch <= w.epoch {
		return // it was judged
	}
	v, err := g.evidence(e, reg, at)
	if err != nil {
		g.refuse(reg.Worker, w, err)
		return
	}
	// What was there ends; a machine has one worker.
	g.refuse(reg.Worker, w, nil)
	delete(g.refused, reg.Worker)
	if other, ok := g.machines[v.Machine]; ok {
		g.refuse(other, g.workers[other], fmt.Errorf("gatekeeper: its machine registered as %s", reg.Worker))
	}
	g.machines[v.Machine] = reg.Worker
	w.epoch, w.expires, w.until, w.machine = reg.Epoch, e.Expires, uint64(v.Until.UnixMilli()), v.Machine
	if root := (Block{reg.TrustHeight, reg.TrustRoot}); root != g.policy.Root {
		w.root = root
		if hash, ok := g.known(root.Height); ok {
			g.confirm(reg.Worker, w, Block{root.Height, hash})
		}
	}
	g.session(reg.Worker, reg.Session, Block{reg.Height, reg.Hash}, height)
}

// evidence judges what a registration shows, by the vendor's and by this gatekeeper's
// own rules.
func (g *Gatekeeper) evidence(e *proto.WorkerRegistered, reg *proto.Registration, at time.Time) (*Verdict, error) {
	v, err := g.judge(e.Evidence, reg.ReportData(), at, func(platform string) []byte { return g.collateral[platform] })
	if err != nil {
		return nil, err
	}
	g.collateral[v.Platform] = v.Collateral
	own, s := &g.policy.Settings, reg.Settings
	s.WorstLevel = 0 // it gives nobody keys
	switch {
	case reg.Roots != g.policy.Roots:
		return nil, fmt.Errorf("gatekeeper: it judges by the attestation roots %s, this network's are %s", reg.Roots, g.policy.Roots)
	case reg.TrustHeight == 0:
		return nil, errors.New("gatekeeper: it has no trust root")
	case s.Beyond(own) != "":
		return nil, fmt.Errorf("gatekeeper: its settings go further than this gatekeeper's: %s", s.Beyond(own))
	case v.Level > own.WorstLevel:
		return nil, fmt.Errorf("gatekeeper: confidence level %d, at worst %d", v.Level, own.WorstLevel)
	}
	return v, nil
}

// refuse takes away what a worker's evidence gave it.
func (g *Gatekeeper) refuse(id proto.WorkerID, w *worker, why error) {
	if g.machines[w.machine] == id {
		delete(g.machines, w.machine)
	}
	w.session, w.expires, w.until, w.machine, w.named, w.root = [32]byte{}, 0, 0, [32]byte{}, Block{}, Block{}
	g.refused[id] = why
}

// confirm compares what a worker names with what is on this gatekeeper's chain.
func (g *Gatekeeper) confirm(id proto.WorkerID, w *worker, b Block) {
	for _, names := range []*Block{&w.named, &w.root} {
		switch {
		case names.Height != b.Height:
		case names.Hash != b.Hash:
			g.refuse(id, w, fmt.Errorf("gatekeeper: it names %s as block %d, which is %s on this chain", names.Hash, b.Height, b.Hash))
			return
		default:
			*names = Block{}
		}
	}
}

// Confirm takes a block that is proven to be on this gatekeeper's chain.
func (g *Gatekeeper) Confirm(b Block) {
	if b.Height == 0 {
		return
	}
	for _, id := range sorted(g.workers) {
		g.confirm(id, g.workers[id], b)
	}
}

// Wants returns the heights of the blocks that are to be confirmed before workers with
// seats get keys, at most limit.
func (g *Gatekeeper) Wants(limit int) []uint64 {
	set := map[uint64]bool{}
	for _, w := range g.workers {
		if w.session != [32]byte{} && len(w.seats) > 0 {
			set[w.named.Height], set[w.root.Height] = true, true
		}
	}
	delete(set, 0)
	out := slices.Sorted(maps.Keys(set))
	return out[:min(len(out), limit)]
}
