package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/proto"
)

// The test program is also the programs that the tests are about: its first argument says
// which.
const (
	asKeyring = "as-keyring"
	asWorker  = "as-worker" // config, folder that is not its own
	asVictim  = "as-victim" // says that it is there, and waits
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case asKeyring:
			err = Main()
		case asWorker:
			err = attack(os.Args[2], os.Args[3])
		case asVictim:
			fmt.Println("here")
			_, err = io.Copy(io.Discard, os.Stdin)
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveTEE serves the world's simulated TEE and returns where it is found.
func (w *world) serveTEE() TEE {
	w.t.Helper()
	s := httptest.NewServer((&simulator.Server{Store: w.tee.store, Machine: w.tee.machine, TEE: attest.TDX, Measurement: []byte(w.tee.build), Now: func() time.Time { return start }}).Handler())
	w.t.Cleanup(s.Close)
	return TEE{Interface: "simulator:" + strings.TrimPrefix(s.URL, "http://")}
}

// start starts the world's keyring as a process.
func (w *world) start(tee TEE) (*Ring, error) {
	return Start(context.Background(), w.cfg, tee, asKeyring)
}

// TestProcess: the keyring of another process is the one of this, from its identity to what
// it opens; the identity is made by one and found by the other.
func TestProcess(t *testing.T) {
	w := newWorld(t)
	r, err := w.start(w.serveTEE())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if fmt.Sprint(r.Info) != fmt.Sprint(w.r.Info) || r.Place != OwnProcess {
		t.Errorf("%s: %+v, in this process %+v", r.Place, r.Info, w.r.Info)
	}
	w.r = r
	stable, key, blind := w.secrets(4)
	if got := w.release(4); got.Stable != stable || got.Blind != blind || got.Public != key.Public() {
		t.Error("the release opens to other keys")
	}
	s := w.session()
	q := seal(t, proto.QueryContext(chain), s, []byte("question"))
	plain, reply, _, err := r.OpenQuery(context.Background(), q.Envelope)
	if err != nil || string(plain) != "question" {
		t.Fatal(err)
	}
	answers(t, "query", reply, proto.QueryContext(chain), q.key, s)
	if _, _, ev, err := r.Register(context.Background(), s, 1, 1, proto.Hash{}, 0, nil); err != nil || len(ev) == 0 {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	<-r.Gone()
}

// TestProcessDoesNotStart: why it did not is told to the worker, with its class.
func TestProcessDoesNotStart(t *testing.T) {
	w := newWorld(t)
	tee := w.serveTEE()
	other := *w
	other.cfg.Operator = []byte("else")
	_, err := other.start(tee)
	wantError(t, "another operator", err, ErrIdentity)
	if _, err = w.start(TEE{Interface: "nothing"}); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("no TEE: %v", err)
	}
	// Started by hand it has nobody to talk to.
	out, err := exec.Command("/proc/self/exe", asKeyring).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "starts it by itself") {
		t.Errorf("by hand: %v: %s", err, out)
	}
}

