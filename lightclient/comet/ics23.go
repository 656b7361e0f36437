package comet

import (
	"bytes"
	"crypto/sha256"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of a proof.
const (
	MaxProof = 64 << 10
	maxOps   = 128
)

// A StoreProof is the pair of ICS-23 existence proofs that a Cosmos SDK chain gives
// for one key: the key in its IAVL store, and the store's root in the app hash. Each
// is the protobuf encoding of ics23.CommitmentProof, in the one form that the chain's
// encoder gives it.
type StoreProof struct {
	IAVL  []byte
	Store []byte
}

// VerifyExistence checks that the named store holds value under key in the state
// with the given app hash. It accepts nothing that ics23's IavlSpec and
// TendermintSpec refuse, and every proof that a Cosmos SDK chain makes. It refuses
// more in three places: other encodings of the same proof, batches and compressed
// proofs, and a store leaf with a longer prefix than the specification's. Absence is
// never provable here, because nothing in the protocol relies on it.
func VerifyExistence(appHash []byte, store string, key, value []byte, p StoreProof) error {
	inner, err := parseExistence(p.IAVL)
	if err != nil {
		return err
	}
	root, err := inner.check(&iavlSpec, key, value)
	if err != nil {
		return err
	}
	outer, err := parseExistence(p.Store)
	if err != nil {
		return err
	}
	got, err := outer.check(&tendermintSpec, []byte(store), root[:])
	if err != nil {
		return err
	}
	if !bytes.Equal(got[:], appHash) {
		return errf(ErrProof, "store %s key %x: proof leads to %x, app hash is %x", store, key, got, appHash)
	}
	return nil
}

type innerOp struct{ prefix, suffix []byte }

type existence struct {
	key, value []byte
	leafPrefix []byte
	path       []innerOp
}

// spec is the part of an ics23.ProofSpec that differs between the two trees. Both
// hash leaves and nodes with SHA-256, hash the value first, and length-prefix key
// and value with varints.
type spec struct {
	name                 string
	leafPrefix           []byte
	minPrefix, maxPrefix int
	childSize            int
	iavl                 bool
}

var (
	iavlSpec       = spec{"iavl", []byte{0}, 4, 12, 33, true}
	tendermintSpec = spec{"tendermint", []byte{0}, 1, 1, 32, false}
)

func (e *existence) check(s *spec, key, value []byte) ([32]byte, error) {
	var h [32]byte
	if !bytes.Equal(e.key, key) || !bytes.Equal(e.value, value) {
		return h, errf(ErrProof, "%s: proof is for key %x", s.name, e.key)
	}
	if !bytes.HasPrefix(e.leafPrefix, s.leafPrefix) {
		return h, errf(ErrProof, "%s: leaf prefix %x", s.name, e.leafPrefix)
	}
	if s.iavl {
		// The prefix is height 0, size 1, version: three varints and nothing else.
		if rest, ok := iavlPrefix(e.leafPrefix, 0); !ok || rest != 0 {
			return h, errf(ErrProof, "iavl: leaf prefix %x", e.leafPrefix)
		}
	} else if len(e.leafPrefix) != 1 {
		// TendermintSpec takes a longer leaf prefix than its own; none is ever made.
		return h, errf(ErrProof, "tendermint: leaf prefix %x", e.leafPrefix)
	}
	sum := sha256.Sum256(value)
	buf := append([]byte(nil), e.leafPrefix...)
	buf = protowire.AppendBytes(buf, key)
	buf = protowire.AppendBytes(buf, sum[:])
	h = sha256.Sum256(buf)
	for i := range e.path {
		op := &e.path[i]
		// A node's prefix may hold the left child's hash before ours, never another
		// leaf's form; the suffix is none or the right child.
		if bytes.HasPrefix(op.prefix, s.leafPrefix) || len(op.prefix) < s.minPrefix || len(op.prefix) > s.maxPrefix+s.childSize ||
			len(op.suffix)%s.childSize != 0 {
			return h, errf(ErrProof, "%s: inner node %d: prefix of %d bytes, suffix of %d", s.name, i, len(op.prefix), len(op.suffix))
		}
		if s.iavl {
			// After height, size and version: the length byte of our hash, or left child
			// with its length byte and then ours.
			rest, ok := iavlPrefix(op.prefix, i+1)
			if !ok || (rest != 1 && rest != 34) {
				return h, errf(ErrProof, "iavl: inner node %d: prefix %x", i, op.prefix)
			}
		}
		buf = append(append(append(buf[:0], op.prefix...), h[:]...), op.suffix...)
		h = sha256.Sum256(buf)
	}
	return h, nil
}

// iavlPrefix reads height, size and version and returns how many bytes follow. The
// height of node number layer is at least layer.
func iavlPrefix(b []byte, layer int) (rest int, ok bool) {
	for i := range 3 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return 0, false
		}
		value := protowire.DecodeZigZag(v)
		if value < 0 || (i == 0 && (value < int64(layer) || (layer == 0 && value != 0))) {
			return 0, false
		}
		b = b[n:]
	}
	return len(b), true
}

// The fields of a leaf operation before its prefix: hash SHA-256, key not hashed,
// value SHA-256, lengths VAR_PROTO. And those of an inner one: hash SHA-256.
var (
	leafOp = []byte{1 << 3, 1, 3 << 3, 1, 4 << 3, 1}
	nodeOp = []byte{1 << 3, 1}
)

// parseExistence reads CommitmentProof{exist = 1} in its canonical encoding: fields in
// order, none empty, none unknown, lengths as short as they can be. The results are
// parts of b.
func parseExistence(b []byte) (*existence, error) {
	if len(b) > MaxProof {
		return nil, errf(ErrProof, "proof of %d bytes", len(b))
	}
	outer := &cut{b: b}
	body := outer.message(1)
	e := &existence{key: body.bytes(1), value: body.bytes(2)}
	leaf := body.message(3)
	leaf.expect(leafOp)
	e.leafPrefix = leaf.bytes(5)
	bad := leaf.left()
	for !body.bad && len(body.b) > 0 && len(e.path) < maxOps {
		node := body.message(4)
		node.expect(nodeOp)
		op := innerOp{prefix: node.bytes(2)}
		if len(node.b) > 0 {
			op.suffix = node.bytes(3)
		}
		bad = bad || node.left()
		e.path = append(e.path, op)
	}
	if bad || body.left() || outer.left() {
		return nil, errf(ErrProof, "not the canonical encoding of an existence proof")
	}
	return e, nil
}

// A cut takes length-delimited protobuf fields off the front of a message. Once
// something is not as expected it is bad and gives nothing more.
type cut struct {
	b   []byte
	bad bool
}

// bytes takes a field that is not empty.
func (c *cut) bytes(field protowire.Number) []byte {
	c.expect([]byte{byte(field<<3 | protowire.Number(protowire.BytesType))})
	v, n := protowire.ConsumeBytes(c.b)
	if c.bad || n < 0 || len(v) == 0 || n != protowire.SizeBytes(len(v)) {
		c.b, c.bad = nil, true
		return nil
	}
	c.b = c.b[n:]
	return v
}

func (c *cut) message(field protowire.Number) *cut {
	v := c.bytes(field)
	return &cut{v, c.bad}
}

func (c *cut) expect(want []byte) {
	if c.bad || !bytes.HasPrefix(c.b, want) {
		c.b, c.bad = nil, true
		return
	}
	c.b = c.b[len(want):]
}

// left reports whether something was wrong or is not read.
func (c *cut) left() bool { return c.bad || len(c.b) > 0 }
