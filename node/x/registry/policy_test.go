package registry

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/registry/types"
	"github.com/phala-go/phala/proto"
)

// ownVendor gives the test a vendor of its own, in a state, because others share theirs.
func ownVendor(t testing.TB, edit func(*simulator.State)) *simulator.Store {
	t.Helper()
	st, err := simulator.Open(t.TempDir(), testchain.Genesis, false)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		if err := st.SetState(testchain.Genesis, func(s *simulator.State) error { edit(s); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	use(t, st)
	return st
}

func use(t testing.TB, st *simulator.Store) {
	simulated(t)
	old := vendor.store
	vendor.store = st
	t.Cleanup(func() { vendor.store = old })
}

// withSNP makes a vendor whose AMD keys take seconds to make: once for a test.
func withSNP(t testing.TB) *simulator.Store {
	st, err := simulator.Open(t.TempDir(), testchain.Genesis, true)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// govern runs a governed message.
func (e *env) govern(m sdk.Msg) func(sdk.Context) error {
	return func(ctx sdk.Context) (err error) {
		switch m := m.(type) {
		case *types.MsgSetMeasurement:
			_, err = e.k.SetMeasurement(ctx, m)
		case *types.MsgSetDenial:
			_, err = e.k.SetDenial(ctx, m)
		case *types.MsgSetFloor:
			_, err = e.k.SetFloor(ctx, m)
		default:
			err = fmt.Errorf("%T", m)
		}
		return err
	}
}

func allowing(d proto.Hash, role string, from, until uint64) *types.MsgSetMeasurement {
	return &types.MsgSetMeasurement{Authority: authority, Digest: d[:], Role: role, From: from, Until: until}
}

func denying(kind, subject string, from uint64) *types.MsgSetDenial {
	return &types.MsgSetDenial{Authority: authority, Kind: kind, Subject: subject, From: from}
}

// TestGoverned: what governance may say, and what nobody may.
func TestGoverned(t *testing.T) {
	e := newEnv(t)
	zeros := strings.Repeat("00", 32)
	for _, c := range []struct {
		name string
		m    sdk.Msg
		want error
	}{
		{"measurement", allowing(proto.Hash{1}, "worker", 5, 0), nil},
		{"measurement of a gatekeeper", allowing(proto.Hash{1}, "gatekeeper", 5, 9), nil},
		{"measurement by another", &types.MsgSetMeasurement{Authority: testchain.Account(1).String(), Digest: make([]byte, 32), Role: "worker"}, ErrAuthority},
		{"measurement of 31 bytes", &types.MsgSetMeasurement{Authority: authority, Digest: make([]byte, 31), Role: "worker"}, ErrParams},
		{"measurement in no role", allowing(proto.Hash{1}, "validator", 5, 0), ErrParams},
		{"measurement that ends before it begins", allowing(proto.Hash{1}, "worker", 5, 5), ErrParams},
		{"family", denying("fmspc", "deadbeef0001", 7), nil},
		{"product", denying("product", "Milan", 7), nil},
		{"machine", denying("machine", zeros, 0), nil},
		{"certificate", denying("pck", "01ff", 0), nil},
		{"advisory", denying("advisory", "INTEL-SA-00615", 0), nil},
		{"lifted", &types.MsgSetDenial{Authority: authority, Kind: "advisory", Subject: "INTEL-SA-00615", Lift: true}, nil},
		{"denial by another", &types.MsgSetDenial{Authority: testchain.Account(1).String(), Kind: "pck", Subject: "01"}, ErrAuthority},
		{"denial of another kind", denying("vendor", "intel", 0), ErrParams},
		{"family of 5 bytes", denying("fmspc", "deadbeef00", 0), ErrParams},
		{"family in capitals", denying("fmspc", "DEADBEEF0001", 0), ErrParams},
		{"machine of 31 bytes", denying("machine", zeros[2:], 0), ErrParams},
		{"certificate that is no number", denying("pck", "serial", 0), ErrParams},
		{"certificate's number in its DER form", denying("pck", "00b5ff", 0), nil},
		{"certificate's number without its DER form's zero", denying("pck", "b5ff", 0), ErrParams},
		{"certificate's number with a zero too many", denying("pck", "0001", 0), ErrParams},
		{"product in lower case", denying("product", "milan", 0), ErrParams},
		{"nothing", denying("advisory", "", 0), ErrParams},
		{"a long advisory", denying("advisory", strings.Repeat("x", 65), 0), ErrParams},
		{"floor", &types.MsgSetFloor{Authority: authority, Platform: "tdx", Evaluation: 18}, nil},
		{"floor of a product", &types.MsgSetFloor{Authority: authority, Platform: "snp/Genoa", Tcb: []byte{1, 2, 3, 4, 5}}, nil},
		{"floor by another", &types.MsgSetFloor{Authority: testchain.Account(1).String(), Platform: "tdx"}, ErrAuthority},
		{"floor of nothing", &types.MsgSetFloor{Authority: authority, Platform: "snp"}, ErrParams},
		{"floor of many components", &types.MsgSetFloor{Authority: authority, Platform: "tdx", Tcb: make([]byte, 65)}, ErrParams},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want != nil {
				e.refused(e.govern(c.m), c.want)
				return
			}
			e.Start()
			before := e.Dump(ModuleName)
			e.Must(e.govern(c.m))
			if reflect.DeepEqual(e.Dump(ModuleName), before) {
				t.Fatal("nothing changed")
			}
			e.Finish()
		})
	}
}

// TestPolicy: what each rule refuses at registration, what it ends of what was admitted
// before, and when.
func TestPolicy(t *testing.T) {
	good := func(t *testing.T, role proto.Role) proto.Hash { return digest(t, attest.TDX, goodSoftware) }
	amd := withSNP(t)
	machine := func(t *testing.T) *simulator.Machine {
		m, err := simulated(t).Machine("machine-1", testchain.Genesis)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		name string
		role proto.Role
		tee  attest.TEE
		rule func(t *testing.T, e *env, at uint64) func(sdk.Context) error // from height at
		want error
		now  bool // the rule has no grace
	}{
		{"measurement that ends", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(allowing(good(t, 0), "worker", 0, at))
		}, ErrMeasurement, false},
		{"measurement of gatekeepers that ends", proto.RoleGatekeeper, attest.TDX, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(allowing(good(t, 0), "gatekeeper", 0, at))
		}, ErrMeasurement, false},
		{"measurement allowed later", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(allowing(good(t, 0), "worker", 1000, 0))
		}, ErrMeasurement, true},
		{"family", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(denying("fmspc", hex.EncodeToString(simulator.FMSPC[:]), at))
		}, ErrDenied, false},
		{"machine", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(denying("machine", simulator.MachineIDOf(machine(t), attest.TDX), at))
		}, ErrDenied, false},
		{"certificate", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(denying("pck", hex.EncodeToString(machine(t).PCK.Cert.SerialNumber.Bytes()), at))
		}, ErrDenied, false},
		{"advisory", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(denying("advisory", "INTEL-SA-00999", at))
		}, ErrDenied, false},
		{"product", proto.RoleWorker, attest.SNP, func(t *testing.T, e *env, at uint64) func(sdk.Context) error {
			return e.govern(denying("product", "Milan", at))
		}, ErrDenied, false},
		{"level", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, _ uint64) func(sdk.Context) error {
			return func(ctx sdk.Context) error {
				p, err := e.k.Params(ctx)
				p.WorstLevel = 1
				return errors.Join(err, e.k.SetParams(ctx, p), e.k.changed(ctx))
			}
		}, ErrLevel, true},
		{"settings", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, _ uint64) func(sdk.Context) error {
			return func(ctx sdk.Context) error {
				p, err := e.k.Params(ctx)
				p.Settings.Lease = settings.Lease - 1
				return errors.Join(err, e.k.SetParams(ctx, p), e.k.changed(ctx))
			}
		}, ErrSettings, true},
		{"evaluation number", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, _ uint64) func(sdk.Context) error {
			return e.govern(&types.MsgSetFloor{Authority: authority, Platform: "tdx", Evaluation: 100})
		}, ErrFloor, true},
		{"components", proto.RoleWorker, attest.TDX, func(t *testing.T, e *env, _ uint64) func(sdk.Context) error {
			return e.govern(&types.MsgSetFloor{Authority: authority, Platform: "tdx", Tcb: []byte{0, 0, 200}})
		}, ErrFloor, true},
		{"components of a product", proto.RoleWorker, attest.SNP, func(t *testing.T, e *env, _ uint64) func(sdk.Context) error {
			return e.govern(&types.MsgSetFloor{Authority: authority, Platform: "snp/Milan", Tcb: []byte{0, 0, 0, 0, 255}})
		}, ErrFloor, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.tee == attest.SNP {
				use(t, amd)
			} else {
				ownVendor(t, func(s *simulator.State) { s.Status, s.Advisories = "SWHardeningNeeded", []string{"INTEL-SA-00999"} })
			}
			e := newEnv(t)
			if c.tee != attest.TDX {
				e.Block(e.update(collateral(t, c.tee, simulated(t))))
				e.Block(func(ctx sdk.Context) error { return e.allow(ctx, digest(t, c.tee, goodSoftware), 0, 0) })
			}
			apply := func() *application {
				a := e.apply(1)
				a.tee, a.reg.Role = c.tee, c.role
				return a
			}
			e.Block(e.register(apply()))
			e.Block(e.register(e.otherSoftware(2)))
			at := e.Height() + 5
			e.Block(c.rule(t, e, at))
			if !c.now {
				// In the grace it may still renew, and no longer than to its end.
				e.Block(e.register(apply()))
				if w := e.worker(1); w.Expires != at {
					t.Fatalf("expires at %d, want %d", w.Expires, at)
				}
				for e.Height() < at-1 {
					e.Block()
				}
				if ok, why := e.serving(1); !ok {
					t.Fatalf("in the last block of the grace: %s", why)
				}
			}
			events := e.Block()
			if ok, why := e.serving(1); ok {
				t.Fatal("it serves")
			} else if want := fmt.Sprintf("attestation ended at height %d", e.Height()); why != want {
				t.Fatalf("%q, want %q", why, want)
			}
			if got := testchain.Values(events, "admission_ended", "worker"); !slices.Contains(got, id(1).String()) {
				t.Fatalf("events say %v", got)
			}
			if _, ev := e.last(proto.TopicWorker(id(1))); !reflect.DeepEqual(ev, proto.AdmissionEnded{Worker: id(1)}) {
				t.Fatalf("its topic holds %T", ev)
			}
			if _, ev := e.last(proto.TopicGatekeeper); reflect.TypeOf(ev) != reflect.TypeFor[proto.AdmissionEnded]() {
				t.Fatalf("the gatekeepers' topic holds %T", ev)
			}
			if ok, why := e.serving(2); !ok && (c.want == ErrMeasurement || c.name == "machine" || c.name == "certificate") {
				t.Fatalf("other software on another machine does not serve: %s", why)
			}
			e.refused(e.register(apply()), c.want)
			if got := testchain.Values(e.Block(), "admission_ended", "worker"); len(got) != 0 {
				t.Fatalf("told again: %v", got)
			}
		})
	}
}

