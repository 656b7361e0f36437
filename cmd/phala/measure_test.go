package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/measure"
)

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	zero := strings.Repeat("00", 48)
	image := `{"class":"tdx","registers":{"MRTD":"` + zero + `","RTMR0":"` + zero + `","RTMR1":"` + zero + `","RTMR2":"` + zero + `","TDATTRIBUTES":"0000000010000000","XFAM":"00000000000602e7"}}`
	compose := file("app-compose.json", "{}")
	// SHA-256 of "{}".
	log := `[{"imr":3,"event_type":134217729,"digest":"","event":"compose-hash","event_payload":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}]`
	quoted, err := json.Marshal(map[string]string{"quote": "00", "event_log": log})
	if err != nil {
		t.Fatal(err)
	}
	registers := file("registers.json", image)
	var digests []string
	for _, l := range []string{log, `{"event_log":` + log + `}`, string(quoted)} {
		out, _, err := phala(t, "measure", registers, "--event-log", file("log.json", l), "--compose", compose, "--output", "json")
		if err != nil {
			t.Fatal(err)
		}
		var m measurement
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			t.Fatal(err)
		}
		if m.Class != "tdx" || len(m.Digest) != 64 || len(m.Fields) != 11 || m.Proposal["role"] != "worker" || m.Fields["RTMR3"] == zero {
			t.Errorf("%+v", m)
		}
		digests = append(digests, m.Digest)
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("the same log in three forms: %v", digests)
	}
	out, _, err := phala(t, "measure", registers, "--event-log", file("log.json", log))
	if err != nil || !strings.Contains(out, "digest               "+digests[0]) || !strings.Contains(out, "MsgSetMeasurement") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"another compose file", []string{registers, "--event-log", file("log.json", log), "--compose", file("other.json", "{ }")}, "the guest was started with 44136f"},
		{"another register", []string{file("r3.json", strings.Replace(image, `"RTMR0"`, `"RTMR3":"`+zero+`","RTMR0"`, 1)), "--event-log", file("log.json", log)}, "the registers say 0000"},
		{"compose without log", []string{registers, "--compose", compose}, "needs --event-log"},
		{"no log", []string{registers, "--event-log", file("bad.json", "{}")}, "no list of events"},
		{"SGX by registers", []string{file("sgx.json", `{"class":"sgx","registers":{}}`)}, "gramine-sgx-sign"},
		{"unknown member", []string{file("x.json", `{"class":"sgx","register":{}}`)}, "unknown field"},
		{"no registers", []string{file("n.json", `{"class":"tdx"}`)}, "no \"registers\""},
		{"not evidence", []string{file("e.bin", "PEV\x01zz")}, string(fault.EvidenceMalformed)},
	} {
		_, _, err := phala(t, append([]string{"measure"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	measureFromMachine(t, dir)
	if _, _, err := phala(t, "measure", file("short.sig", "x")); !errors.Is(err, measure.ErrMalformed) {
		t.Errorf("no signature structure: %v", err)
	}
}

// measureFromMachine measures what a machine gives: evidence, and quotes and reports as they
// come from the hardware, with the rest from the vendor's services.
func measureFromMachine(t *testing.T, dir string) {
	now := time.Now()
	n, err := simulator.NewNetwork(now, false) // without SNP, whose keys take seconds; package pcs has it
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.NewMachine(now)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := n.Roots()
	if err != nil {
		t.Fatal(err)
	}
	service := &simulator.Service{Network: n, Machines: []*simulator.Machine{m}, Publish: func(tee attest.TEE, _ simulator.Edition) (*attest.Collateral, error) {
		return n.Collateral(n.Publication(tee, now, simulator.State{}))
	}}
	server := httptest.NewServer(service.Handler())
	defer server.Close()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trust := write("roots.bin", roots)
	for _, tee := range []attest.TEE{attest.SGX, attest.TDX} {
		ev, err := m.Evidence(tee, []byte{1, 2}, [64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		want, err := simulator.Measurement(tee, []byte{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		full := ev
		if full.Collateral, err = service.Publish(tee, simulator.Edition{}); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"evidence": full.Marshal(), "without collateral": ev.Marshal(), "raw": ev.Report} {
			file := write("evidence.bin", b)
			out, _, err := phala(t, "measure", file, "--simulated-roots", trust, "--pccs", server.URL, "--kds", server.URL)
			if err != nil || !strings.Contains(out, hex.EncodeToString(want[:])) || !strings.Contains(out, "simulated: nothing is protected") {
				t.Errorf("%s %s: %v\n%s", tee, name, err, out)
			}
			if _, _, err := phala(t, "measure", file, "--pccs", server.URL, "--kds", server.URL); err == nil {
				t.Errorf("%s %s: accepted under the vendors' roots", tee, name)
			}
		}
	}
}
