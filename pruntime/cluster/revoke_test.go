package cluster

import (
	"bytes"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
)

// revocation is a command of alice to the cluster itself.
func (w *world) revocation(r *proto.Revocation, edit ...func(*command)) *command {
	return w.command(string(r.Marshal()), append([]func(*command){func(c *command) { c.inv.To = proto.ClusterAddress }}, edit...)...)
}

func one(g *proto.Grant) *proto.Revocation {
	return &proto.Revocation{ID: g.ID, NotAfter: g.NotAfter}
}

// TestRevoke: who revokes what, and what it costs.
func TestRevoke(t *testing.T) {
	w := ready(t)
	g, second := w.grant(), w.grant()
	bobs := func(c *command) { c.inv.From, c.inv.PublicKey, c.signer = w.bob.id, w.bob.id, w.bob }
	wantStatus(t, "by the reader", w.one(w.revocation(one(g), bobs)), proto.StatusOK)
	wantStatus(t, "of all, by the reader", w.one(w.revocation(&proto.Revocation{All: true}, bobs)), proto.StatusOK)
	w.allowed("what others revoke", g)
	root := w.c.Snapshot().Root()
	w.push(w.revocation(one(g), func(c *command) { c.inv.GasLimit = gasOpen + gasRevoke }))
	w.allowed("before the revocation is in a block", g)
	out := w.run()[0]
	wantStatus(t, "revocation", out, proto.StatusOK)
	if out.GasUsed != gasOpen+gasRevoke || len(out.Return) != 0 {
		t.Errorf("gas %d, answer %q", out.GasUsed, out.Return)
	}
	if w.c.Snapshot().Root() == root {
		t.Error("the root does not bind the revocation")
	}
	w.refused("revoked", g, "revoked")
	w.allowed("another grant", second)
	// Again, or with an earlier end, it stays as it is.
	if got := w.revocations(); got != 6 {
		t.Errorf("%d entries for three revocations", got)
	}
	early := one(g)
	early.NotAfter = w.now()
	for name, r := range map[string]*proto.Revocation{"again": one(g), "with an earlier end": early} {
		wantStatus(t, name, w.one(w.revocation(r)), proto.StatusOK)
	}
	w.refused("revoked again", g, "revoked")
	if got := w.revocations(); got != 6 {
		t.Errorf("%d entries after it was revoked again", got)
	}
	w.height += 200
	w.refused("revoked, some blocks later", g, "revoked")
	w.allowed("the other grant, some blocks later", second)
	// All that were issued until now.
	wantStatus(t, "of all", w.one(w.revocation(&proto.Revocation{All: true})), proto.StatusOK)
	w.refused("all are revoked", second, "revoked")
	issued := w.now() - 1000 // the time of the revocation's block
	w.refused("issued in that block", w.grant(func(g *proto.Grant) { g.Issued = issued }), "revoked")
	w.allowed("issued after it", w.grant(func(g *proto.Grant) { g.Issued = issued + 1 }))
	third := w.grant()
	w.allowed("a new one", third)
	wantStatus(t, "of all, again", w.one(w.revocation(&proto.Revocation{All: true})), proto.StatusOK)
	w.refused("the new one", third, "revoked")
	w.refused("the old one", second, "revoked")
}

// TestRevocationRefused: what is no revocation does nothing, and the nonce is used as it
// is for a contract's command.
func TestRevocationRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		status proto.Status
		used   bool
		edit   func(c *command)
	}{
		{"good", proto.StatusOK, true, func(*command) {}},
		{"little gas", proto.StatusOutOfGas, true, func(c *command) { c.inv.GasLimit = gasOpen + gasRevoke - 1 }},
		{"no input", proto.StatusMalformed, false, func(c *command) { c.inv.Input = nil }},
		{"an unknown kind", proto.StatusMalformed, false, func(c *command) { c.inv.Input = []byte{9} }},
		{"cut", proto.StatusMalformed, false, func(c *command) { c.inv.Input = c.inv.Input[:20] }},
		{"a tail", proto.StatusMalformed, false, func(c *command) { c.inv.Input = append(c.inv.Input, 0) }},
		{"a contract's input", proto.StatusMalformed, false, func(c *command) { c.inv.Input = []byte(`{"method":"Revoke"}`) }},
		{"for another cluster", proto.StatusBadSignature, false, func(c *command) { c.cluster++ }},
		{"as someone else", proto.StatusBadSignature, false, func(c *command) { c.signer = newAccount("stranger") }},
		{"expired", proto.StatusExpired, false, func(c *command) { c.inv.Expiry = 1 }},
		{"below the gas of opening", proto.StatusGasLimit, false, func(c *command) { c.inv.GasLimit = gasOpen - 1 }},
		{"a deposit", proto.StatusDepositLimit, false, func(c *command) { c.inv.DepositLimit = 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ready(t)
			g := w.grant()
			r := w.revocation(one(g), c.edit)
			wantStatus(t, c.name, w.one(r), c.status)
			if c.status == proto.StatusOK {
				w.refused(c.name, g, "revoked")
			} else {
				w.allowed(c.name, g)
			}
			want := proto.StatusOK
			if c.used {
				want = proto.StatusReplayed
			}
			wantStatus(t, "the nonce again", w.one(w.command("e", func(d *command) { d.inv.Nonce = r.inv.Nonce })), want)
		})
	}
}

