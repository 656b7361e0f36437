package wasmprep_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// BenchmarkPrepare prepares each corpus module; prep_ms is the median for the module, of
// processor time, the collector's included, so that other work on the machine does not show.
func BenchmarkPrepare(b *testing.B) {
	rules := corpusRules()
	for _, m := range wasmtest.Corpus() {
		if m.Name == "deep" || m.Name == "c-oob" {
			continue // the same code as another
		}
		b.Run(m.Name, func(b *testing.B) {
			b.SetBytes(int64(len(m.Code)))
			b.ReportAllocs()
			out := 0
			var took []float64
			for b.Loop() {
				began := processor(b)
				p, err := wasmprep.Prepare(m.Code, rules)
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, float64((processor(b)-began).Microseconds())/1e3)
				out = len(p.Code)
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2], "prep_ms")
			b.ReportMetric(100*(float64(out)/float64(len(m.Code))-1), "size_pct")
		})
	}
}

// processor is the time that this process has used.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
