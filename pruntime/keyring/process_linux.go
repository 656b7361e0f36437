package keyring

import (
	"context"
	"errors"
	"fmt"
	"net"
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

// socket is the keyring's file descriptor.
const socket = 3

// Start runs a keyring in a process of its own: this program again, with args, which must
// bring it to Main. The process ends with this one.
func Start(ctx context.Context, cfg Config, tee TEE, args ...string) (*Ring, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "keyring"), os.NewFile(uintptr(fds[1]), "keyring")
	defer theirs.Close()
	conn, err := net.FileConn(mine)
	mine.Close()
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	// No dump of goroutines, whatever ends it: their arguments may be secrets.
	cmd.Env = []string{"GOTRACEBACK=none"}
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("keyring: start its process: %w", err)
	}
	c := newCaller(conn)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	var once sync.Once
	r := &Ring{Place: OwnProcess, chain: cfg.Chain, do: c.do, gone: c.gone, pid: cmd.Process.Pid, stop: func() error {
		once.Do(func() { conn.Close() })
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
	f := os.NewFile(socket, "keyring")
	conn, err := net.FileConn(f)
	if err != nil {
		return errors.New("keyring: this is a part of pruntime, which starts it by itself")
	}
	f.Close()
	defer conn.Close()
	// What reaches the whole group of processes, as Ctrl-C does, is for the worker.
	signal.Ignore()
	id, body, err := readFrame(conn)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	k, err := begin(body)
	if err != nil {
		return writeFrame(conn, id, failure(err)) // the worker says it
	}
	if err := writeFrame(conn, id, k.info.marshal()); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return k.Serve(conn)
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