// TestKilledKeyring: the worker hears of it at once, and gets nothing but ErrGone.
func TestKilledKeyring(t *testing.T) {
	w := newWorld(t)
	r, err := w.start(w.serveTEE())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// What a terminal or a service manager sends to the whole group ends the worker only.
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(r.pid, s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.NewSession(); err != nil {
		t.Fatalf("after a signal to the group: %v", err)
	}
	if err := syscall.Kill(r.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Gone()
	_, err = r.NewSession()
	wantError(t, "killed", err, ErrGone)
}

// What a worker reports that was taken over: what it tried, and how it failed.
type report struct {
	Keyring    int               // process id
	Before     map[string]string // on a process like itself, without Confine: "" where it worked
	Unconfined map[string]string // on the keyring, without it
	After      map[string]string // on the keyring, with it
	Gaps       []string
	Status     []string // of every thread
	Works      string   // what does not work that should
}

// attack is the process of a worker that an attacker has. It reports on its output, and
// then waits until it is ended.
func attack(config, outside string) error {
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	cfg, tee, err := parseStart(b)
	if err != nil {
		return err
	}
	r, err := Start(context.Background(), cfg, tee, asKeyring)
	if err != nil {
		return err
	}
	victim := exec.Command("/proc/self/exe", asVictim)
	victim.ExtraFiles = []*os.File{os.Stderr}
	in, err := victim.StdinPipe()
	if err != nil {
		return err
	}
	here, err := victim.StdoutPipe()
	if err == nil {
		err = victim.Start()
	}
	if err == nil {
		// A process has started before its program is in its memory.
		_, err = here.Read(make([]byte, 1))
	}
	if err != nil {
		return err
	}
	out := report{Keyring: r.pid, Before: try(victim.Process.Pid, outside)}
	in.Close()
	victim.Wait()
	if os.Geteuid() != 0 {
		out.Unconfined = try(r.pid, outside)
	}
	if out.Gaps, err = Confine(cfg.DataDir); err != nil {
		return err
	}
	out.After = try(r.pid, outside)
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	for _, f := range threads {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended meanwhile
		}
		var lines []string
		for _, l := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(l, "Cap") && !strings.HasPrefix(l, "CapBnd") || strings.HasPrefix(l, "NoNewPrivs") {
				lines = append(lines, l)
			}
		}
		out.Status = append(out.Status, strings.NewReplacer("\t", " ", "0000000000000000", "0").Replace(strings.Join(lines, " ")))
	}
	if err := useful(r, cfg.DataDir); err != nil {
		out.Works = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// useful is what a confined worker still has to do.
func useful(r *Ring, data string) error {
	_, err := r.NewSession()
	file := filepath.Join(data, "checkpoint")
	_, rerr := os.ReadFile("/etc/passwd")
	socket, serr := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	pages, perr := os.Open("/proc/self/pagemap")
	if perr == nil {
		_, perr = pages.ReadAt(make([]byte, 8), 8*int64(mark()/uintptr(os.Getpagesize())))
		pages.Close()
	} else if errors.Is(perr, os.ErrNotExist) {
		perr = nil // a kernel without it, where nobody reads it
	}
	unix.Close(socket)
	return errors.Join(err, os.WriteFile(file, []byte("x"), 0o600), os.Rename(file, file+"2"), os.Remove(file+"2"), rerr, serr, perr)
}

// mark is an address that is mapped in every process of this program.
func mark() uintptr { return reflect.ValueOf(TestMain).Pointer() }

// try attacks a process, and the machine around it, and says how each attempt failed.
func try(pid int, outside string) map[string]string {
	out := map[string]string{}
	note := func(what string, err error) {
		out[what] = ""
		if err != nil {
			out[what] = err.Error()
		}
	}
	proc := func(name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
	page := make([]byte, 16)
	read := func(name string) error {
		f, err := os.Open(proc(name))
		if err == nil {
			_, err = f.ReadAt(page, int64(mark()))
			f.Close()
		}
		return err
	}
	note("read its memory", read("mem"))
	f, err := os.OpenFile(proc("mem"), os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	note("write its memory", err)
	_, err = unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &page[0], Len: uint64(len(page))}}, []unix.RemoteIovec{{Base: mark(), Len: len(page)}}, 0)
	note("read its memory with process_vm_readv", err)
	_, err = os.ReadFile(proc("maps"))
	note("read its map", err)
	_, err = os.Readlink(proc("fd/3"))
	note("look at its files", err)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		var fd int
		if fd, err = unix.PidfdGetfd(pidfd, firstLane, 0); err == nil {
			unix.Close(fd)
		}
		unix.Close(pidfd)
	}
	note("take its end of the socket", err)
	err = unix.PtraceSeize(pid) // let go when this process ends
	note("trace it", err)
	note("write a file elsewhere", os.WriteFile(outside, []byte("x"), 0o600))
	note("run a program", exec.Command("/proc/self/exe", asVictim).Run())
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(socket)
	}
	note("speak to a daemon", err)
	note("speak to a daemon from an end of a pair", datagram())
	note("speak to a device", device())
	note("watch a processor", perf())
	return out
}

// datagram sends to a name with one end of a pair of sockets, which needs no call of
// socket. Nobody listens there: that nobody does is the answer of a kernel that let it try.
func datagram() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	err = unix.Sendto(pair[0], []byte("x"), 0, &unix.SockaddrUnix{Name: "@phala-nobody"})
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return err
}

// device asks a device for what none does, over a file that is open for reading only:
// SEV-SNP's gives evidence that way. That it does not know this is the answer of one that
// was asked.
func device() error {
	f, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := unix.IoctlGetInt(int(f.Fd()), 0x5048); !errors.Is(err, unix.ENOTTY) {
		return err
	}
	return nil
}

// errNoPerf: this system gives no performance events, to nobody or not to such a user.
var errNoPerf = errors.New("no performance events")

