package devnet

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Process is one running component.
type Process struct {
	Name    string
	Address string
	Log     string
	cmd     *exec.Cmd
	done    chan struct{}
	err     error
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// start runs a program with its output in a log file. It gets a process group of its
// own: Ctrl-C reaches the devnet, which stops the others in order.
func start(name, address, dir string, env []string, bin string, args ...string) (*Process, error) {
	logs := filepath.Join(dir, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, err
	}
	p := &Process{Name: name, Address: address, Log: filepath.Join(logs, name+".log"), done: make(chan struct{})}
	f, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = processGroup()
	if err := p.cmd.Start(); err != nil {
		f.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	f.Close()
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// exited reports whether the process has ended by itself.
func (p *Process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// failure says what a process that ended had to say.
func (p *Process) failure() error {
	b, _ := os.ReadFile(p.Log)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return fmt.Errorf("%s stopped (%v); the end of %s:\n  %s", p.Name, p.err, p.Log, strings.Join(lines[max(0, len(lines)-5):], "\n  "))
}

// stop asks the process to stop, and makes it after a while.
func (p *Process) stop() {
	if p.exited() {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// kill ends the process without notice.
func (p *Process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// killChildren ends the processes that this one starts without notice, until it ends: a
// worker does without its keyring, which it may not have started yet.
func (p *Process) killChildren() {
	for {
		for _, pid := range p.Children() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-p.done:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Children are the processes that this one started; none where the system does not tell.
func (p *Process) Children() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := bytes.Cut(b, []byte("\nPPid:"))
		if f := strings.Fields(string(rest)); len(f) > 0 && f[0] == strconv.Itoa(p.PID()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// resident is the memory of the process and of those that it started, bytes; 0 where the
// system does not tell.
func (p *Process) resident() (total int64) {
	for _, pid := range append(p.Children(), p.PID()) {
		total += resident(pid)
	}
	return total
}

func resident(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(b, []byte("VmRSS:"))
	if !ok {
		return 0
	}
	kb, _ := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
	return kb << 10
}
