package dprf

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"

	"github.com/phala-go/phala/crypto/transcript"
)

// Failure classes. Test with errors.Is.
var (
	ErrShare   = errors.New("dprf: not a valid share")
	ErrPoint   = errors.New("dprf: not a valid point")
	ErrProof   = errors.New("dprf: proof does not verify")
	ErrIndices = errors.New("dprf: shares need distinct positive indices")
)

// A Share is a holder's secret. It does not print.
type Share struct{ x *scalar.Scalar }

// Format makes every verb print nothing of the share.
func (*Share) Format(f fmt.State, _ rune) { io.WriteString(f, "dprf(share)") }

// A Point is a compressed Ristretto point.
type Point [32]byte

// A Proof is challenge ‖ response, 64 bytes.
type Proof [64]byte

// NewShare reads 32 canonical bytes, not zero.
func NewShare(b []byte) (*Share, error) {
	x, err := scalar.NewFromCanonicalBytes(b)
	if err != nil || x.Equal(scalar.New()) == 1 {
		return nil, ErrShare
	}
	return &Share{x}, nil
}

// Generate makes the only share of a 1-of-1 sharing from 64 bytes of rng.
func Generate(rng io.Reader) (*Share, error) {
	x, err := random(rng)
	if err != nil {
		return nil, err
	}
	if x.Equal(scalar.New()) == 1 {
		return nil, ErrShare
	}
	return &Share{x}, nil
}

func random(rng io.Reader) (*scalar.Scalar, error) {
	var wide [64]byte
	if _, err := io.ReadFull(rng, wide[:]); err != nil {
		return nil, fmt.Errorf("dprf: read random scalar: %w", err)
	}
	return scalar.NewFromBytesModOrderWide(wide[:])
}

// Split shares a secret among n holders so that any t of them suffice: share i is
// the value at i of a random polynomial of degree t-1 whose value at 0 is the secret.
func (s *Share) Split(rng io.Reader, t, n int) ([]*Share, error) {
	if t < 1 || n < t {
		return nil, fmt.Errorf("%w: %d of %d", ErrIndices, t, n)
	}
	coefficients := []*scalar.Scalar{s.x}
	for range t - 1 {
		c, err := random(rng)
		if err != nil {
			return nil, err
		}
		coefficients = append(coefficients, c)
	}
	out := make([]*Share, n)
	for i := range out {
		at, v := scalar.NewFromUint64(uint64(i+1)), scalar.New()
		for j := t - 1; j >= 0; j-- {
			v.Mul(v, at).Add(v, coefficients[j])
		}
		out[i] = &Share{v}
	}
	return out, nil
}

// Bytes returns the 32 bytes that NewShare reads.
func (s *Share) Bytes() []byte { return scalarBytes(s.x) }

func scalarBytes(x *scalar.Scalar) []byte {
	b := make([]byte, 32)
	if err := x.ToBytes(b); err != nil {
		panic("dprf: broken invariant: a scalar does not encode: " + err.Error())
	}
	return b
}

func compress(p *curve.RistrettoPoint) Point {
	var c curve.CompressedRistretto
	c.SetRistrettoPoint(p)
	return Point(c)
}

func (p Point) decompress() (*curve.RistrettoPoint, error) {
	c := curve.CompressedRistretto(p)
	q, err := curve.NewRistrettoPoint().SetCompressed(&c)
	if err != nil || q.IsIdentity() {
		return nil, fmt.Errorf("%w: %x", ErrPoint, p[:])
	}
	return q, nil
}

// Public returns Y = x·G.
func (s *Share) Public() Point {
	return compress(curve.NewRistrettoPoint().MulBasepoint(curve.RISTRETTO_BASEPOINT_TABLE, s.x))
}

func labelPoint(label string) *curve.RistrettoPoint {
	h := sha512.Sum512(transcript.Bytes("phala/dprf/v1", []byte(label)))
	p, err := curve.NewRistrettoPoint().SetUniformBytes(h[:])
	if err != nil {
		panic("dprf: broken invariant: " + err.Error())
	}
	return p
}

