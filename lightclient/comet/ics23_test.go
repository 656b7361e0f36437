package comet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
)

// topics is a chain with 20 topics in store mq.
func topics() *comettest.Chain {
	c := comettest.New(comettest.Config{})
	for i := range 20 {
		c.CreateTopic(proto.TopicCluster(proto.ClusterID(i)))
	}
	c.Run(2)
	c.Send("cluster/7", "x", proto.RulesActivated{})
	c.Run(4)
	return c
}

// TestProofTable: one true claim, and every way to bend it.
func TestProofTable(t *testing.T) {
	c := topics()
	key := proto.KeyTopic("cluster/7")
	type claim struct {
		appHash, key, value []byte
		store               string
		p                   comettest.Proof
		raw                 *comet.StoreProof // instead of p
	}
	node := func(op comettest.Op, prefix, suffix []byte) comettest.Op {
		return comettest.Op{Prefix: append(bytes.Clone(op.Prefix), prefix...), Suffix: append(bytes.Clone(op.Suffix), suffix...)}
	}
	for _, tc := range []struct {
		name string
		ok   bool
		edit func(k *claim)
	}{
		{"as it is", true, func(*claim) {}},
		{"another key", false, func(k *claim) { k.key = proto.KeyTopic("cluster/8") }},
		{"proof of another key", false, func(k *claim) { _, k.p = c.Prove(3, proto.StoreMQ, proto.KeyTopic("cluster/8")) }},
		{"another value", false, func(k *claim) { k.value = make([]byte, 40) }},
		{"value cut", false, func(k *claim) { k.value = k.value[:39] }},
		{"value and proof edited alike", false, func(k *claim) { k.value = make([]byte, 40); k.p.IAVL.Value = k.value }},
		{"key and proof edited alike", false, func(k *claim) { k.key = proto.KeyTopic("cluster/9"); k.p.IAVL.Key = k.key }},
		{"app hash of the block itself", false, func(k *claim) { k.appHash = c.Header(3).AppHash }},
		{"app hash of an earlier block", false, func(k *claim) { k.appHash = c.Header(2).AppHash }},
		{"proof of an earlier state", false, func(k *claim) { _, k.p = c.Prove(2, proto.StoreMQ, key) }},
		{"another store's name", false, func(k *claim) { k.store = proto.StoreRegistry }},
		{"another store's place", false, func(k *claim) {
			_, p := c.Prove(3, "bank", []byte("genesis/0"))
			k.p.Store = p.Store
		}},
		{"the two swapped", false, func(k *claim) { k.p.IAVL, k.p.Store = k.p.Store, k.p.IAVL }},
		{"empty app hash", false, func(k *claim) { k.appHash = nil }},
		{"empty key", false, func(k *claim) { k.key, k.p.IAVL.Key = nil, nil }},
		{"empty value", false, func(k *claim) { k.value, k.p.IAVL.Value = nil, nil }},
		{"a step less", false, func(k *claim) { k.p.IAVL.Path = k.p.IAVL.Path[1:] }},
		{"no steps", false, func(k *claim) { k.p.IAVL.Path = nil }},
		{"a step more", false, func(k *claim) { k.p.Store.Path = append(k.p.Store.Path, k.p.Store.Path[0]) }},
		{"128 steps, with their own app hash", true, func(k *claim) { steps(k.p, 128); rebase(k.p, &k.appHash) }},
		{"129 steps, with their own app hash", false, func(k *claim) { steps(k.p, 129); rebase(k.p, &k.appHash) }},
		{"the proof says another key", false, func(k *claim) { k.p.IAVL.Key = proto.KeyTopic("cluster/8") }},
		{"the proof says another value", false, func(k *claim) { k.p.IAVL.Value = make([]byte, 40) }},
		{"the proof says another store", false, func(k *claim) { k.p.Store.Key = []byte("bank") }},
		{"the proof says another root", false, func(k *claim) { k.p.Store.Value = make([]byte, 32) }},
		{"a longer proof than allowed", false, func(k *claim) { k.p.IAVL.Value = make([]byte, comet.MaxProof) }},
		{"leaf of an inner node's form", false, func(k *claim) { k.p.IAVL.LeafPrefix = []byte{2, 4, 2} }},
		{"leaf with a longer prefix", false, func(k *claim) { k.p.IAVL.LeafPrefix = append(k.p.IAVL.LeafPrefix, 0) }},
		{"leaf with a longer prefix, with its own app hash", false, func(k *claim) {
			k.p.IAVL.LeafPrefix = append(k.p.IAVL.LeafPrefix, 0)
			rebase(k.p, &k.appHash)
		}},
		{"leaf with a shorter prefix, with its own app hash", false, func(k *claim) { k.p.IAVL.LeafPrefix = []byte{0, 2}; rebase(k.p, &k.appHash) }},
		{"leaf of height 1, with its own app hash", false, func(k *claim) { k.p.IAVL.LeafPrefix = []byte{2, 2, 2}; rebase(k.p, &k.appHash) }},
		{"leaf without prefix", false, func(k *claim) { k.p.IAVL.LeafPrefix = nil }},
		{"store leaf with a longer prefix", false, func(k *claim) { k.p.Store.LeafPrefix = []byte{0, 0}; k.appHash = root(k.p.Store) }},
		{"step of a leaf's form", false, func(k *claim) { k.p.Store.Path[0].Prefix[0] = 0; k.appHash = root(k.p.Store) }},
		{"step with too long a prefix", false, func(k *claim) {
			k.p.Store.Path[0] = node(k.p.Store.Path[0], make([]byte, 33), nil)
			k.appHash = root(k.p.Store)
		}},
		{"step with a suffix that is no child", false, func(k *claim) {
			k.p.Store.Path[0] = node(k.p.Store.Path[0], nil, []byte{1})
			k.appHash = root(k.p.Store)
		}},
		{"iavl step with a byte more before the child", false, func(k *claim) {
			k.p.IAVL.Path[0] = node(k.p.IAVL.Path[0], []byte{1}, nil)
			rebase(k.p, &k.appHash)
		}},
		{"iavl step lower than its place", false, func(k *claim) {
			k.p.IAVL.Path[1].Prefix[0] = 2
			rebase(k.p, &k.appHash)
		}},
		{"iavl step of negative height", false, func(k *claim) {
			k.p.IAVL.Path[0].Prefix[0] = 1
			rebase(k.p, &k.appHash)
		}},
		{"iavl step cut inside its numbers", false, func(k *claim) {
			k.p.IAVL.Path[0].Prefix = []byte{0x80, 0x80, 0x80, 0x80}
			rebase(k.p, &k.appHash)
		}},
		// This one leads to the app hash that it is compared with: a different tree, which
		// shows that the cases above fail for their form and not for the root.
		{"a tree of its own, with its own app hash", true, func(k *claim) {
			k.p.IAVL.Path[0].Prefix[2] ^= 2
			rebase(k.p, &k.appHash)
		}},
		{"no bytes", false, func(k *claim) { k.raw = &comet.StoreProof{} }},
		{"no store proof", false, func(k *claim) { k.raw = &comet.StoreProof{IAVL: k.p.Marshal().IAVL} }},
	} {
		value, p := c.Prove(3, proto.StoreMQ, key)
		k := &claim{c.Header(4).AppHash, key, value, proto.StoreMQ, clone(p), nil}
		tc.edit(k)
		raw := k.p.Marshal()
		if k.raw != nil {
			raw = *k.raw
		}
		err := comet.VerifyExistence(k.appHash, k.store, k.key, k.value, raw)
		if (err == nil) != tc.ok || (err != nil && !errors.Is(err, comet.ErrProof)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// clone makes a proof whose parts may be edited.
func clone(p comettest.Proof) comettest.Proof {
	one := func(e *comettest.Existence) *comettest.Existence {
		c := &comettest.Existence{Key: bytes.Clone(e.Key), Value: bytes.Clone(e.Value), LeafPrefix: bytes.Clone(e.LeafPrefix)}
		for _, op := range e.Path {
			c.Path = append(c.Path, comettest.Op{Prefix: bytes.Clone(op.Prefix), Suffix: bytes.Clone(op.Suffix)})
		}
		return c
	}
	return comettest.Proof{IAVL: one(p.IAVL), Store: one(p.Store)}
}

func root(e *comettest.Existence) []byte { h := e.Root(); return h[:] }

// steps makes the IAVL proof one of a tree of the given depth.
func steps(p comettest.Proof, n int) {
	p.IAVL.Path = nil
	for i := range n {
		prefix := binary.AppendVarint(nil, int64(i+1))
		p.IAVL.Path = append(p.IAVL.Path, comettest.Op{Prefix: append(prefix, 4, 2, 32), Suffix: make([]byte, 33)})
	}
}

// rebase makes the store proof and the app hash fit an edited IAVL proof, as a forger
// who could choose the app hash would.
func rebase(p comettest.Proof, appHash *[]byte) {
	p.Store.Value = root(p.IAVL)
	*appHash = root(p.Store)
}

// TestProofHasOneEncoding: the same proof in another protobuf encoding is refused.
func TestProofHasOneEncoding(t *testing.T) {
	c := topics()
	_, p := c.Prove(3, proto.StoreMQ, proto.KeyTopic("cluster/7"))
	good := p.IAVL.Marshal()
	if _, err := comet.ParseExistence(good); err != nil {
		t.Fatal(err)
	}
	field := func(n int, b []byte) []byte {
		return append(append([]byte{byte(n<<3 | 2)}, uvarint(len(b))...), b...)
	}
	e := p.IAVL
	key, value := field(1, e.Key), field(2, e.Value)
	leaf := append([]byte{8, 1, 24, 1, 32, 1}, field(5, e.LeafPrefix)...)
	var path []byte
	for _, op := range e.Path {
		n := append([]byte{8, 1}, field(2, op.Prefix)...)
		if len(op.Suffix) > 0 {
			n = append(n, field(3, op.Suffix)...)
		}
		path = append(path, field(4, n)...)
	}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	proof := func(parts ...[]byte) []byte { return field(1, cat(parts...)) }
	if !bytes.Equal(proof(key, value, field(3, leaf), path), good) {
		t.Fatal("this test does not build the proof that it varies")
	}
	step := func(n []byte) []byte { return proof(key, value, field(3, leaf), field(4, n)) }
	for name, b := range map[string][]byte{
		"trailing byte":             append(bytes.Clone(good), 0),
		"proof twice":               append(bytes.Clone(good), good...),
		"another kind of proof":     field(2, cat(key, value, field(3, leaf), path)),
		"key twice":                 proof(key, key, value, field(3, leaf), path),
		"value before key":          proof(value, key, field(3, leaf), path),
		"path before leaf":          proof(key, value, path, field(3, leaf)),
		"no leaf":                   proof(key, value, path),
		"unknown field":             proof(key, value, field(3, leaf), path, field(5, []byte{1})),
		"key not hashed, said":      proof(key, value, field(3, append([]byte{8, 1, 16, 0, 24, 1, 32, 1}, field(5, e.LeafPrefix)...)), path),
		"length said twice":         proof(key, value, field(3, append([]byte{8, 1, 24, 1, 32, 1, 32, 1}, field(5, e.LeafPrefix)...)), path),
		"hash said late":            proof(key, value, field(3, append([]byte{24, 1, 32, 1, 8, 1}, field(5, e.LeafPrefix)...)), path),
		"leaf hash is another":      proof(key, value, field(3, append([]byte{8, 2, 24, 1, 32, 1}, field(5, e.LeafPrefix)...)), path),
		"number in two bytes":       proof(key, value, field(3, append([]byte{8, 0x81, 0, 24, 1, 32, 1}, field(5, e.LeafPrefix)...)), path),
		"length in two bytes":       proof(append([]byte{10, byte(len(e.Key)) | 0x80, 0}, e.Key...), value, field(3, leaf), path),
		"length beyond the input":   proof(key, value, field(3, leaf), []byte{34, 0x7f, 8, 1}),
		"length of eleven bytes":    proof(key, append([]byte{18}, bytes.Repeat([]byte{0xff}, 11)...)),
		"empty step":                step(nil),
		"step without prefix":       step([]byte{8, 1}),
		"step with an empty suffix": step(cat([]byte{8, 1}, field(2, e.Path[0].Prefix), []byte{26, 0})),
		"step hashes otherwise":     step(cat([]byte{8, 3}, field(2, e.Path[0].Prefix))),
		"step with a field more":    step(cat([]byte{8, 1}, field(2, e.Path[0].Prefix), field(3, make([]byte, 33)), field(4, []byte{1}))),
		"cut":                       good[:len(good)-1],
		"empty":                     {},
	} {
		if _, err := comet.ParseExistence(b); !errors.Is(err, comet.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func uvarint(n int) []byte {
	if n < 128 {
		return []byte{byte(n)}
	}
	return append([]byte{byte(n) | 0x80}, uvarint(n>>7)...)
}

// FuzzParseProof: what parses encodes to the same bytes, and no bytes prove a value
// that the state does not hold.
func FuzzParseProof(f *testing.F) {
	c := topics()
	_, p := c.Prove(3, proto.StoreMQ, proto.KeyTopic("cluster/7"))
	raw := p.Marshal()
	f.Add(raw.IAVL)
	f.Add(raw.Store)
	_, p = c.Prove(1, "bank", []byte("genesis/1"))
	f.Add(p.IAVL.Marshal())
	f.Add([]byte{10, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := comet.ParseExistence(in)
		if err != nil {
			if !errors.Is(err, comet.ErrProof) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again := &comettest.Existence{Key: e.Key, Value: e.Value, LeafPrefix: e.LeafPrefix}
		for _, op := range e.Path {
			again.Path = append(again.Path, comettest.Op{Prefix: op[0], Suffix: op[1]})
		}
		if !bytes.Equal(again.Marshal(), in) {
			t.Fatalf("%x encodes as %x", in, again.Marshal())
		}
		forged := make([]byte, 40)
		if comet.VerifyExistence(c.Header(4).AppHash, proto.StoreMQ, proto.KeyTopic("cluster/7"), forged, comet.StoreProof{IAVL: in, Store: raw.Store}) == nil {
			t.Fatalf("%x proves a value that is not there", in)
		}
	})
}
