package collateral_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/pcs"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/pherry/collateral"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
)

// TestRegistry: over a node, what is newer reaches the chain once, and the chain's policy is
// what the warnings go by.
func TestRegistry(t *testing.T) {
	s := stack.New(t)
	n, err := network()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := n.Verifier()
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.NewMachine(start)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := m.Evidence(attest.TDX, []byte{1}, [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	now, next := start, simulator.State{Evaluation: 3}
	service := &simulator.Service{Network: n, Publish: func(tee attest.TEE, of simulator.Edition) (*attest.Collateral, error) {
		state := simulator.State{Evaluation: 3}
		if of.Early {
			state = next
		}
		return n.Collateral(n.Publication(tee, now, state))
	}}
	server := httptest.NewServer(service.Handler())
	t.Cleanup(server.Close)
	clock := func() time.Time { return now }
	source, err := pcs.New(pcs.Options{Intel: server.URL, Roots: roots, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	k := &collateral.Keeper{
		Chain: &collateral.Registry{Node: rpc.New(s.Node.URL), Operator: s.Sender("operator")}, Source: source, Roots: roots, Now: clock, Log: slog.New(slog.DiscardHandler),
		Workers: func(context.Context) ([]collateral.Worker, error) {
			return []collateral.Worker{{Name: "w", Evidence: ev}}, nil
		},
	}
	round := func(updated, warnings int) collateral.Report {
		t.Helper()
		r := k.Round(t.Context())
		if len(r.Updated) != updated || len(r.Warnings) != warnings || len(r.Problems) != 0 {
			t.Errorf("%+v, want %d updates and %d warnings", r, updated, warnings)
		}
		s.Step()
		return r
	}
	const key = "tdx/deadbeef0001/platform"
	round(1, 0)
	if b, ok := s.Chain.Get(proto.StoreRegistry, proto.KeyCollateral(key)); !ok {
		t.Fatal("the chain has no collateral")
	} else if _, err := attest.ParseCollateral(b); err != nil {
		t.Fatal(err)
	}
	round(0, 0)
	now = now.Add(24 * time.Hour)
	round(1, 0)

	// Policy, one reason at a time.
	v, err := verdict(t, ev, n, roots, now)
	if err != nil {
		t.Fatal(err)
	}
	soon := binary.BigEndian.AppendUint64(nil, 1<<30)
	for _, c := range []struct{ key, value, reason string }{
		{"params", `{"worst_level":4}`, ""},
		{"params", `{"worst_level":0}`, ""},
		{"n/machine/" + hex.EncodeToString(v.MachineID[:]), string(soon), "denied from height 1073741824"},
		{"n/fmspc/deadbeef0001", string(soon), "fmspc deadbeef0001"},
		{"n/pck/" + hex.EncodeToString(v.PCKSerial), string(soon), "pck "},
		{"n/fmspc/deadbeef0002", string(soon), ""},
		{"g/tdx", `{"evaluation":3,"tcb":""}`, ""},
		{"g/tdx", `{"evaluation":4,"tcb":""}`, "evaluation number 3, at least 4"},
		{"g/tdx", `{"evaluation":0,"tcb":"ff"}`, "at least ff"},
		{"g/sgx", `{"evaluation":9,"tcb":""}`, ""},
	} {
		s.Chain.Set(proto.StoreRegistry, []byte(c.key), []byte(c.value))
		s.Step()
		r := round(0, map[bool]int{true: 1}[c.reason != ""])
		if c.reason != "" && (!errors.Is(r.Warnings[0].Reason, collateral.ErrPolicy) || !r.Warnings[0].Now || !strings.Contains(r.Warnings[0].String(), c.reason)) {
			t.Errorf("%s: %v", c.key, r.Warnings)
		}
		s.Chain.Set(proto.StoreRegistry, []byte(c.key), []byte(`{"worst_level":5,"evaluation":0}`)[:map[bool]int{true: 1, false: 32}[strings.HasPrefix(c.key, "n/")]])
		s.Step()
	}

	// What governance does not take yet costs no transaction, and is a problem to report.
	now = now.Add(24 * time.Hour)
	s.Chain.Set(proto.StoreRegistry, []byte("params"), []byte(`{"tcb_evaluations":{"sgx":9,"tdx":2}}`))
	s.Step()
	if r := k.Round(t.Context()); len(r.Updated) != 0 || len(r.Problems) != 1 || !errors.Is(r.Problems[0], collateral.ErrPolicy) {
		t.Errorf("above the ceiling: %+v", r)
	}
	s.Chain.Set(proto.StoreRegistry, []byte("params"), []byte(`{"tcb_evaluations":{"tdx":3}}`))
	s.Step()
	round(1, 0)

	// A recovery to come, and the metrics that an operator watches.
	next = simulator.State{Evaluation: 4, Status: string(dcap.Revoked)}
	round(0, 1)
	var text bytes.Buffer
	k.Metrics(&text)
	for _, want := range []string{`pherry_worker_excluded{worker="w",platform="` + key + `",when="next"} 1`, `pherry_collateral_expires_seconds{platform="` + key + `"} 2`, "pherry_collateral_problems 0"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in\n%s", want, text.String())
		}
	}
}

// verdict is what a machine's evidence proves.
func verdict(t *testing.T, ev attest.Evidence, n *simulator.Network, roots attest.Roots, now time.Time) (*attest.Verdict, error) {
	t.Helper()
	c, err := n.Collateral(n.Publication(attest.TDX, now, simulator.State{Evaluation: 3}))
	if err != nil {
		return nil, err
	}
	ev.Collateral = c
	return attest.Verify(ev, roots, now)
}
