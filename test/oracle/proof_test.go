package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"cosmossdk.io/log/v2"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/store/v2/rootmulti"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	ics23 "github.com/cosmos/ics23/go"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
)

// A claim is that store holds value under key in the state with an app hash.
type claim struct {
	appHash    []byte
	store      string
	key, value []byte
	proof      comet.StoreProof
}

func (c *claim) ours() error {
	return comet.VerifyExistence(c.appHash, c.store, c.key, c.value, c.proof)
}

// theirs is ics23's verdict, and whether the bytes are the canonical encoding of
// plain existence proofs.
func (c *claim) theirs() (ok, canonical bool) {
	defer func() {
		if recover() != nil { // ics23 may panic on odd proofs
			ok = false
		}
	}()
	var inner, outer ics23.CommitmentProof
	if inner.Unmarshal(c.proof.IAVL) != nil || outer.Unmarshal(c.proof.Store) != nil {
		return false, false
	}
	canonical = canonicalExistence(&inner, c.proof.IAVL) && canonicalExistence(&outer, c.proof.Store)
	root, err := inner.Calculate()
	if err != nil {
		return false, canonical
	}
	return ics23.VerifyMembership(ics23.IavlSpec, root, &inner, c.key, c.value) &&
		ics23.VerifyMembership(ics23.TendermintSpec, c.appHash, &outer, []byte(c.store), root), canonical
}

func canonicalExistence(p *ics23.CommitmentProof, raw []byte) bool {
	again, err := p.Marshal()
	return err == nil && bytes.Equal(again, raw) && p.GetExist() != nil
}

// stricter names the reason for which we refuse what ics23 accepts, or is empty.
// These are all of them; no Cosmos SDK chain makes such a proof.
func (c *claim) stricter(canonical bool) string {
	if !canonical {
		return "not the canonical encoding of an existence proof"
	}
	if len(c.proof.IAVL) > comet.MaxProof || len(c.proof.Store) > comet.MaxProof {
		return "a proof of more than 64 KiB"
	}
	var outer ics23.CommitmentProof
	if outer.Unmarshal(c.proof.Store) == nil && len(outer.GetExist().GetLeaf().GetPrefix()) != 1 {
		return "a store leaf with a longer prefix"
	}
	return ""
}

func (c *claim) compare(t *testing.T, what string, tally map[string]int) {
	t.Helper()
	ours := c.ours()
	theirs, canonical := c.theirs()
	switch reason := c.stricter(canonical); {
	case ours == nil && !canonical:
		t.Fatalf("%s: accepted, but not canonical: %x", what, c)
	case (ours == nil) == theirs:
		tally[fmt.Sprint("accepted: ", theirs)]++
	case ours != nil && reason != "":
		tally["stricter: "+reason]++
	default:
		t.Fatalf("%s:\nclaim:  %x\nours:   %v\ntheirs: %v", what, c, ours, theirs)
	}
}

// A multistore is the Cosmos SDK's, over real IAVL trees.
type multistore struct {
	*rootmulti.Store
	keys   map[string]*storetypes.KVStoreKey
	hashes map[int64][]byte
}

var storeNames = []string{"acc", "bank", proto.StoreContracts, proto.StoreMQ, proto.StoreRegistry, "staking", "upgrade"}

func newMultistore(t testing.TB) *multistore {
	m := &multistore{rootmulti.NewStore(dbm.NewMemDB(), log.NewNopLogger()), map[string]*storetypes.KVStoreKey{}, map[int64][]byte{}}
	for _, n := range storeNames {
		m.keys[n] = storetypes.NewKVStoreKey(n)
		m.MountStoreWithDB(m.keys[n], storetypes.StoreTypeIAVL, nil)
	}
	if err := m.LoadLatestVersion(); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *multistore) commit() int64 {
	id := m.Commit()
	m.hashes[id.Version] = id.Hash
	return id.Version
}

// prove asks for a proof the way a relayer does.
func (m *multistore) prove(t testing.TB, height int64, store string, key []byte) *claim {
	res, err := m.Query(&storetypes.RequestQuery{Path: "/" + store + "/key", Data: key, Height: height, Prove: true})
	if err != nil || len(res.ProofOps.GetOps()) != 2 {
		t.Fatalf("query of %s %x at %d: %v %v", store, key, height, res, err)
	}
	return &claim{m.hashes[height], store, key, res.Value, comet.StoreProof{IAVL: res.ProofOps.Ops[0].Data, Store: res.ProofOps.Ops[1].Data}}
}

