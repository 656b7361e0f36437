package verify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
)

// A Link is one step of a chain of proof.
type Link struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was found, or why it does not hold

	err error
}

// A Report is a chain of proof up to its end or to the first link that does not hold.
type Report struct {
	OK bool `json:"ok"`
	// Simulated: nothing is protected, whatever holds. That it is not is proven by evidence,
	// and so not in the report of a chain alone.
	Simulated bool   `json:"simulated"`
	Links     []Link `json:"links"`
}

// Err is why the chain broke, nil if it did not.
func (r *Report) Err() error {
	if n := len(r.Links); n > 0 {
		return r.Links[n-1].err
	}
	return nil
}

// Failure classes that are this package's own. Test with errors.Is on [Report.Err].
var (
	// ErrStale: the node's newest header is old; what it proves may be over.
	ErrStale = errors.New("the newest header is old: the node is behind, or the chain stands still")
	// ErrNotAdmitted: the chain does not take the worker, or its software.
	ErrNotAdmitted = errors.New("not admitted")
	// ErrUnreachable: the worker says nothing.
	ErrUnreachable = errors.New("the worker does not answer")
	// ErrBuild: the software is another than the one that was built.
	ErrBuild = errors.New("another software than the given build")
	// ErrSession: the enclave does not hold the key that the chain has for it.
	ErrSession = errors.New("the enclave does not answer to its session key")
	// ErrReceipt: a final receipt without a majority's signatures.
	ErrReceipt = errors.New("the final receipt is not signed by a majority")
	// ErrContract: the contract cannot be what it should be.
	ErrContract = errors.New("the contract is not running this code")
)

// Options say what is expected besides.
type Options struct {
	// Build gives the measurement of a build of one's own (phala measure) on the class of TEE
	// that an enclave proved to be in, for a network with these roots; nil for none. The
	// same program measures differently on each class.
	Build func(ctx context.Context, tee attest.TEE, roots attest.Roots) (proto.Hash, error)
	// Code is the hash of a contract's code that one has built; nil for none.
	Code *proto.Hash
	// MaxAge is how old the newest header may be; five minutes if zero.
	MaxAge time.Duration
}

// A verifier gathers links.
type verifier struct {
	c *client.Client
	o Options
	r *Report
	h *comet.Header
}

// Chain checks the chain. That it is simulated is a link if the node shows it; a node may
// hide it, and only a worker's evidence under the vendors' roots proves the contrary.
func Chain(ctx context.Context, c *client.Client, o Options) *Report {
	v := &verifier{c: c, o: o, r: &Report{}}
	if !v.chain(ctx) {
		return v.done(false)
	}
	var roots attest.Roots
	ok := v.roots(ctx, "", &roots)
	if ok && !v.r.Simulated {
		v.r.Links = v.r.Links[:len(v.r.Links)-1]
	}
	return v.done(ok && v.link("newest trust root", func() (string, error) {
		root, err := v.c.NewestTrustRoot(ctx)
		return fmt.Sprintf("%s: where new enclaves and clients start (--trust-root)", root), err
	}))
}

// Worker checks a worker or gatekeeper.
func Worker(ctx context.Context, c *client.Client, id proto.WorkerID, o Options) *Report {
	v := &verifier{c: c, o: o, r: &Report{}}
	return v.done(v.chain(ctx) && v.worker(ctx, id, ""))
}

// Contract checks a contract and every seat of its cluster.
func Contract(ctx context.Context, c *client.Client, id proto.ContractID, o Options) *Report {
	v := &verifier{c: c, o: o, r: &Report{}}
	return v.done(v.chain(ctx) && v.contract(ctx, id))
}

func (v *verifier) done(ok bool) *Report {
	v.r.OK = ok
	return v.r
}

// link adds a link and reports whether to go on.
func (v *verifier) link(name string, f func() (string, error)) bool {
	detail, err := f()
	if err != nil {
		detail = err.Error()
	}
	v.r.Links = append(v.r.Links, Link{Name: name, OK: err == nil, Detail: detail, err: err})
	return err == nil
}

func (v *verifier) chain(ctx context.Context) bool {
	return v.link("chain", func() (string, error) {
		h, err := v.c.Sync(ctx)
		if err != nil {
			return "", err
		}
		v.h = h
		maxAge := v.o.MaxAge
		if maxAge == 0 {
			maxAge = 5 * time.Minute
		}
		age := time.Since(h.Time)
		if age > maxAge {
			return "", fmt.Errorf("%w: height %d is %s old", ErrStale, h.Height, age.Truncate(time.Second))
		}
		n := v.c.Network()
		return fmt.Sprintf("%s from its trust root, height %d %.16s…, to height %d %.16s…, by the validators' signatures", n.Chain, n.RootHeight, n.Root, h.Height, proto.Hash(h.Hash())), nil
	})
}

