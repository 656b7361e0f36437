package simulator_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/attest/simulator"
)

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string, now time.Time) *simulator.Store {
	t.Helper()
	s, err := simulator.Open(dir, now, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func machine(t testing.TB, s *simulator.Store, name string) *simulator.Machine {
	t.Helper()
	m, err := s.Machine(name, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func collateral(t testing.TB, s *simulator.Store, now time.Time) *attest.Collateral {
	t.Helper()
	c, err := s.Collateral(attest.TDX, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func evidence(t testing.TB, m *simulator.Machine) attest.Evidence {
	t.Helper()
	e, err := m.Evidence(attest.TDX, []byte{1, 2}, [64]byte{3})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestStorePersists: a network and its machines are the same after a restart,
// and no other network's.
func TestStorePersists(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testNow)
	a, b := machine(t, s, "a"), machine(t, s, "b")
	again := open(t, dir, testNow.AddDate(1, 0, 0))
	if s.Roots.Digest() != again.Roots.Digest() || !s.Roots.Simulated() {
		t.Fatal("roots changed, or are not simulated")
	}
	a2 := machine(t, again, "a")
	if a.PPID != a2.PPID || a.Secret != a2.Secret || !bytes.Equal(a.PCK.Cert.Raw, a2.PCK.Cert.Raw) || !a.Attestation.Equal(a2.Attestation) {
		t.Fatal("machine changed")
	}
	if a.PPID == b.PPID || a.ChipID == b.ChipID {
		t.Fatal("two machines have one identity")
	}
	e := evidence(t, a2)
	e.Collateral = collateral(t, again, testNow)
	if _, err := attest.Verify(e, s.Roots, testNow); err != nil {
		t.Fatal(err)
	}
	if other := open(t, t.TempDir(), testNow); other.Roots.Digest() == s.Roots.Digest() {
		t.Fatal("two networks share roots")
	}
	for _, name := range []string{"network.pem", "machines/a.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	roots, err := os.ReadFile(filepath.Join(dir, "roots.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := attest.NetworkRoots(attest.ClassSimulated, roots); err != nil || r.Digest() != s.Roots.Digest() {
		t.Fatal("roots.bin:", err)
	}
}

func TestStoreRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testNow)
	for _, name := range []string{"", "../x", "a/b", ".hidden", strings.Repeat("a", 65), "a b"} {
		if _, err := s.Machine(name, testNow); err == nil {
			t.Errorf("machine name %q accepted", name)
		}
	}
	if _, err := s.Collateral(attest.SNP, testNow); err == nil || !strings.Contains(err.Error(), "without SNP") {
		t.Error("SNP collateral of a network without:", err)
	}
	m := machine(t, s, "a")
	if _, err := m.Evidence(attest.SNP, []byte{1}, [64]byte{}); err == nil {
		t.Error("SNP evidence on a network without")
	}
	for _, c := range []struct {
		tee  attest.TEE
		size int
	}{{attest.SGX, 0}, {attest.SGX, 33}, {attest.TDX, 49}, {attest.SNP, 49}} {
		if _, err := m.Evidence(c.tee, make([]byte, c.size), [64]byte{}); err == nil {
			t.Errorf("%s: measurement of %d bytes accepted", c.tee, c.size)
		}
	}
	other := open(t, t.TempDir(), testNow)
	b, err := other.Network.Roots()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "roots.bin"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := simulator.Open(dir, testNow, false); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Error("roots of another network:", err)
	}
	for _, text := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nName: root\n\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, "network.pem"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := simulator.Open(dir, testNow, false); err == nil {
			t.Errorf("network file %.10q accepted", text)
		}
	}
}

// TestOpenConcurrently: simulators of one network may start at once.
func TestOpenConcurrently(t *testing.T) {
	dir := t.TempDir()
	digests := make([][32]byte, 8)
	var wait sync.WaitGroup
	for i := range digests {
		wait.Go(func() {
			s, err := simulator.Open(dir, testNow, false)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.Machine("same", testNow); err != nil {
				t.Error(err)
			}
			if _, err := s.Collateral(attest.TDX, testNow); err != nil {
				t.Error(err)
			}
			digests[i] = s.Roots.Digest()
		})
	}
	wait.Wait()
	for _, d := range digests {
		if d != digests[0] {
			t.Fatal("two processes made two networks")
		}
	}
}

// TestCollateralStaysFresh for years: it is issued anew each day, each newer
// than the one before.
func TestCollateralStaysFresh(t *testing.T) {
	s := open(t, t.TempDir(), testNow)
	e := evidence(t, machine(t, s, "a"))
	now, held, renewed := testNow, collateral(t, s, testNow), 0
	for range 40 {
		now = now.Add(7 * time.Hour)
		c := collateral(t, s, now)
		if !bytes.Equal(c.Marshal(), held.Marshal()) {
			if _, err := attest.CheckUpdate(held, c, s.Roots, now); err != nil {
				t.Fatal(err)
			}
			held, renewed = c, renewed+1
		}
	}
	if renewed < 9 || renewed > 11 {
		t.Errorf("renewed %d times in 280 hours", renewed)
	}
	for _, years := range []int{1, 5, 10, 19} {
		later := testNow.AddDate(years, 0, 0)
		e.Collateral = collateral(t, s, later)
		if _, err := attest.Verify(e, s.Roots, later); err != nil {
			t.Errorf("after %d years: %v", years, err)
		}
	}
}

// TestState: what an operator publishes shows in verdicts.
func TestState(t *testing.T) {
	s := open(t, t.TempDir(), testNow)
	m := machine(t, s, "a")
	e := evidence(t, m)
	verify := func(now time.Time) (*attest.Verdict, error) {
		e.Collateral = collateral(t, s, now)
		return attest.Verify(e, s.Roots, now)
	}
	if v, err := verify(testNow); err != nil || v.ConfidenceLevel != 1 || v.Evaluation != 1 {
		t.Fatal(v, err)
	}
	held := collateral(t, s, testNow)
	now := testNow.Add(time.Minute)
	err := s.SetState(now, func(st *simulator.State) error {
		st.Status, st.Advisories = "OutOfDate", []string{"INTEL-SA-99999"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify(now)
	if err != nil || v.ConfidenceLevel != 5 || v.Advisories[0] != "INTEL-SA-99999" || v.Evaluation != 2 {
		t.Fatalf("%+v %v", v, err)
	}
	if _, err := attest.CheckUpdate(held, e.Collateral, s.Roots, now); err != nil {
		t.Fatal("published state is not newer:", err)
	}
	if err := s.Revoke(m, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(now.Add(time.Minute)); !errors.Is(err, fault.PCKRevoked) {
		t.Fatal(err)
	}
	e2 := evidence(t, machine(t, s, "b"))
	e2.Collateral = collateral(t, s, now.Add(time.Minute))
	if v, err := attest.Verify(e2, s.Roots, now.Add(time.Minute)); err != nil || v.Evaluation != 3 {
		t.Fatal("another machine:", err)
	}
	wrong := errors.New("no")
	if err := s.SetState(now, func(*simulator.State) error { return wrong }); !errors.Is(err, wrong) {
		t.Fatal(err)
	}
}

// TestSealingKeys depend on machine, class, measurement and label, each alone.
func TestSealingKeys(t *testing.T) {
	s := open(t, t.TempDir(), testNow)
	a, b := machine(t, s, "a"), machine(t, s, "b")
	seen := map[[32]byte]string{}
	for _, c := range []struct {
		name        string
		m           *simulator.Machine
		tee         attest.TEE
		measurement string
		label       string
	}{
		{"base", a, attest.TDX, "m", "l"},
		{"machine", b, attest.TDX, "m", "l"},
		{"class", a, attest.SGX, "m", "l"},
		{"measurement", a, attest.TDX, "n", "l"},
		{"label", a, attest.TDX, "m", "k"},
		{"moved", a, attest.TDX, "ml", ""},
	} {
		key, err := c.m.SealingKey(c.tee, []byte(c.measurement), []byte(c.label))
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", c.name, other)
		}
		seen[key] = c.name
	}
	again := machine(t, open(t, s.Dir, testNow), "a")
	key, err := again.SealingKey(attest.TDX, []byte("m"), []byte("l"))
	if err != nil || seen[key] != "base" {
		t.Errorf("after a restart the key is %q's, %v", seen[key], err)
	}
}

func server(t testing.TB, now func() time.Time) (*simulator.Server, *httptest.Server) {
	s := open(t, t.TempDir(), testNow)
	h := &simulator.Server{Store: s, Machine: machine(t, s, "a"), MachineName: "a", TEE: attest.TDX, Measurement: []byte{1, 2}, Now: now}
	web := httptest.NewServer(h.Handler())
	t.Cleanup(web.Close)
	return h, web
}

func TestServer(t *testing.T) {
	s, web := server(t, func() time.Time { return testNow })
	ctx := context.Background()
	p, err := producer.Open(ctx, "simulator:"+strings.TrimPrefix(web.URL, "http://"), producer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Simulated() || p.TEE() != attest.TDX || p.Name() != "simulator" {
		t.Fatal(p.Name(), p.TEE())
	}
	e, err := p.Evidence(ctx, [64]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(e, s.Store.Roots, testNow)
	if err != nil || v.ReportData != [64]byte{5} {
		t.Fatal(err)
	}
	info, err := s.Info()
	if err != nil || info.Digest != hex.EncodeToString(v.Measurement[:]) || info.MachineID != hex.EncodeToString(v.MachineID[:]) || info.Warning != attest.SimulatedOrganization {
		t.Fatalf("%+v %v", info, err)
	}
	key, err := p.SealingKey(ctx, []byte("label"))
	want, _ := s.Machine.SealingKey(attest.TDX, []byte{1, 2}, []byte("label"))
	if err != nil || key != want {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/evidence", `{"report_data":"00"}`, 400},
		{"POST", "/evidence", `{"report_data":"` + strings.Repeat("0", 130) + `"}`, 400},
		{"POST", "/evidence", `{"report_data":"` + strings.Repeat("zz", 64) + `"}`, 400},
		{"POST", "/evidence", `{}`, 400},
		{"POST", "/evidence", ``, 400},
		{"POST", "/evidence", `[]`, 400},
		{"POST", "/evidence", `{"report_data":"` + strings.Repeat("00", 64) + `","x":1}`, 400},
		{"POST", "/evidence", `{"report_data":"` + strings.Repeat("00", 64) + `"} {}`, 400},
		{"POST", "/evidence", `{"report_data":"` + strings.Repeat("00", 20000) + `"}`, 400},
		{"GET", "/evidence", ``, 405},
		{"POST", "/sealing-key", `{"label":"` + strings.Repeat("00", 1025) + `"}`, 400},
		{"POST", "/sealing-key", `{"label":"g0"}`, 400},
		{"POST", "/info", `{}`, 405},
		{"GET", "/collateral", ``, 200},
		{"GET", "/", ``, 404},
	} {
		r, err := http.NewRequest(c.method, web.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s %.40q: %d, want %d", c.method, c.path, c.body, resp.StatusCode, c.status)
		}
	}
}

// TestClock: the server's clock is given to it; ten years on, in a bubble of
// synthetic time, its evidence is as good.
func TestClock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, time.Now())
		m, err := s.Machine("a", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		h := &simulator.Server{Store: s, Machine: m, TEE: attest.TDX, Measurement: []byte{1}, Now: time.Now}
		for range 3 {
			e, err := h.Evidence([64]byte{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := attest.Verify(e, s.Roots, time.Now()); err != nil {
				t.Fatal(time.Now(), err)
			}
			time.Sleep(5 * 365 * 24 * time.Hour)
		}
	})
}

func TestFMSPCIsNobodys(t *testing.T) {
	if !strings.HasPrefix(hex.EncodeToString(simulator.FMSPC[:]), "deadbeef") {
		t.Fatalf("%x", simulator.FMSPC)
	}
	s := open(t, t.TempDir(), testNow)
	fmspc, _, err := dcap.Claims(evidence(t, machine(t, s, "a")).Report)
	if err != nil || fmspc != simulator.FMSPC {
		t.Fatalf("%x %v", fmspc, err)
	}
}

func BenchmarkEvidence(b *testing.B) {
	s, _ := server(b, func() time.Time { return testNow })
	for b.Loop() {
		if _, err := s.Evidence([64]byte{1}); err != nil {
			b.Fatal(err)
		}
	}
}
