package merkle

import (
	"encoding/hex"
	"slices"
	"testing"
)

// TestRFC6962 checks the roots of the reference test vectors of certificate
// transparency (leaves of RFC 6962's published test tree).
func TestRFC6962(t *testing.T) {
	var leaves [][]byte
	for _, s := range []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"} {
		b, _ := hex.DecodeString(s)
		leaves = append(leaves, b)
	}
	for n, want := range map[int]string{
		0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	} {
		root := Root(leaves[:n])
		if got := hex.EncodeToString(root[:]); got != want {
			t.Errorf("%d leaves: got %s, want %s", n, got, want)
		}
	}
}

// TestProofs: every leaf of every size up to 40 has a proof that verifies there
// and nowhere else.
func TestProofs(t *testing.T) {
	var leaves [][]byte
	for n := 1; n <= 40; n++ {
		leaves = append(leaves, []byte{byte(n)})
		root := Root(leaves)
		same, all := Proofs(leaves)
		if same != root || len(all) != n {
			t.Fatalf("%d leaves: %d proofs under another root", n, len(all))
		}
		for i := range n {
			p := Proof(leaves, i)
			if !slices.Equal(all[i], p) {
				t.Fatalf("leaf %d of %d has two proofs", i, n)
			}
			if !Verify(root, leaves[i], i, n, p) {
				t.Fatalf("leaf %d of %d does not verify", i, n)
			}
			for j := -1; j <= n; j++ {
				if j != i && Verify(root, leaves[i], j, n, p) {
					t.Fatalf("leaf %d of %d verifies as %d", i, n, j)
				}
			}
			if Verify(root, []byte{0}, i, n, p) || Verify(root, leaves[i], i, n, append(p, [32]byte{})) || (len(p) > 0 && Verify(root, leaves[i], i, n, p[1:])) {
				t.Fatalf("leaf %d of %d: a changed leaf or proof verifies", i, n)
			}
		}
	}
}
