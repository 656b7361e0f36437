package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/phala-go/phala/attest/producer"
)

// Supported: this system keeps two processes of one user apart.
const Supported = true

// firstLane is the keyring's first file descriptor of them.
const firstLane = 3

// Start runs a keyring in a process of its own: this program again, with args, which must
// bring it to Main. The process ends with this one.
func Start(ctx context.Context, cfg Config, tee TEE, args ...string) (*Ring, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	// No dump of goroutines, whatever ends it: their arguments may be secrets.
	cmd.Env = []string{"GOTRACEBACK=none"}
	cmd.Stderr = os.Stderr
	var mine []io.ReadWriter
	hangUp := func() {
		for _, l := range mine {
			f := l.(*os.File)
			unix.Shutdown(int(f.Fd()), unix.SHUT_RDWR) // wakes whoever reads
			f.Close()
		}
	}
	defer func() {
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}()
	for range lanes {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			hangUp()
			return nil, fmt.Errorf("keyring: %w", err)
		}
		mine, cmd.ExtraFiles = append(mine, os.NewFile(uintptr(fds[0]), "keyring")), append(cmd.ExtraFiles, os.NewFile(uintptr(fds[1]), "keyring"))
	}
	if err := cmd.Start(); err != nil {
		hangUp()
		return nil, fmt.Errorf("keyring: start its process: %w", err)
	}
	c := newCaller(mine)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
		c.lost()
	}()
	var once sync.Once
	r := &Ring{Place: OwnProcess, chain: cfg.Chain, do: c.do, gone: c.gone, pid: cmd.Process.Pid, stop: func() error {
		once.Do(hangUp)
		<-ended
		return nil
	}}
	b, err := c.do(ctx, marshalStart(&cfg, tee))
	if err == nil {
		r.Info, err = parseInfo(b)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Main is the keyring's process. It returns when the worker's has ended, or hung up.
func Main() error {
	// What reaches the whole group of processes, as Ctrl-C does, is for the worker.
	signal.Ignore()
	var all []*os.File
	for i := range lanes {
		f := os.NewFile(uintptr(firstLane+i), "keyring")
		if _, err := unix.GetsockoptInt(firstLane+i, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
			return errors.New("keyring: this is a part of pruntime, which starts it by itself")
		}
		all = append(all, f)
	}
	// The first request is for all lanes.
	body, err := readFrame(all[0])
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	k, err := begin(body)
	if err != nil {
		return writeFrame(all[0], failure(err)) // the worker says it
	}
	if err := writeFrame(all[0], k.info.marshal()); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	done := make(chan error)
	for _, f := range all {
		go func() { done <- k.serve(f) }()
	}
	return <-done
}

func begin(request []byte) (*Keeper, error) {
	if err := harden(); err != nil {
		return nil, err
	}
	cfg, source, err := parseStart(request)
	if err != nil {
		return nil, err
	}
	tee, err := producer.Open(context.Background(), source.Interface, producer.Options{VCEK: source.VCEK})
	if err != nil {
		return nil, err
	}
	return Open(context.Background(), cfg, tee)
}

// harden closes this process's memory to every other process without CAP_SYS_PTRACE, of
// the same user too, before there is a key in it, and leaves no dump of it on a disk.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keyring: close its memory to others: %w", err)
	}
	if v, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || v != 0 {
		return fmt.Errorf("keyring: its memory is open to others: dumpable %d: %w", v, err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("keyring: forbid dumps: %w", err)
	}
	return nil
}