// grown is a multistore with a random history, and what it holds at each height.
func grown(t testing.TB, rng *rand.Rand, heights, writes int) (*multistore, map[int64]map[string][]string) {
	m := newMultistore(t)
	held := map[int64]map[string][]string{}
	live := map[string]map[string]bool{}
	for range heights {
		for range writes {
			n := storeNames[rng.IntN(len(storeNames))]
			if live[n] == nil {
				live[n] = map[string]bool{}
			}
			key := bytesOf(rng, 1+rng.IntN(40))
			if rng.IntN(3) == 0 {
				key = proto.KeyTopic(fmt.Sprintf("cluster/%d", rng.IntN(300)))
			}
			m.GetKVStore(m.keys[n]).Set(key, bytesOf(rng, 1+rng.IntN(200)))
			live[n][string(key)] = true
		}
		h := m.commit()
		held[h] = map[string][]string{}
		for _, n := range storeNames {
			for k := range live[n] {
				held[h][n] = append(held[h][n], k)
			}
		}
	}
	return m, held
}

func pick(rng *rand.Rand, held map[int64]map[string][]string) (h int64, store string, key []byte) {
	for {
		h = 1 + rng.Int64N(int64(len(held)))
		store = storeNames[rng.IntN(len(storeNames))]
		if keys := held[h][store]; len(keys) > 0 {
			return h, store, []byte(keys[rng.IntN(len(keys))])
		}
	}
}

// TestRealProofs: proofs of a real Cosmos SDK state are accepted, at every height
// and in every store, and under no other height, store, key or value.
func TestRealProofs(t *testing.T) {
	rng := source(t, 5)
	m, held := grown(t, rng, 8, 250)
	for i := range cases(600) {
		h, store, key := pick(rng, held)
		c := m.prove(t, h, store, key)
		if err := c.ours(); err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if ok, canonical := c.theirs(); !ok || !canonical {
			t.Fatalf("case %d: ics23 refuses, or the encoding is not what is taken for canonical", i)
		}
		h2, store2, key2 := pick(rng, held)
		for _, wrong := range []claim{
			{m.hashes[h2], c.store, c.key, c.value, c.proof},
			{c.appHash, store2, c.key, c.value, c.proof},
			{c.appHash, c.store, key2, c.value, c.proof},
			{c.appHash, c.store, c.key, append([]byte{0}, c.value...), c.proof},
			{c.appHash, c.store, c.key, c.value, comet.StoreProof{IAVL: c.proof.Store, Store: c.proof.IAVL}},
			{c.appHash[:31], c.store, c.key, c.value, c.proof},
			{nil, c.store, c.key, c.value, c.proof},
		} {
			same := bytes.Equal(wrong.appHash, c.appHash) && wrong.store == c.store && bytes.Equal(wrong.key, c.key) && bytes.Equal(wrong.value, c.value) &&
				bytes.Equal(wrong.proof.IAVL, c.proof.IAVL)
			if err := wrong.ours(); (err == nil) != same {
				t.Fatalf("case %d: claim %+v: %v", i, wrong, err)
			}
		}
	}
}

// TestMutatedProofs: whatever is done to the bytes or to the parts of a proof, we
// accept nothing that ics23 refuses, and refuse more only for the listed reasons.
func TestMutatedProofs(t *testing.T) {
	rng := source(t, 6)
	m, held := grown(t, rng, 5, 300)
	tally := map[string]int{}
	for i := range cases(12000) {
		h, store, key := pick(rng, held)
		c := m.prove(t, h, store, key)
		what := "bytes"
		if i%2 == 0 {
			target := []*[]byte{&c.proof.IAVL, &c.proof.Store}[rng.IntN(2)]
			*target = mutateBytes(rng, *target)
		} else {
			what = mutateParts(t, rng, c)
		}
		c.compare(t, fmt.Sprintf("case %d, %s", i, what), tally)
	}
	t.Log(tally)
	for _, k := range []string{"accepted: true", "accepted: false", "stricter: not the canonical encoding of an existence proof", "stricter: a store leaf with a longer prefix"} {
		if tally[k] == 0 {
			t.Errorf("no case of %q", k)
		}
	}
}

func mutateBytes(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	i := rng.IntN(len(b))
	switch rng.IntN(5) {
	case 0:
		b[i] ^= 1 << rng.IntN(8)
	case 1:
		b = append(b[:i], b[i+1:]...)
	case 2:
		b = append(b[:i], append([]byte{byte(rng.Uint32())}, b[i:]...)...)
	case 3:
		b = b[:i]
	case 4:
		b = append(b, [][]byte{{0}, {0x0a, 0}, {0x12, 0}, {0x20, 1}, b}[rng.IntN(5)]...)
	}
	return b
}

