package keyring

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
)

// rings are the keyring in this process and in one of its own.
func rings(b *testing.B, f func(b *testing.B, w *world)) {
	w := newWorld(b)
	b.Run("here", func(b *testing.B) { f(b, w) })
	r, err := w.start(w.serveTEE())
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	w.r = r
	b.Run("there", func(b *testing.B) { f(b, w) })
}

// processor is the time that this process and the keyring's, if there is one, have used:
// other work on the machine does not show in it.
func processor(b *testing.B, pid int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	used := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if pid == 0 {
		return used
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// After the name: the 14th and 15th field of all, in hundredths of a second.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, f := range fields[11:13] {
		ticks, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		used += time.Duration(ticks) * 10 * time.Millisecond
	}
	return used
}

// BenchmarkCommands opens blocks of 100 commands: what the way to the other process costs
// each of them.
func BenchmarkCommands(b *testing.B) {
	rings(b, func(b *testing.B, w *world) {
		w.release(4)
		_, key, _ := w.secrets(4)
		var block []cluster.Sealed
		for i := range 100 {
			block = append(block, seal(b, command(4, fmt.Sprint(i)), key.Public(), make([]byte, 250)).Sealed)
		}
		o := w.r.Opener(home)
		began := processor(b, w.r.pid)
		for b.Loop() {
			if _, err := o.Open(4, block); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((processor(b, w.r.pid)-began).Seconds()*1e6/float64(b.N)/100, "cpu-us/command")
	})
}

// BenchmarkQuery opens one query at a time.
func BenchmarkQuery(b *testing.B) {
	rings(b, func(b *testing.B, w *world) {
		q := seal(b, proto.QueryContext(chain), w.session(), make([]byte, 250))
		began := processor(b, w.r.pid)
		for b.Loop() {
			if _, _, _, err := w.r.OpenQuery(context.Background(), q.Envelope); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((processor(b, w.r.pid)-began).Seconds()*1e6/float64(b.N), "cpu-us/query")
	})
}

// BenchmarkStart starts the other process and ends it.
func BenchmarkStart(b *testing.B) {
	w := newWorld(b)
	tee := w.serveTEE()
	for b.Loop() {
		r, err := w.start(tee)
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}
