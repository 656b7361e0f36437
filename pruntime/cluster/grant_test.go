package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	mrand "math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

const (
	hour = 60 * 60 * 1000
	// blockTime is the time of the world's block 0; a second lies between two.
	blockTime = 1_700_000_000_000
)

// now is the time of the block that is being made.
func (w *world) now() uint64 { return blockTime + w.height*1000 }

// grant makes a grant of alice to bob for the contract, for an hour; edit changes it
// before it is signed.
func (w *world) grant(edit ...func(*proto.Grant)) *proto.Grant {
	g := &proto.Grant{Grantor: w.alice.id, Reader: w.bob.id, Cluster: w.id, Contracts: []proto.ContractID{w.target}, Issued: w.now(), NotAfter: w.now() + hour,
		Scheme: uint8(identity.SchemeSr25519), PublicKey: w.alice.id}
	w.nonce++
	binary.BigEndian.PutUint64(g.ID[:], w.nonce)
	for _, f := range edit {
		f(g)
	}
	w.sign(g, chain)
	return g
}

func (w *world) sign(g *proto.Grant, chain string) {
	sig, err := w.alice.Sign(w.rng, g.SignedBytes(chain))
	if err != nil {
		w.t.Fatal(err)
	}
	g.Signature = sig[:]
}

// read asks as bob under a grant, at the time of the block that is being made.
func (w *world) read(c *Cluster, g *proto.Grant, input string, edit ...func(*proto.Query)) (proto.Status, string, string) {
	w.t.Helper()
	q := &proto.Query{To: w.target, Input: []byte(input), From: w.bob.id, Grant: g.Marshal(), GasLimit: 1 << 30}
	for _, f := range edit {
		f(q)
	}
	status, out, _, detail, err := c.Query(context.Background(), c.Snapshot(), q, w.height, w.now())
	if err != nil {
		w.t.Fatal(err)
	}
	return status, string(out), detail
}

// allowed and refused fail the test unless the grant holds, or is refused for the reason.
func (w *world) allowed(what string, g *proto.Grant) {
	w.t.Helper()
	if status, out, detail := w.read(w.c, g, "c"); status != proto.StatusOK || out != string(w.alice.id) {
		w.t.Errorf("%s: %s %q, the caller is %x", what, status, detail, out)
	}
}

func (w *world) refused(what string, g *proto.Grant, reason string, edit ...func(*proto.Query)) {
	w.t.Helper()
	status, out, detail := w.read(w.c, g, "c", edit...)
	word, advice, _ := strings.Cut(detail, ": ")
	if status != proto.StatusNotAuthorised || out != "" || word != reason || !strings.Contains(advice, "ask") && !strings.Contains(advice, "needs the signature") {
		w.t.Errorf("%s: %s %q, answer %q, want %s", what, status, detail, out, reason)
	}
}