// mutateParts edits a decoded proof. To come past the comparison of roots, it makes
// the app hash the one that the edited proof leads to, half of the time.
func mutateParts(t *testing.T, rng *rand.Rand, c *claim) string {
	var inner, outer ics23.CommitmentProof
	if inner.Unmarshal(c.proof.IAVL) != nil || outer.Unmarshal(c.proof.Store) != nil {
		t.Fatal("a real proof does not parse")
	}
	target := []*ics23.CommitmentProof{&inner, &outer}[rng.IntN(2)]
	e := target.GetExist()
	what := ""
	step := func() *ics23.InnerOp {
		if len(e.Path) == 0 {
			e.Path = append(e.Path, &ics23.InnerOp{Hash: ics23.HashOp_SHA256, Prefix: []byte{2, 4, 2, 32}, Suffix: bytesOf(rng, 33)})
		}
		return e.Path[rng.IntN(len(e.Path))]
	}
	switch n := rng.IntN(16); n {
	case 0:
		what, e.Key = "key", bytesOf(rng, rng.IntN(4))
		if rng.IntN(2) == 0 {
			c.key = e.Key
		}
	case 1:
		what, e.Value = "value", bytesOf(rng, rng.IntN(4))
		if rng.IntN(2) == 0 {
			c.value = e.Value
		}
	case 2:
		what, e.Leaf.Prefix = "leaf prefix longer", append(e.Leaf.Prefix, bytesOf(rng, 1+rng.IntN(3))...)
	case 3:
		what, e.Leaf.Prefix = "leaf prefix", bytesOf(rng, rng.IntN(5))
	case 4:
		what, e.Leaf.Hash = "leaf hash", ics23.HashOp(rng.Int32N(4))
	case 5:
		what, e.Leaf.PrehashKey, e.Leaf.PrehashValue = "leaf prehash", ics23.HashOp(rng.Int32N(2)), ics23.HashOp(rng.Int32N(3))
	case 6:
		what, e.Leaf.Length = "leaf length", ics23.LengthOp(rng.Int32N(9))
	case 7:
		op := step()
		what, op.Suffix = "suffix longer", append(op.Suffix, bytesOf(rng, []int{1, 32, 33, 66}[rng.IntN(4)])...)
	case 8:
		what, step().Suffix = "suffix", bytesOf(rng, []int{0, 1, 32, 33, 64, 66}[rng.IntN(6)])
	case 9:
		op := step()
		what, op.Prefix = "prefix longer", append(op.Prefix, bytesOf(rng, []int{1, 32, 33}[rng.IntN(3)])...)
	case 10:
		what, step().Prefix = "prefix", append([]byte{byte(rng.IntN(6)), byte(rng.IntN(6)), byte(rng.IntN(6)), 32}, bytesOf(rng, []int{0, 1, 33, 41, 42}[rng.IntN(5)])...)
	case 11:
		what, step().Hash = "step hash", ics23.HashOp(rng.Int32N(4))
	case 12:
		what = "steps more"
		for range []int{1, 2, 127, 128, 129, 130}[rng.IntN(6)] {
			s := *step()
			e.Path = append(e.Path, &s)
		}
	case 13:
		what = "step less"
		step()
		i := rng.IntN(len(e.Path))
		e.Path = append(e.Path[:i], e.Path[i+1:]...)
	case 14:
		what = "in a batch"
		target.Proof = &ics23.CommitmentProof_Batch{Batch: &ics23.BatchProof{Entries: []*ics23.BatchEntry{{Proof: &ics23.BatchEntry_Exist{Exist: e}}}}}
		if rng.IntN(2) == 0 {
			what, *target = "compressed", *ics23.Compress(target)
		}
	case 15:
		what = "high steps" // heights that must not fall, as numbers of one to five bytes
		for i, op := range e.Path {
			if target == &inner && i < 8 {
				_, n := binary.Varint(op.Prefix)
				op.Prefix = append(binary.AppendVarint(nil, int64(rng.IntN(1<<rng.IntN(20)))), op.Prefix[n:]...)
			}
		}
	}
	var err error
	if rng.IntN(2) == 0 {
		if root, err := inner.Calculate(); err == nil && target == &inner && outer.GetExist() != nil {
			outer.GetExist().Value = root
		}
		if root, err := outer.Calculate(); err == nil {
			c.appHash = root
		}
	}
	if c.proof.IAVL, err = inner.Marshal(); err != nil {
		t.Fatal(err)
	}
	if c.proof.Store, err = outer.Marshal(); err != nil {
		t.Fatal(err)
	}
	return what
}

// TestSyntheticProofs: ics23 accepts the proofs of the synthetic chain, so that what
// passes on it passes on a real one.
func TestSyntheticProofs(t *testing.T) {
	rng := source(t, 7)
	ch := comettest.New(comettest.Config{})
	for i := range 70 {
		ch.CreateTopic(fmt.Sprintf("cluster/%d", i))
	}
	for range 20 {
		for range 5 {
			ch.Send(fmt.Sprintf("cluster/%d", rng.IntN(70)), "x", proto.RulesActivated{})
		}
		ch.Next()
	}
	for i := range cases(500) {
		h := 1 + rng.Int64N(19)
		topic := fmt.Sprintf("cluster/%d", rng.IntN(70))
		cur, p := ch.Cursor(h, topic)
		next := ch.Header(h + 1)
		c := &claim{next.AppHash, proto.StoreMQ, proto.KeyTopic(topic), cur.Marshal(), p}
		if ok, canonical := c.theirs(); !ok || !canonical || c.ours() != nil {
			t.Fatalf("case %d: ics23 %v, canonical %v, ours %v", i, ok, canonical, c.ours())
		}
	}
}
