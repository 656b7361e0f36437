package wasmprep_test

import (
	"testing"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// BenchmarkPrepare prepares each corpus module; prep_ms is per module.
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
			for b.Loop() {
				p, err := wasmprep.Prepare(m.Code, rules)
				if err != nil {
					b.Fatal(err)
				}
				out = len(p.Code)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1e6/float64(b.N), "prep_ms")
			b.ReportMetric(100*(float64(out)/float64(len(m.Code))-1), "size_pct")
		})
	}
}