// roots says who signs for the hardware of this network. prefix tells several workers apart.
func (v *verifier) roots(ctx context.Context, prefix string, roots *attest.Roots) bool {
	return v.link(prefix+"roots", func() (s string, err error) {
		if *roots, err = v.c.Roots(ctx); err != nil {
			return "", err
		}
		if v.r.Simulated = roots.Simulated(); v.r.Simulated {
			return "SIMULATED by genesis: this network's TEEs protect nothing", nil
		}
		return "the processor vendors', compiled in", nil
	})
}

// worker checks one.
func (v *verifier) worker(ctx context.Context, id proto.WorkerID, prefix string) bool {
	var w *proto.WorkerInfo
	var roots attest.Roots
	var der []byte
	var verdict *attest.Verdict
	var admits func(*attest.Verdict) error
	ok := v.link(prefix+"registration", func() (s string, err error) {
		if w, err = v.c.Worker(ctx, id); err != nil {
			return "", err
		}
		if uint64(v.h.Height) >= w.Expires {
			return "", fmt.Errorf("%w: its admission ended at height %d", ErrNotAdmitted, w.Expires)
		}
		s = fmt.Sprintf("%s %.16s… admitted at height %d until %d at the latest, confidence level %d", w.Role, w.Worker, w.Registered, w.Expires, w.Level)
		if w.Simulated {
			s += ", SIMULATED"
		}
		return s, nil
	}) && v.roots(ctx, prefix, &roots) && v.link(prefix+"allow-list", func() (string, error) { return v.allowed(ctx, w) }) &&
		v.link(prefix+"certificate", func() (s string, err error) {
			if len(w.Endpoints) == 0 {
				return "", fmt.Errorf("%w: it registered no endpoint", ErrUnreachable)
			}
			if der, err = v.c.Certificate(ctx, w); err != nil {
				return "", fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			return fmt.Sprintf("%d bytes from %s", len(der), w.Endpoints[0]), nil
		}) && v.link(prefix+"evidence", func() (string, error) {
		check, err := v.c.Verifier(ctx, w)
		if err != nil {
			return "", err
		}
		// Whether the chain admitted what the evidence proves is the next link's.
		admits, check.Admit = check.Admit, func(*attest.Verdict) error { return nil }
		if verdict, err = check.Verify(der); err != nil {
			return "", err
		}
		s := fmt.Sprintf("%s, platform %s, signed by the identity; machine %x…", verdict.TEE, verdict.TCBStatus, verdict.MachineID[:8])
		if len(verdict.Advisories) > 0 {
			s += fmt.Sprintf("; advisories %v", verdict.Advisories)
		}
		return s, nil
	}) && v.link(prefix+"software", func() (string, error) {
		if err := admits(verdict); err != nil {
			return "", fmt.Errorf("%w: %w", ratls.ErrNotAdmitted, err)
		}
		return "measures " + w.Measurement.String() + ", as admitted, on the machine that was", nil
	})
	if ok && v.o.Build != nil {
		ok = v.link(prefix+"build", func() (string, error) {
			build, err := v.o.Build(ctx, verdict.TEE, roots)
			if err != nil {
				return "", err
			}
			if build != w.Measurement {
				return "", fmt.Errorf("%w: that measures %s", ErrBuild, build)
			}
			return "the given one", nil
		})
	}
	if w == nil || w.Role != proto.RoleWorker || w.State.Cluster == 0 {
		return ok // a gatekeeper or free worker answers no queries
	}
	return ok && v.link(prefix+"session", func() (string, error) {
		// A query to no contract: whoever can answer it at all holds the key.
		t := client.Target{Worker: w.Worker, Session: w.State.Session, Endpoint: w.Endpoints[0], Registered: w.Registered}
		a, err := v.c.Ask(ctx, t, proto.ContractID{}, nil, client.QueryOptions{Anonymous: true})
		var answered *client.QueryError
		if errors.As(err, &answered) {
			a, err = answered.Answer, nil
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrSession, err)
		}
		return fmt.Sprintf("answers to the key that the chain has, from height %d", a.Height), nil
	})
}

// keyMeasurement is where store registry allows software for a role: from and until.
func keyMeasurement(w *proto.WorkerInfo) []byte {
	return append([]byte{'m', '/', byte(w.Role)}, w.Measurement[:]...)
}

// allowed checks that governance allows the software now.
func (v *verifier) allowed(ctx context.Context, w *proto.WorkerInfo) (string, error) {
	b, err := v.c.Prove(ctx, proto.StoreRegistry, keyMeasurement(w))
	if errors.Is(err, rpc.ErrNotFound) || err == nil && len(b) != 16 {
		return "", fmt.Errorf("%w: %s is not on the allow-list for a %s", ErrNotAdmitted, w.Measurement, w.Role)
	}
	if err != nil {
		return "", err
	}
	from, until := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if h := uint64(v.h.Height); h < from || until != 0 && h >= until {
		return "", fmt.Errorf("%w: %s is allowed from height %d up to %d", ErrNotAdmitted, w.Measurement, from, until)
	}
	s := fmt.Sprintf("%s since height %d", w.Measurement, from)
	if until != 0 {
		s += fmt.Sprintf(", up to %d", until)
	}
	return s, nil
}

