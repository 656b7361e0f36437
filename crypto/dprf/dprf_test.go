package dprf

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func rng(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func key(t *testing.T, shares []*Share, indices []int, label string) [32]byte {
	t.Helper()
	var ps []Partial
	for _, i := range indices {
		p, proof, err := shares[i-1].Evaluate(rng(byte(i)), label)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(shares[i-1].Public(), label, p, proof); err != nil {
			t.Fatal(err)
		}
		ps = append(ps, Partial{uint32(i), p})
	}
	k, err := Combine(label, ps)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestAnyQuorum: every t of n shares give the key of the undivided secret, and fewer
// give another.
func TestAnyQuorum(t *testing.T) {
	secret, err := Generate(rng(1))
	if err != nil {
		t.Fatal(err)
	}
	want := key(t, []*Share{secret}, []int{1}, "traffic/1/1")
	if got := hex.EncodeToString(want[:]); got != "81be3b51aa37981a32b4b99bca55848faec5cd319d3ee4a2c85ed725f8c14897" {
		t.Errorf("the function changed: %s", got)
	}
	shares, err := secret.Split(rng(2), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	for mask := 1; mask < 32; mask++ {
		var set []int
		for i := range 5 {
			if mask>>i&1 == 1 {
				set = append(set, i+1)
			}
		}
		if got := key(t, shares, set, "traffic/1/1"); (got == want) != (len(set) >= 3) {
			t.Errorf("shares %v: equal is %v", set, got == want)
		}
	}
	if key(t, shares, []int{1, 2, 3}, "traffic/1/2") == want {
		t.Error("two labels have one key")
	}
}

func TestRefused(t *testing.T) {
	a, _ := Generate(rng(1))
	b, _ := Generate(rng(2))
	p, proof, _ := a.Evaluate(rng(3), "l")
	flip := func(i int) Proof { q := proof; q[i] ^= 1; return q }
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"another holder's public share", Verify(b.Public(), "l", p, proof), ErrProof},
		{"another label", Verify(a.Public(), "m", p, proof), ErrProof},
		{"challenge changed", Verify(a.Public(), "l", p, flip(0)), ErrProof},
		{"response changed", Verify(a.Public(), "l", p, flip(32)), ErrProof},
		{"not canonical", Verify(a.Public(), "l", p, func() Proof { q := proof; q[31] = 0xff; return q }()), ErrProof},
		{"not a point", Verify(a.Public(), "l", Point{0xff}, proof), ErrPoint},
		{"the identity", Verify(Point{}, "l", p, proof), ErrPoint},
		{"no partials", second(Combine("l", nil)), ErrIndices},
		{"index twice", second(Combine("l", []Partial{{1, p}, {1, p}})), ErrIndices},
		{"index zero", second(Combine("l", []Partial{{0, p}})), ErrIndices},
		{"zero share", second(NewShare(make([]byte, 32))), ErrShare},
		{"3 of 2", second(a.Split(rng(1), 3, 2)), ErrIndices},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.err, c.want)
		}
	}
	if s := fmt.Sprintf("%v %x %#v", a, a, a); strings.Contains(s, hex.EncodeToString(a.Bytes())) {
		t.Error("a share prints")
	}
}

func second[T any](_ T, err error) error { return err }