// TestPolicyToTheBlock: in which block a rule begins to count, for who registers in it.
func TestPolicyToTheBlock(t *testing.T) {
	good := digest(t, attest.TDX, goodSoftware)
	family := hex.EncodeToString(simulator.FMSPC[:])
	for _, c := range []struct {
		name   string
		rule   func(at uint64) sdk.Msg
		before error // in the last block before
		at     error
	}{
		{"measurement that ends", func(at uint64) sdk.Msg { return allowing(good, "worker", 0, at) }, nil, ErrMeasurement},
		{"measurement that begins", func(at uint64) sdk.Msg { return allowing(good, "worker", at, 0) }, ErrMeasurement, nil},
		{"denial", func(at uint64) sdk.Msg { return denying("fmspc", family, at) }, nil, ErrDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			at := e.Height() + 3
			e.Block(e.govern(c.rule(at)))
			for _, want := range []error{c.before, c.at} {
				if want != nil {
					e.refused(e.register(e.apply(1)), want)
				} else {
					e.Block(e.register(e.apply(1)))
				}
			}
			if e.Height() != at {
				t.Fatalf("height %d, the rule's is %d", e.Height(), at)
			}
			if w := e.worker(1); c.at != nil && w.Expires != at {
				t.Errorf("expires at %d, want %d", w.Expires, at)
			}
		})
	}
}

