package client_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// TestGrant: the reader asks in the grantor's name until the grant is revoked.
func TestGrant(t *testing.T) {
	s, owner, id := deployed(t, 2)
	ctx := within(t, 2*time.Minute)
	reader := client.Open(s.Network(), s.Key("reader"))
	grant := func(term time.Duration) *proto.Grant {
		t.Helper()
		g, err := owner.Grant(ctx, reader.Account(), term, id, id)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	// everywhere asks each worker and returns why it refuses, empty where it answers.
	everywhere := func(what string, g *proto.Grant, want string) {
		t.Helper()
		targets, err := reader.Targets(ctx, id)
		if err != nil || len(targets) != 2 {
			t.Fatal(targets, err)
		}
		for _, target := range targets {
			a, err := reader.Ask(ctx, target, id, []byte("c"), client.QueryOptions{Grant: g})
			var qe *client.QueryError
			switch {
			case want == "" && (err != nil || !bytes.Equal(a.Return, owner.Account())):
				t.Errorf("%s: the caller is %v, %v", what, a, err)
			case want != "" && (!errors.As(err, &qe) || qe.Answer.Status != proto.StatusNotAuthorised || !strings.HasPrefix(qe.Answer.Error, want+": ")):
				t.Errorf("%s: %v, want %s", what, err, want)
			}
		}
	}
	first, second := grant(time.Hour), grant(time.Hour)
	if first.ID == second.ID || first.NotAfter-first.Issued != 3_600_000 || len(first.Contracts) != 1 || first.Cluster != s.Cluster {
		t.Errorf("%+v and %+v", first, second)
	}
	everywhere("granted", first, "")
	if a, err := ask(t, owner, id, "R", client.QueryOptions{}); err != nil || len(a.Return) != 0 {
		t.Errorf("without a grant the reader is %v, %v", a, err)
	}
	// It goes from hand to hand as text.
	text, err := first.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	got := new(proto.Grant)
	if err := got.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	everywhere("as text", got, "")
	r, err := owner.Revoke(ctx, first, client.CallOptions{})
	if err != nil || r.Status != "ok" || r.Seats != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	everywhere("revoked", first, "revoked")
	everywhere("the other one", second, "")
	if _, err := owner.RevokeAll(ctx, s.Cluster, client.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	everywhere("all are revoked", second, "revoked")
	everywhere("given later", grant(proto.MaxGrantTerm*time.Millisecond), "")
	short := grant(time.Millisecond)
	// A command is final some blocks later.
	if _, err := call(t, owner, id, "n", client.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	everywhere("ended", short, "expired")
}

func TestGrantRefused(t *testing.T) {
	s := stack.Ready(t, 1)
	s.Add("worker-9", proto.RoleWorker)
	second := s.Chain.CreateCluster([]byte("owner"), 1)
	s.Until("the second cluster has a key", func() bool { return s.Chain.Cluster(second).EpochKey != [32]byte{} })
	c := client.Open(s.Network(), s.Key("user"))
	s.Go()
	ctx := within(t, 2*time.Minute)
	var id, elsewhere proto.ContractID
	for cluster, to := range map[proto.ClusterID]*proto.ContractID{s.Cluster: &id, second: &elsewhere} {
		d, err := c.Deploy(ctx, cluster, enginetest.Script(""), nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		*to = d.Contract
	}
	reader, nobody := client.Open(s.Network(), s.Key("reader")), client.Open(s.Network(), nil)
	var many []proto.ContractID
	for i := range proto.MaxGrantContracts + 1 {
		many = append(many, proto.ContractID{byte(i)})
	}
	g, err := c.Grant(ctx, reader.Account(), time.Hour, id)
	if err != nil {
		t.Fatal(err)
	}
	with := func(o client.QueryOptions) client.QueryOptions { o.Grant = g; return o }
	for _, x := range []struct {
		name string
		f    func() error
		want error
	}{
		{"without a key", func() error { _, err := nobody.Grant(ctx, reader.Account(), time.Hour, id); return err }, client.ErrNoKey},
		{"to nobody", func() error { _, err := c.Grant(ctx, nil, time.Hour, id); return err }, client.ErrGrant},
		{"to no account", func() error { _, err := c.Grant(ctx, make([]byte, 31), time.Hour, id); return err }, client.ErrGrant},
		{"of no contract", func() error { _, err := c.Grant(ctx, reader.Account(), time.Hour); return err }, client.ErrGrant},
		{"of many contracts", func() error { _, err := c.Grant(ctx, reader.Account(), time.Hour, many...); return err }, client.ErrGrant},
		{"of a contract that is not there", func() error { _, err := c.Grant(ctx, reader.Account(), time.Hour, proto.ContractID{1}); return err }, client.ErrNoContract},
		{"of contracts of two clusters", func() error { _, err := c.Grant(ctx, reader.Account(), time.Hour, id, elsewhere); return err }, client.ErrGrant},
		{"for no time", func() error { _, err := c.Grant(ctx, reader.Account(), 0, id); return err }, client.ErrGrant},
		{"for ever", func() error { _, err := c.Grant(ctx, reader.Account(), 1<<63-1, id); return err }, client.ErrGrant},
		{"for longer than a year", func() error {
			_, err := c.Grant(ctx, reader.Account(), (proto.MaxGrantTerm+1)*time.Millisecond, id)
			return err
		}, client.ErrGrant},
		{"revoked by the reader", func() error { _, err := reader.Revoke(ctx, g, client.CallOptions{}); return err }, client.ErrGrant},
		{"revoked by nobody", func() error { _, err := nobody.RevokeAll(ctx, s.Cluster, client.CallOptions{}); return err }, client.ErrNoKey},
		{"asked anonymously", func() error {
			_, err := ask(t, reader, id, "c", with(client.QueryOptions{Anonymous: true}))
			return err
		}, client.ErrNoKey},
		{"asked without a key", func() error { _, err := ask(t, nobody, id, "c", with(client.QueryOptions{})); return err }, client.ErrNoKey},
	} {
		if err := x.f(); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
	var qe *client.QueryError
	if _, err := ask(t, c, id, "c", with(client.QueryOptions{})); !errors.As(err, &qe) || qe.Answer.Status != proto.StatusNotAuthorised {
		t.Errorf("asked by the grantor: %v", err)
	}
}