// TestGrant has a case for every way in which a grant holds or does not.
func TestGrant(t *testing.T) {
	w := ready(t)
	stranger := newAccount("stranger")
	other := proto.ContractID{9}
	both := []proto.ContractID{other, w.target}
	slices.SortFunc(both, func(a, b proto.ContractID) int { return bytes.Compare(a[:], b[:]) })
	for _, c := range []struct {
		name   string
		edit   func(g *proto.Grant) // before it is signed
		broken func(g *proto.Grant) // after
		query  func(q *proto.Query)
		reason string // empty: it holds
	}{
		{name: "good"},
		{name: "of two contracts", edit: func(g *proto.Grant) { g.Contracts = both }},
		{name: "in its last instant", edit: func(g *proto.Grant) { g.NotAfter = w.now() }},
		{name: "issued by a clock that was ahead", edit: func(g *proto.Grant) { g.Issued, g.NotAfter = w.now()+5000, w.now()+hour }},
		{name: "to oneself", edit: func(g *proto.Grant) { g.Reader = w.alice.id }, query: func(q *proto.Query) { q.From = w.alice.id }},

		{name: "ended", edit: func(g *proto.Grant) { g.Issued, g.NotAfter = w.now()-hour, w.now()-1 }, reason: "expired"},
		{name: "ended a year ago", edit: func(g *proto.Grant) { g.Issued, g.NotAfter = 0, 1 }, reason: "expired"},
		{name: "too long", edit: func(g *proto.Grant) { g.NotAfter = g.Issued + proto.MaxGrantTerm + 1 }, reason: "malformed"},
		{name: "without contracts", edit: func(g *proto.Grant) { g.Contracts = nil }, reason: "malformed"},
		{name: "not a grant", query: func(q *proto.Query) { q.Grant = []byte("hello") }, reason: "malformed"},
		{name: "with a tail", query: func(q *proto.Query) { q.Grant = append(q.Grant, 0) }, reason: "malformed"},
		{name: "to another reader", edit: func(g *proto.Grant) { g.Reader = stranger.id }, reason: "reader"},
		{name: "asked by another", query: func(q *proto.Query) { q.From = stranger.id }, reason: "reader"},
		{name: "asked by the grantor", query: func(q *proto.Query) { q.From = w.alice.id }, reason: "reader"},
		{name: "asked anonymously", query: func(q *proto.Query) { q.From = nil }, reason: "reader"},
		{name: "of another contract", edit: func(g *proto.Grant) { g.Contracts = []proto.ContractID{other} }, reason: "contract"},
		{name: "for another contract", query: func(q *proto.Query) { q.To = other }, reason: "contract"},
		{name: "for the cluster itself", query: func(q *proto.Query) { q.To = proto.ClusterAddress }, reason: "contract"},
		{name: "of another cluster", edit: func(g *proto.Grant) { g.Cluster++ }, reason: "cluster"},
		{name: "moved to this cluster", edit: func(g *proto.Grant) { g.Cluster++ }, broken: func(g *proto.Grant) { g.Cluster-- }, reason: "signature"},
		{name: "of another chain", broken: func(g *proto.Grant) { w.sign(g, "test-2") }, reason: "signature"},
		{name: "by someone else", edit: func(g *proto.Grant) { g.Grantor = stranger.id }, reason: "signature"},
		{name: "by someone else's key", edit: func(g *proto.Grant) { g.PublicKey = stranger.id }, reason: "signature"},
		{name: "made longer", broken: func(g *proto.Grant) { g.NotAfter++ }, reason: "signature"},
		{name: "made younger", broken: func(g *proto.Grant) { g.Issued++ }, reason: "signature"},
		{name: "renamed", broken: func(g *proto.Grant) { g.ID[0] ^= 1 }, reason: "signature"},
		{name: "widened", edit: func(g *proto.Grant) { g.Contracts = []proto.ContractID{other} }, broken: func(g *proto.Grant) { g.Contracts = both }, reason: "signature"},
		{name: "handed on", edit: func(g *proto.Grant) { g.Reader = stranger.id }, broken: func(g *proto.Grant) { g.Reader = w.bob.id }, reason: "signature"},
		{name: "unsigned", broken: func(g *proto.Grant) { g.Signature = nil }, reason: "signature"},
		{name: "of an unknown scheme", broken: func(g *proto.Grant) { g.Scheme = 9 }, reason: "signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			var edits []func(*proto.Grant)
			if c.edit != nil {
				edits = append(edits, c.edit)
			}
			g := w.grant(edits...)
			if c.broken != nil {
				c.broken(g)
			}
			var query []func(*proto.Query)
			if c.query != nil {
				query = append(query, c.query)
			}
			if c.reason != "" {
				w.refused(c.name, g, c.reason, query...)
				return
			}
			if status, out, detail := w.read(w.c, g, "c", query...); status != proto.StatusOK || out != string(w.alice.id) {
				t.Errorf("%s %q, the caller is %x", status, detail, out)
			}
			if _, out, _ := w.read(w.c, g, "R", query...); out != string(g.Reader) {
				t.Errorf("the reader is %x", out)
			}
		})
	}
	w.t = t
	if _, out := w.query(w.target, "R"); out != "" {
		t.Errorf("without a grant the reader is %x", out)
	}
	// Under a grant a contract that is not there is as it is without one.
	w.refusedStatus(w.grant(func(g *proto.Grant) { g.Contracts = []proto.ContractID{other} }), other, proto.StatusNoContract)
}