func (v *verifier) contract(ctx context.Context, id proto.ContractID) bool {
	var ct *proto.Contract
	var cl *proto.Cluster
	ok := v.link("contract", func() (s string, err error) {
		if ct, err = v.c.Contract(ctx, id); err != nil {
			return "", err
		}
		if ct.Phase != proto.ContractStarted {
			return "", fmt.Errorf("%w: it has not started", ErrContract)
		}
		return fmt.Sprintf("in cluster %s since height %d", ct.Cluster, ct.Height), nil
	}) && v.link("code", func() (string, error) {
		if v.o.Code != nil && *v.o.Code != ct.Code {
			return "", fmt.Errorf("%w: code %s, the given build is %s", ErrContract, ct.Code, *v.o.Code)
		}
		module, err := pherry.FetchCode(ctx, v.c.Node(), ct.Code)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, %d bytes, public", ct.Code, len(module)), nil
	}) && v.link("cluster", func() (s string, err error) {
		if cl, err = v.c.Cluster(ctx, ct.Cluster); err != nil {
			return "", err
		}
		if cl.EpochKey == [32]byte{} || len(cl.Seats) < cl.Majority() {
			return "", fmt.Errorf("%w: %d of %d seats are taken, its key counts: %t", client.ErrNotReady, len(cl.Seats), cl.SeatsWanted, cl.EpochKey != [32]byte{})
		}
		return fmt.Sprintf("%d seats, epoch %d", len(cl.Seats), cl.Epoch), nil
	}) && v.link("receipt", func() (string, error) { return v.receipt(ctx, cl) })
	if !ok {
		return false
	}
	for i, seat := range cl.Seats {
		if !v.worker(ctx, seat, fmt.Sprintf("seat %d ", i+1)) {
			return false
		}
	}
	return true
}

// maxSearch is how far back the first message of the newest receipt is looked for.
const maxSearch = 4096

// receipt checks the newest final receipt: what the state root rests on.
func (v *verifier) receipt(ctx context.Context, cl *proto.Cluster) (string, error) {
	if cl.FinalSeq == 0 {
		return "nothing was said yet", nil
	}
	from := cl.FinalSeq
	for ; ; from-- {
		_, err := v.c.Node().Read(ctx, proto.StoreContracts, proto.KeyReceipt(cl.ID, from))
		if err == nil {
			break
		}
		if !errors.Is(err, rpc.ErrNotFound) || from == 1 || cl.FinalSeq-from >= maxSearch {
			return "", fmt.Errorf("%w: the node has none up to message %d: %w", ErrReceipt, cl.FinalSeq, err)
		}
	}
	rec, err := v.c.Receipt(ctx, cl.ID, from)
	if err != nil {
		return "", err
	}
	if !rec.Final || int(rec.Agreed) >= len(rec.Receipts) {
		return "", fmt.Errorf("%w: it is not final", ErrReceipt)
	}
	r := rec.Receipts[rec.Agreed]
	if r.Cluster != cl.ID || r.ToSeq != cl.FinalSeq || r.StateRoot != cl.FinalRoot || r.Head != cl.FinalHead {
		return "", fmt.Errorf("%w: it is about other messages or another state than the cluster's", ErrReceipt)
	}
	payload := proto.MarshalEntry(r)
	digest := sha256.Sum256(payload)
	signed := map[proto.WorkerID]bool{}
	for _, vote := range rec.Votes {
		ok, err := v.seated(ctx, cl, vote.Worker)
		if err != nil {
			return "", err
		}
		if ok && vote.Digest == digest && identity.Verify(identity.PublicKey(vote.Worker), proto.EntrySignedBytes(v.c.Network().Chain, vote.Worker, vote.OutboxSeq, payload), vote.Signature[:]) == nil {
			signed[vote.Worker] = true
		}
	}
	if len(signed) < cl.Majority() {
		return "", fmt.Errorf("%w: %d of %d seats signed it", ErrReceipt, len(signed), cl.SeatsWanted)
	}
	return fmt.Sprintf("messages %d to %d, state root %s, signed by %d seats", r.FromSeq, r.ToSeq, r.StateRoot, len(signed)), nil
}

// seated reports whether a worker has a seat, or may have had one when it voted: those that
// lost theirs since are still registered.
func (v *verifier) seated(ctx context.Context, cl *proto.Cluster, id proto.WorkerID) (bool, error) {
	if cl.HasSeat(id) {
		return true, nil
	}
	w, err := v.c.Worker(ctx, id)
	if errors.Is(err, rpc.ErrNotFound) {
		return false, nil
	}
	return err == nil && w.Role == proto.RoleWorker, err
}
