package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
)

// TestEvents: everybody reads what is public, the reader what is sealed to it, who
// deployed the contract its log, and nobody more.
func TestEvents(t *testing.T) {
	s, c, id := deployed(t, 2)
	bob := s.Key("bob")
	pub := bob.Public()
	var seqs []uint64
	for _, input := range []string{"vpublic", "w" + string(pub[:]) + "for bob", "oa line", "Oa line before it broke", "ehello"} {
		r, err := call(t, c, id, input, client.CallOptions{})
		var failed *client.CallError
		if err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		seqs = append(seqs, r.Seq)
	}
	read := func(who *client.Client) (out []string) {
		events, err := who.Events(within(t, 2*time.Minute), s.Cluster, 1, 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Contract != id {
				t.Errorf("an event of %s", e.Contract)
			}
			out = append(out, fmt.Sprint(e.Seq-seqs[0], " ", e.Sealed, " ", e.Log, " ", string(e.Data)))
		}
		return out
	}
	public := "0 false false public"
	for name, x := range map[string]struct {
		c    *client.Client
		want []string
	}{
		"nobody":       {client.Open(s.Network(), nil), []string{public}},
		"bob":          {client.Open(s.Network(), bob), []string{public, "1 true false for bob"}},
		"the deployer": {c, []string{public, "2 true true a line\n", "3 true true a line before it broke\n"}},
	} {
		if got := read(x.c); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", x.want) {
			t.Errorf("%s reads %q, want %q", name, got, x.want)
		}
	}
}

// TestDepositLimit: a caller who allows too little is told what is missing.
func TestDepositLimit(t *testing.T) {
	s, _, id := deployed(t, 1)
	c := client.Open(s.Network(), s.Key("bob")) // has nothing free yet
	r, err := call(t, c, id, "pzvalue", client.CallOptions{DepositLimit: 1000})
	if err == nil || r.Status != "deposit_limit" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = call(t, c, id, "pzvalue", client.CallOptions{}); err != nil || r.Deposit != 164_000 {
		t.Errorf("%+v, %v", r, err)
	}
}
