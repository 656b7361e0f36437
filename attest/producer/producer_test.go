package producer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/attest/snp"
)

// The imitations of the hardware's interfaces sign with the simulator, whose
// evidence has the formats of real one.

var (
	ctx     = context.Background()
	testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	data    = [64]byte{1, 2, 3, 63: 4}
)

type hardware struct {
	network *simulator.Network
	machine *simulator.Machine
	roots   attest.Roots
}

var newHardware = sync.OnceValue(func() *hardware {
	n, err := simulator.NewNetwork(testNow, true)
	if err != nil {
		panic(err)
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		panic(err)
	}
	b, err := n.Roots()
	if err != nil {
		panic(err)
	}
	roots, err := attest.SimulatedRoots(b)
	if err != nil {
		panic(err)
	}
	return &hardware{n, m, roots}
})

func (h *hardware) sign(tee attest.TEE, reportData [64]byte) attest.Evidence {
	e, err := h.machine.Evidence(tee, []byte("software"), reportData)
	if err != nil {
		panic(err)
	}
	return e
}

// accepted checks that what a producer gave verifies, with collateral that
// comes from elsewhere.
func (h *hardware) accepted(t *testing.T, e attest.Evidence) {
	t.Helper()
	if e.Collateral != nil {
		t.Fatal("hardware gave collateral")
	}
	c, err := h.network.Collateral(h.network.Publication(e.TEE, testNow, simulator.State{}))
	if err != nil {
		t.Fatal(err)
	}
	e.Collateral = c
	v, err := attest.Verify(e, h.roots, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if v.ReportData != data {
		t.Fatalf("report data %x", v.ReportData)
	}
}

// fakeFiles is a file system whose files are made by functions.
type fakeFiles struct {
	mu      sync.Mutex
	dirs    map[string]bool
	content map[string][]byte
	read    func(f *fakeFiles, path string) ([]byte, error)
	write   func(f *fakeFiles, path string, data []byte) error
}

func (f *fakeFiles) Mkdir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dirs[filepath.Dir(path)] {
		return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrNotExist}
	}
	f.dirs[path] = true
	return nil
}

func (f *fakeFiles) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dirs[path] {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	delete(f.dirs, path)
	return nil
}

func (f *fakeFiles) ReadFile(path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read(f, path)
}

func (f *fakeFiles) WriteFile(path string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.write(f, path, data)
}