// perf opens a performance event of this process, which is refused with those of others.
func perf() error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
	attr.Size = uint32(unsafe.Sizeof(attr))
	b, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil || strings.TrimSpace(string(b)) > "2" && os.Geteuid() != 0 {
		return errNoPerf
	}
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// withheld is what keeps this process from an attack on any other, so that it is not shown
// that the keyring withstands it: a container's filter of system calls, say. It is empty on
// a usual machine.
func withheld() string {
	b, _ := os.ReadFile("/proc/self/status")
	yama, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	switch {
	case bytes.Contains(b, []byte("\nSeccomp:\t2\n")):
		return "a filter of system calls"
	case strings.TrimSpace(string(yama)) > "1":
		return "kernel.yama.ptrace_scope"
	}
	return ""
}

// nobody is the user that has nothing.
const nobody = 65534

// takeOver starts a worker that an attacker has and returns its report. As root, it may be
// given to nobody.
func takeOver(t *testing.T, drop bool) (*report, *exec.Cmd) {
	t.Helper()
	w := newWorld(t)
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w.cfg.DataDir = filepath.Join(dir, "data")
	w.open()
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, marshalStart(&w.cfg, w.serveTEE()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", asWorker, config, filepath.Join(dir, "outside"))
	if drop && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, nobody, nobody))
		})
		if errors.Is(err, os.ErrPermission) {
			t.Skip("this root may not give files away: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if errors.Is(err, os.ErrPermission) && cmd.SysProcAttr != nil {
		t.Skip("this root may not become another user, or that one may not run the test's program: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	var r report
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		cmd.Wait()
		if strings.Contains(stderr.String(), unix.ENOTSUP.Error()) {
			t.Skip("this test is built with cgo, which pruntime is not: CGO_ENABLED=0 makes it run")
		}
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return &r, cmd
}

// TestStolenWorkerCannotReachTheKeys: a worker's process, with everything that root may
// have, runs an attacker's code. Each attempt works on a process like itself before, and
// on the keyring does not.
func TestStolenWorkerCannotReachTheKeys(t *testing.T) {
	r, _ := takeOver(t, false)
	t.Logf("without: %v", r.Gaps)
	for what, failed := range r.After {
		lacks := map[string]string{"write a file elsewhere": "Landlock", "speak to a daemon": "seccomp", "speak to a daemon from an end of a pair": "seccomp", "speak to a device": "seccomp", "watch a processor": "seccomp", "run a program": "seccomp"}[what]
		if failed == "" && (lacks == "" || !slices.Contains(r.Gaps, lacks)) {
			t.Errorf("it could %s", what)
		}
	}
	var absent []string
	for what, failed := range r.Before {
		switch {
		case failed == "" || failed == errNoPerf.Error():
		case withheld() != "" || failed == unix.ENOSYS.Error():
			absent = append(absent, what+": "+failed)
		default:
			t.Errorf("the attempt to %s is none: it fails on any process: %s", what, failed)
		}
	}
	if len(r.Before) != 13 || len(r.After) != len(r.Before) || len(r.Status) < 2 {
		t.Errorf("%d and %d attempts, %d threads", len(r.Before), len(r.After), len(r.Status))
	}
	for _, s := range r.Status {
		if s != "CapInh: 0 CapPrm: 0 CapEff: 0 CapAmb: 0 NoNewPrivs: 1" {
			t.Errorf("a thread has %q", s)
		}
	}
	if r.Works != "" {
		t.Errorf("a confined worker cannot do its work: %s", r.Works)
	}
	if len(absent) > 0 && !t.Failed() {
		t.Skipf("this system lets no process try to %s (%s)", strings.Join(absent, ", "), withheld())
	}
}

// atHome reports whether an attempt is not on the keyring but on what is around it.
func atHome(what string) bool {
	return what == "write a file elsewhere" || what == "run a program" || what == "watch a processor" || strings.HasPrefix(what, "speak to a")
}

// TestOtherProcessesCannotReachTheKeys: without confinement of its own, another process of
// the same user gets nothing out of the keyring's, unless it is root.
func TestOtherProcessesCannotReachTheKeys(t *testing.T) {
	r, _ := takeOver(t, true)
	if len(r.Unconfined) != 13 {
		t.Fatalf("%d attempts", len(r.Unconfined))
	}
	for what, failed := range r.Unconfined {
		if atHome(what) && failed != "" && (failed == errNoPerf.Error() || withheld() != "") {
			continue
		}
		if (failed == "") != atHome(what) {
			t.Errorf("to %s: %q", what, failed)
		}
	}
}

// TestKilledWorkerEndsItsKeyring: nobody is left with the keys.
func TestKilledWorkerEndsItsKeyring(t *testing.T) {
	r, cmd := takeOver(t, false)
	fd, err := unix.PidfdOpen(r.Keyring, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ended, 300_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Errorf("the keyring goes on without its worker: %v", err)
		}
		return
	}
}