func (w *world) refusedStatus(g *proto.Grant, to proto.ContractID, want proto.Status) {
	w.t.Helper()
	if status, _, _ := w.read(w.c, g, "c", func(q *proto.Query) { q.To = to }); status != want {
		w.t.Errorf("%s, want %s", status, want)
	}
}

// wallet is a secp256k1 account, which signs ADR-36 documents.
type wallet struct {
	key     *secp256k1.PrivateKey
	account []byte
}

func newWallet(t testing.TB) wallet {
	t.Helper()
	sum := sha256.Sum256([]byte("wallet"))
	w := wallet{key: secp256k1.PrivKeyFromBytes(sum[:])}
	var err error
	if w.account, err = identity.AccountOf(identity.SchemeSecp256k1, w.public()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w wallet) public() []byte { return w.key.PubKey().SerializeCompressed() }

func (w wallet) sign(t testing.TB, msg []byte) []byte {
	t.Helper()
	signer, err := address.Bech32(address.HRP, w.account)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(identity.ADR36Document(signer, msg))
	return ecdsa.SignCompact(w.key, digest[:], true)[1:]
}

// TestGrantSchemes: whoever may call a contract may give grants.
func TestGrantSchemes(t *testing.T) {
	w, cosmos := ready(t), newWallet(t)
	wrapped := w.grant(func(g *proto.Grant) { g.Scheme = uint8(identity.SchemeSr25519Bytes) })
	sig, err := w.alice.Sign(w.rng, identity.WrapBytes(wrapped.SignedBytes(chain)))
	if err != nil {
		t.Fatal(err)
	}
	wrapped.Signature = sig[:]
	w.allowed("signed as a Polkadot wallet does", wrapped)
	g := w.grant(func(g *proto.Grant) {
		g.Grantor, g.Scheme, g.PublicKey = cosmos.account, uint8(identity.SchemeSecp256k1), cosmos.public()
	})
	w.refused("signed by another key", g, "signature")
	g.Signature = cosmos.sign(t, g.SignedBytes(chain))
	if status, out, detail := w.read(w.c, g, "c"); status != proto.StatusOK || out != string(cosmos.account) {
		t.Errorf("signed as a Cosmos wallet does: %s %q, the caller is %x", status, detail, out)
	}
	// It revokes as it grants.
	r := w.revocation(one(g))
	r.inv.From, r.inv.Scheme, r.inv.PublicKey = cosmos.account, g.Scheme, g.PublicKey
	r.inv.Signature = cosmos.sign(t, r.inv.SignedBytes(chain, w.id))
	wantStatus(t, "revocation", w.one(r), proto.StatusOK)
	w.refused("revoked", g, "revoked")
	w.allowed("another's grant", wrapped)
	if account, err := identity.VerifyScheme(identity.SchemeSr25519Bytes, w.alice.id, identity.WrapBytes(nil), nil); err == nil {
		t.Errorf("no signature at all is one of %x", account)
	}
}

var update = flag.Bool("update", false, "write testdata/grants.json")

// A vector is a grant in a query, and what an enclave says to it.
type vector struct {
	Name     string           `json:"name"`
	Grant    string           `json:"grant"` // hex
	Text     string           `json:"text,omitempty"`
	Chain    string           `json:"chain"`
	Cluster  uint32           `json:"cluster"`
	Contract proto.ContractID `json:"contract"`
	Reader   string           `json:"reader"` // who signed the query, hex
	Now      uint64           `json:"now"`
	Reason   string           `json:"reason,omitempty"` // empty: it holds
}

// vectors makes the vectors with fixed keys and randomness.
func vectors(t *testing.T) []vector {
	w := &world{t: t, id: 3, height: 100, alice: newAccount("alice"), bob: newAccount("bob"), target: proto.ContractID{1, 2, 3}, rng: mrand.NewChaCha8([32]byte{1})}
	cosmos := newWallet(t)
	var out []vector
	add := func(name, reason string, g *proto.Grant, edit func(v *vector)) {
		text, err := g.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		v := vector{name, hex.EncodeToString(g.Marshal()), string(text), chain, 3, w.target, hex.EncodeToString(w.bob.id), w.now() + 1000, reason}
		if edit != nil {
			edit(&v)
		}
		out = append(out, v)
	}
	good := w.grant()
	add("sr25519", "", good, nil)
	adr36 := w.grant(func(g *proto.Grant) {
		g.Grantor, g.Scheme, g.PublicKey = cosmos.account, uint8(identity.SchemeSecp256k1), cosmos.public()
	})
	adr36.Signature = cosmos.sign(t, adr36.SignedBytes(chain))
	add("secp256k1-adr36", "", adr36, nil)
	add("two contracts", "", w.grant(func(g *proto.Grant) { g.Contracts = append(g.Contracts, proto.ContractID{1, 2, 4}) }), nil)
	add("last instant", "", good, func(v *vector) { v.Now = good.NotAfter })
	add("ended", "expired", good, func(v *vector) { v.Now = good.NotAfter + 1 })
	add("another reader", "reader", good, func(v *vector) { v.Reader = hex.EncodeToString(w.alice.id) })
	add("anonymous", "reader", good, func(v *vector) { v.Reader = "" })
	add("another contract", "contract", good, func(v *vector) { v.Contract[0]++ })
	add("another cluster", "cluster", good, func(v *vector) { v.Cluster++ })
	add("another chain", "signature", good, func(v *vector) { v.Chain = "test-2" })
	forged := *adr36
	forged.Signature = good.Signature
	add("another's signature", "signature", &forged, nil)
	edited := *good
	edited.NotAfter++
	add("made longer", "signature", &edited, nil)
	add("a byte too many", "malformed", good, func(v *vector) { v.Grant, v.Text = v.Grant+"00", "" })
	add("a byte too few", "malformed", good, func(v *vector) { v.Grant, v.Text = v.Grant[:len(v.Grant)-2], "" })
	add("too long a term", "malformed", w.grant(func(g *proto.Grant) { g.NotAfter = g.Issued + proto.MaxGrantTerm + 1 }), nil)
	add("contracts in another order", "malformed", w.grant(func(g *proto.Grant) { g.Contracts = append(g.Contracts, proto.ContractID{1}) }), nil)
	return out
}

// TestGrantVectors: testdata/grants.json is for other implementations.
func TestGrantVectors(t *testing.T) {
	const file = "testdata/grants.json"
	if *update {
		b, err := json.MarshalIndent(vectors(t), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	fresh := vectors(t)
	if len(fresh) != len(list) {
		t.Fatalf("%d vectors in the file, %d here", len(list), len(fresh))
	}
	keys, _ := testKeys(t)
	for i, v := range list {
		grant, err := hex.DecodeString(v.Grant)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := hex.DecodeString(v.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := New(v.Chain, proto.ClusterID(v.Cluster), keys, nil, rand.Reader)
		g, why := c.authorise(c.Snapshot(), &proto.Query{To: v.Contract, From: reader, Grant: grant}, v.Now)
		if word, _, _ := strings.Cut(why, ":"); word != v.Reason || (g == nil) == (v.Reason == "") {
			t.Errorf("%s: %q, want %q", v.Name, why, v.Reason)
		}
		if v.Text != "" && v.Reason != "malformed" {
			g := new(proto.Grant)
			if err := g.UnmarshalText([]byte(v.Text)); err != nil || !bytes.Equal(g.Marshal(), grant) {
				t.Errorf("%s: the text is %x, %v", v.Name, g.Marshal(), err)
			}
		}
		if fresh[i] != v {
			t.Errorf("%s: made here it is\n%+v\nin the file\n%+v", v.Name, fresh[i], v)
		}
	}
}