// otherSoftware is an application of worker n with software that is allowed, and that
// rules about the good software do not mean.
func (e *env) otherSoftware(n int) *application {
	e.t.Helper()
	e.Block(func(ctx sdk.Context) error { return e.allow(ctx, digest(e.t, attest.TDX, otherSoftware), 0, 0) })
	e.bring(attest.TDX, simulated(e.t))
	a := e.apply(n)
	a.software = otherSoftware
	return a
}

// TestLiftedDenial: who was denied registers again; a denial never lengthens anything.
func TestLiftedDenial(t *testing.T) {
	e := newEnv(t)
	e.Block(e.register(e.apply(1)))
	family := hex.EncodeToString(simulator.FMSPC[:])
	e.Block(e.govern(denying("fmspc", family, 0)))
	e.Block()
	if ok, _ := e.serving(1); ok {
		t.Fatal("it serves")
	}
	lift := denying("fmspc", family, 0)
	lift.Lift = true
	e.Block(e.govern(lift))
	e.Block()
	if ok, _ := e.serving(1); ok {
		t.Fatal("it serves without registering")
	}
	e.Block(e.register(e.apply(1)))
	if ok, why := e.serving(1); !ok {
		t.Fatal(why)
	}
}

// TestFreeze: those who are admitted renew, on their machine; nobody else is.
func TestFreeze(t *testing.T) {
	e := newEnv(t)
	e.Block(e.register(e.apply(1)), e.register(e.apply(3)))
	e.edit(func(p *Params) { p.Frozen = true })
	e.Block(e.register(e.apply(1)))
	e.refused(e.register(e.apply(2)), ErrFrozen)
	moved := e.apply(1)
	moved.machine = "machine-9"
	e.refused(e.register(moved), ErrFrozen)
	for e.Height() < 12+100 {
		e.Block()
	}
	e.refused(e.register(e.apply(3)), ErrFrozen)
	e.edit(func(p *Params) { p.Frozen = false })
	e.Block(e.register(e.apply(2)), e.register(e.apply(3)))
}