func challenge(label string, public, partial, a, b Point) *scalar.Scalar {
	h := sha512.Sum512(transcript.Bytes("phala/dprf/dleq/v1", []byte(label), public[:], partial[:], a[:], b[:]))
	c, err := scalar.NewFromBytesModOrderWide(h[:])
	if err != nil {
		panic("dprf: broken invariant: " + err.Error())
	}
	return c
}

// Evaluate returns the partial evaluation of a label and its proof.
func (s *Share) Evaluate(rng io.Reader, label string) (Point, Proof, error) {
	k, err := random(rng)
	if err != nil {
		return Point{}, Proof{}, err
	}
	base := labelPoint(label)
	partial := compress(curve.NewRistrettoPoint().Mul(base, s.x))
	a := compress(curve.NewRistrettoPoint().MulBasepoint(curve.RISTRETTO_BASEPOINT_TABLE, k))
	b := compress(curve.NewRistrettoPoint().Mul(base, k))
	c := challenge(label, s.Public(), partial, a, b)
	r := scalar.New().Mul(c, s.x)
	r.Add(r, k)
	return partial, Proof(append(scalarBytes(c), scalarBytes(r)...)), nil
}

// Verify checks that partial is the evaluation of label with the share of public.
func Verify(public Point, label string, partial Point, proof Proof) error {
	c, err := scalar.NewFromCanonicalBytes(proof[:32])
	if err != nil {
		return fmt.Errorf("%w: challenge is not canonical", ErrProof)
	}
	r, err := scalar.NewFromCanonicalBytes(proof[32:])
	if err != nil {
		return fmt.Errorf("%w: response is not canonical", ErrProof)
	}
	y, err := public.decompress()
	if err != nil {
		return err
	}
	z, err := partial.decompress()
	if err != nil {
		return err
	}
	// a = r·G − c·Y and b = r·P − c·Z
	minus := scalar.New().Neg(c)
	a := curve.NewRistrettoPoint().DoubleScalarMulBasepointVartime(minus, y, r)
	b := curve.NewRistrettoPoint().MultiscalarMulVartime([]*scalar.Scalar{r, minus}, []*curve.RistrettoPoint{labelPoint(label), z})
	if challenge(label, public, partial, compress(a), compress(b)).Equal(c) != 1 {
		return fmt.Errorf("%w: label %q", ErrProof, label)
	}
	return nil
}

// A Partial is a verified partial evaluation of the holder with an index from 1.
type Partial struct {
	Index uint32
	Point Point
}

// Combine returns the key of a label from the partial evaluations of t holders. They
// must have been verified: a wrong one gives a wrong key.
func Combine(label string, partials []Partial) ([32]byte, error) {
	sum := curve.NewRistrettoPoint().Identity()
	for i, p := range partials {
		q, err := p.Point.decompress()
		if err != nil {
			return [32]byte{}, err
		}
		// Lagrange coefficient at 0: ∏ j/(j−i)
		num, den := scalar.One(), scalar.One()
		xi := scalar.NewFromUint64(uint64(p.Index))
		for j, o := range partials {
			if i == j {
				continue
			}
			if o.Index == p.Index {
				return [32]byte{}, fmt.Errorf("%w: %d twice", ErrIndices, p.Index)
			}
			xj := scalar.NewFromUint64(uint64(o.Index))
			num.Mul(num, xj)
			den.Mul(den, scalar.New().Sub(xj, xi))
		}
		if p.Index == 0 {
			return [32]byte{}, fmt.Errorf("%w: 0", ErrIndices)
		}
		sum.Add(sum, curve.NewRistrettoPoint().Mul(q, num.Mul(num, scalar.New().Invert(den))))
	}
	if len(partials) == 0 {
		return [32]byte{}, fmt.Errorf("%w: none", ErrIndices)
	}
	point := compress(sum)
	out, err := hkdf.Key(sha256.New, point[:], nil, string(transcript.Bytes("phala/dprf/out/v1", []byte(label))), 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("dprf: derive: %w", err)
	}
	return [32]byte(out), nil
}
