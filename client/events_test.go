package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/proto"
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

// TestEditedOutputs: what a node edits in what was posted is not in the final receipt. It
// is no event for anybody, and no answer to its caller, who gets the true one when the node
// shows it.
func TestEditedOutputs(t *testing.T) {
	s, c, id := deployed(t, 2)
	ctx := within(t, 2*time.Minute)
	p, err := c.Push(ctx, id, []byte("vpublic"), client.CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	asked := *p
	r, err := c.Wait(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	genuine, err := c.Node().Outputs(ctx, uint32(s.Cluster), r.Seq)
	if err != nil || len(genuine) == 0 {
		t.Fatalf("%d outputs, %v", len(genuine), err)
	}
	events := func() ([]client.Event, error) {
		return client.Open(s.Network(), nil).Events(ctx, s.Cluster, r.Seq, r.Seq)
	}
	if all, err := events(); err != nil || len(all) != 1 || string(all[0].Data) != "public" {
		t.Fatalf("%v, %v", all, err)
	}
	for _, x := range []struct {
		name  string
		forge func(o *proto.SealedOutput)
	}{
		{"an event changed", func(o *proto.SealedOutput) { o.Events[0].Body[len(o.Events[0].Body)-1] ^= 1 }},
		{"an event left out", func(o *proto.SealedOutput) { o.Events = nil }},
		{"an event twice", func(o *proto.SealedOutput) { o.Events = append(o.Events, o.Events[0]) }},
		{"a proof made longer", func(o *proto.SealedOutput) { o.Proof = append(o.Proof, proto.Hash{1}) }},
		{"another place", func(o *proto.SealedOutput) { o.Index, o.Count = o.Index+1, o.Count+1 }},
	} {
		value := []byte{}
		for _, raw := range genuine {
			o, err := proto.ParseSealedOutput(raw)
			if err != nil {
				t.Fatal(err)
			}
			x.forge(o)
			value = protowire.AppendBytes(protowire.AppendTag(value, 1, protowire.BytesType), o.Marshal())
		}
		shown, most := 0, 1<<30
		s.Server.Intercept(func(method string, p map[string]any) (any, error) {
			if method != "abci_query" || p["path"] != "/phala.contracts.v1.Query/Output" || shown == most {
				return nil, nil
			}
			shown++
			return map[string]any{"response": map[string]any{"code": 0, "height": "0", "value": value}}, nil
		})
		if all, err := events(); !errors.Is(err, client.ErrNoOutput) || len(all) != 0 || shown == 0 {
			t.Errorf("%s: %v, %v", x.name, all, err)
		}
		most = shown + 2
		again := asked
		if got, err := c.Wait(ctx, &again); err != nil || got.Status != "ok" || got.GasUsed != r.GasUsed || shown != most {
			t.Errorf("%s: %+v, %v after %d", x.name, got, err, shown)
		}
		s.Server.Intercept(nil)
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
