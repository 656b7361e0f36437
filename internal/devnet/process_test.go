package devnet

import (
	"os"
	"testing"
	"time"
)

// TestKillChildren: a process that starts one child after the other loses all of them, those
// too that were not there when the first look was taken.
func TestKillChildren(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("this system does not tell whose child a process is")
	}
	p, err := start("parent", "", t.TempDir(), nil, "/bin/sh", "-c", "sleep 3600; sleep 3600; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		p.killChildren()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Minute):
		p.kill()
		t.Fatal("it waits for a process whose children live")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("it ended with %d and not by itself", code)
	}
}
