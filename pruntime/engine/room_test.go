package engine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestImagesHaveRoom: a small call of a Go contract does not grow its memory, so that its
// instance is used again. Making one for each call would cost ten times as much as the
// call, and nothing but the time would show it.
func TestImagesHaveRoom(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to build the counter with")
	}
	out := filepath.Join(t.TempDir(), "counter.wasm")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags", "-s -w", "-o", out, "../cluster/testdata/counter")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sharedEngine(t).Prepare(context.Background(), module)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	h := newMemory()
	for i := range 50 {
		if _, err := run1(p, EntryCall, h, `{"method":"Add","args":40}`, enough); err != nil {
			t.Fatal(i, err)
		}
	}
	if s := p.ready.pool.Stats(); s.Made != 1 || s.Discarded != 0 {
		t.Errorf("50 calls made %d instances and threw %d away", s.Made, s.Discarded)
	}
}