func absent(path string) ([]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// tsm imitates configfs-tsm: per directory an inblob, and what the provider
// makes of it.
type tsm struct {
	fakeFiles
	provider   string
	generation int
	edit       func([]byte) []byte
	aux        []byte
}

func newTSM(provider string) *tsm {
	h := newHardware()
	m := &tsm{provider: provider}
	m.dirs, m.content = map[string]bool{tsmDir: true}, map[string][]byte{}
	m.write = func(f *fakeFiles, path string, b []byte) error {
		if !f.dirs[filepath.Dir(path)] || filepath.Base(path) != "inblob" || len(b) > 64 {
			return errors.New("invalid argument")
		}
		f.content[path] = bytes.Clone(b)
		m.generation++
		return nil
	}
	m.read = func(f *fakeFiles, path string) ([]byte, error) {
		dir := filepath.Dir(path)
		if !f.dirs[dir] {
			return absent(path)
		}
		switch filepath.Base(path) {
		case "provider":
			return []byte(m.provider + "\n"), nil
		case "generation":
			return fmt.Appendf(nil, "%d\n", m.generation), nil
		case "auxblob":
			if m.aux == nil {
				return absent(path)
			}
			return m.aux, nil
		case "outblob":
			in, ok := f.content[dir+"/inblob"]
			if !ok {
				return nil, errors.New("no inblob")
			}
			tee := attest.TDX
			if m.provider == "sev_guest" {
				tee = attest.SNP
			}
			report := h.sign(tee, [64]byte(in)).Report
			if m.edit != nil {
				report = m.edit(report)
			}
			return report, nil
		}
		return absent(path)
	}
	return m
}

// certificateTable is a host's table with these entries.
func certificateTable(entries map[string][]byte) []byte {
	head := (len(entries) + 1) * tableEntrySize
	var table, body []byte
	for guid, cert := range entries {
		id, err := hex.DecodeString(strings.ReplaceAll(guid, "-", ""))
		if err != nil {
			panic(err)
		}
		table = append(table, id...)
		table = binary.LittleEndian.AppendUint32(table, uint32(head+len(body)))
		table = binary.LittleEndian.AppendUint32(table, uint32(len(cert)))
		body = append(body, cert...)
	}
	table = append(table, make([]byte, tableEntrySize)...)
	return append(table, body...)
}

const (
	textVCEK = "63da758d-e664-4564-adc5-f4b93be8accd"
	textASK  = "4ab7b379-bbac-4fe4-a02f-05aef327c782"
)

func TestConfigFS(t *testing.T) {
	h := newHardware()
	t.Run("TDX", func(t *testing.T) {
		m := newTSM("tdx_guest")
		m.edit = func(b []byte) []byte { return append(b, make([]byte, 3000)...) } // padded, as some kernels do
		p, err := Open(ctx, "configfs", Options{files: m})
		if err != nil {
			t.Fatal(err)
		}
		if p.TEE() != attest.TDX || p.Name() != "configfs" || p.Simulated() {
			t.Fatal(p.TEE(), p.Name())
		}
		e, err := p.Evidence(ctx, data)
		if err != nil {
			t.Fatal(err)
		}
		h.accepted(t, e)
		if len(m.dirs) != 1 {
			t.Fatalf("report directories left behind: %v", m.dirs)
		}
		if _, err := p.SealingKey(ctx, nil); !errors.Is(err, ErrNoSealing) {
			t.Fatal(err)
		}
	})
	vcek := h.machine.VCEK.Cert.Raw
	for name, table := range map[string][]byte{
		"DER": certificateTable(map[string][]byte{textASK: {1, 2}, textVCEK: vcek}),
		"PEM": certificateTable(map[string][]byte{textVCEK: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vcek})}),
	} {
		t.Run("SNP, certificate in the host's table, "+name, func(t *testing.T) {
			m := newTSM("sev_guest")
			m.aux = table
			p, err := Open(ctx, "configfs", Options{files: m})
			if err != nil {
				t.Fatal(err)
			}
			e, err := p.Evidence(ctx, data)
			if err != nil {
				t.Fatal(err)
			}
			h.accepted(t, e)
		})
	}
	for name, given := range map[string][]byte{"DER": vcek, "PEM": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vcek})} {
		t.Run("SNP, certificate given, "+name, func(t *testing.T) {
			p, err := Open(ctx, "configfs", Options{files: newTSM("sev_guest"), VCEK: given})
			if err != nil {
				t.Fatal(err)
			}
			e, err := p.Evidence(ctx, data)
			if err != nil {
				t.Fatal(err)
			}
			h.accepted(t, e)
		})
	}
	t.Run("SNP, no certificate: the error says where it is", func(t *testing.T) {
		p, err := Open(ctx, "configfs", Options{files: newTSM("sev_guest")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Evidence(ctx, data)
		r, perr := snp.ParseReport(h.sign(attest.SNP, data).Report)
		if perr != nil {
			t.Fatal(perr)
		}
		if err == nil || !strings.Contains(err.Error(), "https://kdsintf.amd.com"+r.VCEKPath(snp.Milan)) || !strings.Contains(err.Error(), "--vcek") {
			t.Error(err)
		}
	})
	beyond := certificateTable(map[string][]byte{textVCEK: vcek})
	for _, c := range []struct {
		name string
		want error
		edit func(*tsm)
	}{
		{"no table", ErrNoVCEK, func(m *tsm) {}},
		{"empty table", ErrNoVCEK, func(m *tsm) { m.aux = make([]byte, 4096) }},
		{"table without VCEK", ErrNoVCEK, func(m *tsm) { m.aux = certificateTable(map[string][]byte{textASK: {1}}) }},
		{"table cut", ErrAnswer, func(m *tsm) { m.aux = beyond[:len(beyond)-1] }},
		{"other report data", ErrAnswer, func(m *tsm) {
			m.aux = beyond
			m.edit = func([]byte) []byte { return h.sign(attest.SNP, [64]byte{9}).Report }
		}},
		{"no report", ErrAnswer, func(m *tsm) {
			m.aux = beyond
			m.edit = func([]byte) []byte { return []byte("error") }
		}},
		{"changed meanwhile", ErrAnswer, func(m *tsm) {
			m.aux = beyond
			m.edit = func(b []byte) []byte { m.generation++; return b }
		}},
	} {
		m := newTSM("sev_guest")
		c.edit(m)
		p, err := Open(ctx, "configfs", Options{files: m})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Evidence(ctx, data); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if len(m.dirs) != 1 {
			t.Errorf("%s: report directories left behind: %v", c.name, m.dirs)
		}
	}
	if _, err := Open(ctx, "configfs", Options{files: newTSM("arm_cca_guest")}); !errors.Is(err, ErrAnswer) {
		t.Error("unknown provider:", err)
	}
	m := newTSM("tdx_guest")
	m.dirs = map[string]bool{}
	if _, err := Open(ctx, "configfs", Options{files: m}); !errors.Is(err, ErrNoTEE) {
		t.Error("no configfs:", err)
	}
}

// newGramine imitates /dev/attestation.
func newGramine(kind string) *fakeFiles {
	h := newHardware()
	f := &fakeFiles{dirs: map[string]bool{}, content: map[string][]byte{}}
	f.write = func(f *fakeFiles, path string, b []byte) error {
		if path != gramineDir+"/user_report_data" && path != gramineDir+"/target_info" || len(b) != map[string]int{"user_report_data": 64, "target_info": 512}[path[len(gramineDir)+1:]] {
			return errors.New("invalid argument")
		}
		f.content[path] = bytes.Clone(b)
		return nil
	}
	f.read = func(f *fakeFiles, path string) ([]byte, error) {
		switch path {
		case gramineDir + "/attestation_type":
			return []byte(kind), nil
		case gramineDir + "/quote":
			return h.sign(attest.SGX, [64]byte(f.content[gramineDir+"/user_report_data"])).Report, nil
		case gramineDir + "/my_target_info":
			return make([]byte, 512), nil
		case gramineDir + "/report":
			if f.content[gramineDir+"/target_info"] == nil {
				return nil, errors.New("no target")
			}
			quote := h.sign(attest.SGX, [64]byte(f.content[gramineDir+"/user_report_data"])).Report
			report := append(bytes.Clone(quote[48:48+384]), make([]byte, 48)...)
			if edit, ok := f.content["report"]; ok {
				report = report[:int(edit[0])*2]
				report[int(edit[1])] ^= edit[2]
			}
			return report, nil
		case gramineDir + "/keys/_sgx_mrenclave":
			if key, ok := f.content["key"]; ok {
				return key, nil
			}
			return bytes.Repeat([]byte{7}, 16), nil
		}
		return absent(path)
	}
	return f
}

func TestGramine(t *testing.T) {
	h, files := newHardware(), newGramine("dcap")
	p, err := Open(ctx, "gramine", Options{files: files})
	if err != nil {
		t.Fatal(err)
	}
	if p.TEE() != attest.SGX || p.Name() != "gramine" || p.Simulated() {
		t.Fatal(p.TEE(), p.Name())
	}
	e, err := p.Evidence(ctx, data)
	if err != nil {
		t.Fatal(err)
	}
	h.accepted(t, e)
	a, err := p.SealingKey(ctx, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.SealingKey(ctx, []byte("b"))
	if err != nil || a == b {
		t.Fatal("one key for two labels", err)
	}
	if again, err := p.SealingKey(ctx, []byte("a")); err != nil || again != a {
		t.Fatal("the key changed", err)
	}
	if got := hex.EncodeToString(a[:]); got != goldenGramineKey {
		t.Errorf("sealing key %s, frozen %s: sealed files of existing workers would not open", got, goldenGramineKey)
	}
	// Requests at once do not mix: user_report_data is one file.
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if _, err := p.Evidence(ctx, [64]byte{byte(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	// The host's quote is of another enclave, or there is no report to compare it with.
	for name, edit := range map[string][]byte{"another enclave": {216, 64, 1}, "other attributes": {216, 48, 1}, "a short report": {192, 0, 0}} {
		files.content["report"] = edit
		if _, err := p.Evidence(ctx, data); !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), "not of this enclave") {
			t.Errorf("%s: %v", name, err)
		}
	}
	delete(files.content, "report")
	files.content["key"] = make([]byte, 15)
	if _, err := p.SealingKey(ctx, nil); !errors.Is(err, ErrAnswer) {
		t.Error("short key:", err)
	}
	for _, kind := range []string{"none", "epid", ""} {
		if _, err := Open(ctx, "gramine", Options{files: newGramine(kind)}); !errors.Is(err, ErrAnswer) {
			t.Errorf("attestation type %q: %v", kind, err)
		}
	}
}

// newAgent imitates dstack's guest agent below a directory that stands for the
// file system's root.
func newAgent(t *testing.T, socket string, edit func(string) any) string {
	t.Helper()
	h := newHardware()
	parent := ""
	if len(os.TempDir()) > 60 {
		parent = "/tmp"
	}
	root, err := os.MkdirTemp(parent, "d") // t.TempDir's paths may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	path := filepath.Join(root, socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	mux.HandleFunc("POST /Info", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"app_id": "86e5", "instance_id": "d378", "tcb_info": "{}"})
	})
	mux.HandleFunc("POST /GetQuote", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			ReportData string `json:"report_data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b, err := hex.DecodeString(in.ReportData)
		if err != nil || len(b) != 64 {
			http.Error(w, "report_data", http.StatusBadRequest)
			return
		}
		quote := hex.EncodeToString(h.sign(attest.TDX, [64]byte(b)).Report)
		if edit != nil {
			answer(w, edit(quote))
			return
		}
		answer(w, map[string]any{"quote": quote, "event_log": "[]", "report_data": in.ReportData, "vm_config": "{}"})
	})
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return root
}

// connections counts this process's open ones to a socket's path.
func connections(t *testing.T, path string) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(files) == 0 {
		t.Skip("this system does not list a process's files")
	}
	for _, f := range files {
		fd, err := strconv.Atoi(filepath.Base(f))
		if err != nil {
			t.Fatal(err)
		}
		if peer, err := unix.Getpeername(fd); err == nil {
			if u, ok := peer.(*unix.SockaddrUnix); ok && u.Name == path {
				n++
			}
		}
	}
	return n
}

// TestNoConnectionStays: a worker's process opens the interface to learn what it is, and
// then gives up what would let it reach the agent. A connection left open would be a way
// to evidence about anything.
func TestNoConnectionStays(t *testing.T) {
	root := newAgent(t, dstackSockets[0], nil)
	path := filepath.Join(root, dstackSockets[0])
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if n := connections(t, path); n != 1 {
		t.Fatalf("%d connections are seen of one", n)
	}
	c.Close()
	// One whose end the client did not wait for is closed a moment later; one that stays, never.
	gone := func(after string) {
		t.Helper()
		n := connections(t, path)
		for end := time.Now().Add(time.Minute); n != 0 && time.Now().Before(end); n = connections(t, path) {
			time.Sleep(time.Millisecond)
		}
		if n != 0 {
			t.Errorf("%d connections stay open after %s", n, after)
		}
	}
	p, err := Open(ctx, "dstack", Options{root: root})
	if err != nil {
		t.Fatal(err)
	}
	gone("Open")
	if _, err := p.Evidence(ctx, data); err != nil {
		t.Fatal(err)
	}
	gone("Evidence")
}

func TestDstack(t *testing.T) {
	h := newHardware()
	for _, socket := range dstackSockets {
		p, err := Open(ctx, "dstack", Options{root: newAgent(t, socket, nil)})
		if err != nil {
			t.Fatal(socket, err)
		}
		if p.TEE() != attest.TDX || p.Name() != "dstack" || p.Simulated() {
			t.Fatal(p.TEE(), p.Name())
		}
		e, err := p.Evidence(ctx, data)
		if err != nil {
			t.Fatal(err)
		}
		h.accepted(t, e)
		if _, err := p.SealingKey(ctx, nil); !errors.Is(err, ErrNoSealing) {
			t.Fatal(err)
		}
	}
	root := newAgent(t, "/elsewhere.sock", nil)
	if _, err := Open(ctx, "dstack:"+filepath.Join(root, "elsewhere.sock"), Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, "dstack", Options{root: root}); !errors.Is(err, ErrNoTEE) {
		t.Fatal("agent found where it is not looked for:", err)
	}
	other := hex.EncodeToString(h.sign(attest.TDX, [64]byte{9}).Report)
	for name, edit := range map[string]func(string) any{
		"other report data": func(string) any { return map[string]string{"quote": other} },
		"no quote":          func(string) any { return map[string]string{} },
		"no hexadecimal":    func(string) any { return map[string]string{"quote": "xyz"} },
		"an SGX quote": func(string) any {
			return map[string]string{"quote": hex.EncodeToString(h.sign(attest.SGX, data).Report)}
		},
		"no object": func(string) any { return "quote" },
		"too much":  func(q string) any { return map[string]string{"quote": strings.Repeat("00", maxAnswer)} },
	} {
		p, err := Open(ctx, "dstack", Options{root: newAgent(t, dstackSockets[0], edit)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Evidence(ctx, data); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDstackIgnoresEnvironment: dstack's tools go to a simulator when this
// variable is set; a worker does not.
func TestDstackIgnoresEnvironment(t *testing.T) {
	t.Setenv("DSTACK_SIMULATOR_ENDPOINT", filepath.Join(newAgent(t, "/s.sock", nil), "s.sock"))
	if _, err := Open(ctx, "dstack", Options{root: t.TempDir()}); !errors.Is(err, ErrNoTEE) {
		t.Fatal(err)
	}
}

func TestAuto(t *testing.T) {
	none := &fakeFiles{dirs: map[string]bool{}, read: func(_ *fakeFiles, path string) ([]byte, error) { return absent(path) }}
	empty := t.TempDir()
	for _, c := range []struct {
		name string
		o    Options
		want string
		err  error
	}{
		{"dstack before everything", Options{root: newAgent(t, dstackSockets[0], nil), files: newTSM("tdx_guest")}, "dstack", nil},
		{"configfs", Options{root: empty, files: newTSM("tdx_guest")}, "configfs", nil},
		{"gramine", Options{root: empty, files: newGramine("dcap")}, "gramine", nil},
		{"nothing", Options{root: empty, files: none}, "", ErrNoTEE},
		{"one that does not work is an error", Options{root: empty, files: newTSM("new_guest")}, "", ErrAnswer},
	} {
		p, err := Open(ctx, "auto", c.o)
		if !errors.Is(err, c.err) || err == nil && p.Name() != c.want {
			t.Errorf("%s: %v, %v", c.name, p, err)
		}
	}
	// Not even a simulator on the very machine is found by itself.
	_, err := Open(ctx, "auto", Options{root: empty, files: none})
	if err == nil || !strings.Contains(err.Error(), "simulator must be named") {
		t.Error(err)
	}
	for _, spec := range []string{"", "simulated", "tdx", "simulator", "simulator:", "simulator:unix:/nonexistent", "simulator:10.0.0.1:80", "simulator:example.com:80"} {
		if _, err := Open(ctx, spec, Options{root: empty, files: none}); !errors.Is(err, ErrNoTEE) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

// TestSimulatorClient against something that is no simulator.
func TestSimulatorClient(t *testing.T) {
	h := newHardware()
	evidence := h.sign(attest.TDX, [64]byte{9}).Marshal()
	serve := func(info, answer any) Producer {
		mux := http.NewServeMux()
		mux.HandleFunc("/info", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(info) })
		mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(answer) })
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: mux}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close() })
		p, err := Open(ctx, "simulator:"+l.Addr().String(), Options{})
		if err != nil {
			if !errors.Is(err, ErrAnswer) {
				t.Error(err)
			}
			return nil
		}
		return p
	}
	type m = map[string]any
	good := m{"class": "tdx", "simulated": true}
	for name, info := range map[string]any{"no class": m{"simulated": true}, "not simulated": m{"class": "tdx"}, "no object": "x"} {
		if p := serve(info, nil); p != nil {
			t.Errorf("%s: accepted as a simulator", name)
		}
	}
	for name, answer := range map[string]any{
		"nothing":           m{},
		"no base64":         m{"evidence": "%%"},
		"no evidence":       m{"evidence": []byte("x")},
		"another class":     m{"evidence": h.sign(attest.SGX, data).Marshal()},
		"other report data": m{"evidence": evidence},
	} {
		p := serve(good, answer)
		if p == nil {
			t.Fatal("simulator refused")
		}
		if _, err := p.Evidence(ctx, data); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.SealingKey(ctx, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: sealing key: %v", name, err)
		}
	}
}

func FuzzFindVCEK(f *testing.F) {
	f.Add(certificateTable(map[string][]byte{textASK: {1}, textVCEK: {2, 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		cert, err := findVCEK(b)
		if (err == nil) == (len(cert) == 0) && !bytes.Contains(b, []byte("BEGIN")) {
			t.Fatal("result and error disagree")
		}
	})
}

// goldenGramineKey freezes the derivation of sealing keys: HKDF-SHA256 of
// sixteen bytes 7 without salt, label "a".
const goldenGramineKey = "62319ad4aa0a9140cd0bd30bb552dafd7eae94c71fe667aacc0a92127555296c"