// revocations is how many entries of the state revocations take: two each.
func (w *world) revocations() (n int) {
	w.c.Snapshot().m.Each(func(k, _ []byte) bool {
		if bytes.HasPrefix(k, []byte("g/")) || bytes.HasPrefix(k, prefixForget) {
			n++
		}
		return true
	})
	return n
}

// TestRevocationIsForgotten: a revocation is kept until its grants have ended, to the
// millisecond, and not longer; at no time does the grant hold again.
func TestRevocationIsForgotten(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("all ", all), func(t *testing.T) {
			w := ready(t)
			g := w.grant(func(g *proto.Grant) { g.NotAfter = w.now() + 20_000 })
			r, end := one(g), g.NotAfter
			if all {
				g = w.grant(func(g *proto.Grant) { g.NotAfter = g.Issued + proto.MaxGrantTerm })
				r, end = &proto.Revocation{All: true}, w.now()+proto.MaxGrantTerm
			}
			wantStatus(t, "revocation", w.one(w.revocation(r)), proto.StatusOK)
			for _, c := range []struct {
				at   uint64 // time of the block
				kept bool
			}{{w.now(), true}, {end - 1000, true}, {end, true}, {end + 1000, false}} {
				w.height = (c.at - blockTime) / 1000
				w.message(proto.EpochStarted{Cluster: w.id, Epoch: epoch})
				w.block()
				if left := w.revocations(); c.kept != (left == 2) || !c.kept && left != 0 {
					t.Errorf("%d ms from the end %d entries are left", int64(c.at-end), left)
				}
				// The header that proves this state is one block later.
				reason := "revoked"
				if w.now() > g.NotAfter {
					reason = "expired"
				}
				w.refused(fmt.Sprintf("%d ms from the end", int64(c.at-end)), g, reason)
			}
		})
	}
}

// TestRevocationsTwin compares random grants and revocations of random accounts with a
// plain list that forgets nothing.
func TestRevocationsTwin(t *testing.T) {
	const seed = 7
	rng := mrand.New(mrand.NewPCG(seed, seed))
	w := ready(t)
	people := []account{w.alice, newAccount("carol"), newAccount("dave")}
	type entry struct {
		by    int
		g     *proto.Grant
		ended bool
	}
	var list []*entry
	checked := map[string]int{}
	for range 60 {
		for range rng.IntN(3) {
			by := rng.IntN(len(people))
			g := w.grant(func(g *proto.Grant) {
				g.Grantor, g.PublicKey = people[by].id, people[by].id
				g.NotAfter = g.Issued + uint64(rng.IntN(30_000))
			})
			sig, err := people[by].Sign(w.rng, g.SignedBytes(chain))
			if err != nil {
				t.Fatal(err)
			}
			g.Signature = sig[:]
			list = append(list, &entry{by: by, g: g})
		}
		by := rng.IntN(len(people))
		r := &proto.Revocation{All: rng.IntN(6) == 0}
		if !r.All && len(list) > 0 {
			r = one(list[rng.IntN(len(list))].g) // perhaps another's
		}
		w.push(w.revocation(r, func(c *command) { c.inv.From, c.inv.PublicKey, c.signer = people[by].id, people[by].id, people[by] }))
		time := w.now()
		for _, out := range w.run() {
			wantStatus(t, "revocation", out, proto.StatusOK)
		}
		for _, e := range list {
			if e.by == by && (r.All && e.g.Issued <= time || !r.All && e.g.ID == r.ID) {
				e.ended = true
			}
		}
		for i, e := range list {
			want := ""
			if w.now() > e.g.NotAfter {
				want = "expired"
			} else if e.ended {
				want = "revoked"
			}
			_, _, detail := w.read(w.c, e.g, "?")
			word, _, _ := strings.Cut(detail, ":")
			if word != want {
				t.Fatalf("seed %d, height %d: grant %d is %q, want %q", seed, w.height, i, detail, want)
			}
			checked[want]++
		}
		w.height += uint64(rng.IntN(3))
	}
	if checked[""] < 50 || checked["revoked"] < 50 || checked["expired"] < 50 {
		t.Errorf("too few of a kind: %v", checked)
	}
	twin := w.replica(rand.Reader)
	if twin.Snapshot().Root() != w.c.Snapshot().Root() {
		t.Error("another replica has another root")
	}
}

// TestRevocationRoots freezes the state: two enclaves of one rules version must have
// these roots.
func TestRevocationRoots(t *testing.T) {
	w := newWorld(t, home)
	o := &overlay{m: w.c.Snapshot().m, rules: &known[0]}
	inv := &proto.Invocation{From: w.alice.id, GasLimit: gasOpen + gasRevoke}
	for _, c := range []struct {
		name string
		r    proto.Revocation
		want string
	}{
		{"one", proto.Revocation{ID: [16]byte{1}, NotAfter: blockTime + hour}, "b931f2cec4a7f8246045eddfc633bbec8eb4510ba8a4a28e2885fdb47debb353"},
		{"all", proto.Revocation{All: true}, "cf16efc06d136359efc02c08d38a5f1e7da4f7f9f4c9d939935042307ee67476"},
	} {
		o.revoke(new(answer), inv, &c.r, blockTime)
		if got := proto.Hash(o.m.Root()).String(); got != c.want {
			t.Errorf("%s: the root is %s, the rules say %s", c.name, got, c.want)
		}
	}
}
