package transcript

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// The golden bytes freeze the encoding; the TypeScript client has the same ones.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name, domain string
		fields       [][]byte
		want         string
	}{
		{"no field", "d", nil, "0000000164"},
		{"empty field", "d", [][]byte{{}}, "000000016400000000"},
		{"two fields", "ab", [][]byte{{1}, {2, 3}}, "0000000261620000000101000000020203"},
		{"number", "", [][]byte{U64(258)}, "00000000000000080000000000000102"},
	} {
		if got := hex.EncodeToString(Bytes(c.domain, c.fields...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestInjective: different lists of fields have different bytes, however the same
// bytes are cut into fields.
func TestInjective(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]string{}
	for range 20000 {
		var fields [][]byte
		name := ""
		for range rng.IntN(4) {
			f := make([]byte, rng.IntN(3))
			for i := range f {
				f[i] = byte(rng.IntN(2))
			}
			fields = append(fields, f)
			name += hex.EncodeToString(f) + ","
		}
		b := string(Bytes("d", fields...))
		if old, ok := seen[b]; ok && old != name {
			t.Fatalf("%s and %s have the same bytes", old, name)
		}
		seen[b] = name
	}
}
