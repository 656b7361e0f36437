package cluster

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// goWorld is a cluster with the counter of testdata, a contract in plain Go.
func goWorld(b *testing.B) *world {
	b.Helper()
	if _, err := osexec.LookPath("go"); err != nil {
		b.Skip("no go command to build the counter with")
	}
	out := filepath.Join(b.TempDir(), "counter.wasm")
	cmd := osexec.Command("go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags", "-s -w", "-o", out, "./testdata/counter")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, msg)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		b.Fatal(err)
	}
	e, err := engine.New("")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close(context.Background()) })
	p, err := e.Prepare(context.Background(), module)
	if err != nil {
		b.Fatal(err)
	}
	w := newWorld(b, home)
	w.code = p.Hash()
	w.c.programs = programs{w.code: p}
	w.instantiate(func(c *command) {
		c.inst.Image, c.inv.Input = p.ImageHash(), []byte(`{"method":"Init"}`)
	})
	out1 := w.run()[0]
	wantStatus(b, "constructor", out1, proto.StatusOK)
	return w
}

// BenchmarkCommands is all that the enclave does for a command, on one core: open it,
// check its signature, run it, keep its state, commit to the root and the receipt, seal
// the answer. A block has 100 of them. It counts processor time, the collector's
// included, so that other work on the machine does not show.
func BenchmarkCommands(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w := goWorld(b)
	const perBlock = 100
	var took []float64
	for b.Loop() {
		b.StopTimer()
		for range perBlock {
			w.push(w.command(`{"method":"Add","args":40}`))
		}
		w.pending = nil
		b.StartTimer()
		began := processor(b)
		res := w.block()
		took = append(took, (processor(b) - began).Seconds())
		if len(res.Outputs) != perBlock {
			b.Fatal("a command has no answer")
		}
		w.history = nil
	}
	slices.Sort(took)
	b.ReportMetric(perBlock/took[len(took)/2], "commands_one_core_per_s")
}

// processor is the time that this process has used.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkQueriesScale is how many more queries two cores answer than one, at best, in
// one run. Each core's time is what it had: waiting for locks, memory or the collector
// counts, waiting for a processor that other programs use does not.
func BenchmarkQueriesScale(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Skip("one core")
	}
	w := goWorld(b)
	w.one(w.command(`{"method":"Add","args":40}`))
	snap := w.c.Snapshot()
	q := &proto.Query{To: w.target, Input: []byte(`{"method":"Current"}`), From: w.alice.id}
	rate := func(cores int) float64 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		const length = 400 * time.Millisecond
		rates := make([]float64, cores)
		var wg sync.WaitGroup
		for i := range cores {
			wg.Add(1)
			go func() {
				defer wg.Done()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				began, stolen := time.Now(), queued(b)
				n := 0
				for ; time.Since(began) < length; n++ {
					status, out, _, _, err := w.c.Query(context.Background(), snap, q, w.height, 0)
					if err != nil || status != proto.StatusOK || string(out) != "40" {
						b.Error(fmt.Sprint(status, string(out), err))
						return
					}
				}
				rates[i] = float64(n) / (time.Since(began) - (queued(b) - stolen)).Seconds()
			}()
		}
		wg.Wait()
		total := 0.0
		for _, r := range rates {
			total += r
		}
		return total
	}
	best := map[int]float64{}
	for b.Loop() {
		for range 5 {
			for _, cores := range []int{1, 2} {
				best[cores] = max(best[cores], rate(cores))
			}
		}
	}
	b.ReportMetric(best[1], "queries_per_s")
	b.ReportMetric(best[2]/best[1], "queries_scale")
}

// queued is how long this thread was ready to run and had no processor; 0 where the
// system does not tell.
func queued(b *testing.B) time.Duration {
	text, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return 0
	}
	var ran, waited int64
	if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
		b.Error(err)
	}
	return time.Duration(waited)
}