// TestSweep: after a change of policy every worker is judged, however many there are, a
// bounded number in a block.
func TestSweep(t *testing.T) {
	e := newEnv(t)
	e.Block(e.register(e.apply(1)))
	// Many more, as registering would leave them.
	const many = 2*maxSweep + 10
	w, a := e.worker(1), e.attestation(1)
	e.Block(func(ctx sdk.Context) error {
		s := e.k.store.OpenKVStore(ctx)
		for i := range many {
			x, y := *w, *a
			x.Worker = proto.WorkerID{0xff, byte(i >> 8), byte(i)}
			if i%2 == 0 {
				y.Advisories = []string{"BAD"}
			}
			if err := errors.Join(e.k.set(ctx, &x), s.Set(proto.KeyAttestation(x.Worker), y.Marshal()), s.Set(keyEnd(x.Expires, x.Worker), mark),
				e.mq.CreateTopic(ctx, proto.TopicWorker(x.Worker))); err != nil {
				return err
			}
		}
		return nil
	})
	e.Block(e.govern(denying("advisory", "BAD", 0)))
	ended := 0
	for i, want := range []int{maxSweep / 2, maxSweep, many / 2, many / 2} {
		ended += len(testchain.Values(e.Block(), "admission_ended", "worker"))
		if ended < want-1 || ended > want+1 {
			t.Fatalf("after %d blocks %d ended, want %d", i+1, ended, want)
		}
	}
	if ended != many/2 {
		t.Fatalf("%d ended, want %d", ended, many/2)
	}
	if b, err := e.k.store.OpenKVStore(e.Context()).Get(keySweep); err != nil || b != nil {
		t.Fatalf("it still sweeps from %q, %v", b, err)
	}
	if ok, why := e.serving(1); !ok {
		t.Fatal(why)
	}
}
