package oracle

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
)

const noHash = crypto.Hash(0)

// Encodings of the points of small order, canonical and not: the list of the ZIP-215
// specification's test vectors, by construction: y and y+p where it fits, with
// either sign bit.
func smallOrder(t *testing.T) [][32]byte {
	var out [][32]byte
	for _, y := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 1 + p
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 0 + p
	} {
		b, err := hex.DecodeString(y)
		if err != nil {
			t.Fatal(err)
		}
		for _, sign := range []byte{0, 0x80} {
			e := [32]byte(b)
			e[31] |= sign
			out = append(out, e)
		}
	}
	return out
}

// edgeQuestion is an adjacent block whose validators have the given keys and
// signatures; the first of them has nearly all the power.
func edgeQuestion(keys [][32]byte, sign func(i int, vote []byte) [64]byte) *question {
	c := comettest.New(comettest.Config{})
	c.Run(3)
	set := new(comet.ValidatorSet)
	for i, k := range keys {
		set.Validators = append(set.Validators, comet.Validator{PublicKey: k, Power: int64(len(keys) - i)})
	}
	hash := set.Hash()
	trusted, h := c.Header(2), c.Header(3)
	trusted.NextValidatorsHash, h.ValidatorsHash = hash[:], hash[:]
	b := comettest.Sign(h, comettest.NewSet("x", len(keys)), comettest.Signing{})
	b.Validators = set
	for i := range b.Commit.Signatures {
		s := &b.Commit.Signatures[i]
		s.Address = set.Validators[i].Address()
		s.Signature = sign(i, comettest.VoteSignBytes(c.ChainID(), 3, 0, b.Commit.BlockID, s.Time))
	}
	return &question{comet.Params{ChainID: c.ChainID(), TrustingPeriod: time.Hour, MaxClockDrift: time.Second}, trusted, set, b, c.Time()}
}

// TestSmallOrderKeys: every pair of encodings of small-order points as key and R,
// with S = 0, is a valid signature of everything under ZIP-215, one by one and in a
// batch, and so it is here.
func TestSmallOrderKeys(t *testing.T) {
	points := smallOrder(t)
	tally := map[string]int{}
	for _, a := range points {
		for _, r := range points {
			for _, n := range []int{1, 2, 5} {
				keys := make([][32]byte, n)
				for i := range keys {
					keys[i] = a
					if i > 0 { // distinct keys: honest ones beside it
						s := comettest.NewSigner("edge", i, 1)
						v := s.Validator()
						keys[i] = v.PublicKey
					}
				}
				q := edgeQuestion(keys, func(i int, vote []byte) (sig [64]byte) {
					if i == 0 {
						copy(sig[:], r[:])
						return sig
					}
					return [64]byte(ed25519.Sign(comettest.NewSigner("edge", i, 1).Key, vote))
				})
				q.compare(t, fmt.Sprintf("key %x R %x of %d", a, r, n), tally)
			}
		}
	}
	t.Log(tally)
	if tally["accepted"] < 300 {
		t.Fatal("ZIP-215 signatures are refused")
	}
}

// TestTorsion: a signature whose R carries a component of small order is valid under
// the cofactored equation alone. A verifier without the cofactor would split from the
// chain here.
func TestTorsion(t *testing.T) {
	tally := map[string]int{}
	for n, torsion := range smallOrder(t) {
		for _, size := range []int{1, 4} {
			q := edgeQuestion(keysOf(size), func(i int, vote []byte) [64]byte {
				return torsionSign(t, comettest.NewSigner("edge", i, 1).Key, vote, torsion)
			})
			q.compare(t, fmt.Sprintf("torsion %d, %d validators", n, size), tally)
		}
	}
	t.Log(tally)
	if tally["accepted"] < 20 {
		t.Fatal("cofactored signatures are refused")
	}
}

// TestScalarNotReduced: S + L is refused by both, and so are keys and R that are no
// points.
func TestScalarNotReduced(t *testing.T) {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	tally := map[string]int{}
	for _, size := range []int{1, 4} {
		sign := func(i int, vote []byte) [64]byte {
			return [64]byte(ed25519.Sign(comettest.NewSigner("edge", i, 1).Key, vote))
		}
		edgeQuestion(keysOf(size), sign).compare(t, "honest", tally)
		q := edgeQuestion(keysOf(size), func(i int, vote []byte) [64]byte {
			sig := sign(i, vote)
			carry := 0
			for j, o := range order {
				carry += int(sig[32+j]) + int(o)
				sig[32+j] = byte(carry)
				carry >>= 8
			}
			return sig
		})
		q.compare(t, "S + L", tally)
		q = edgeQuestion(keysOf(size), func(i int, vote []byte) [64]byte {
			sig := sign(i, vote)
			copy(sig[:32], notAPoint[:])
			return sig
		})
		q.compare(t, "R is no point", tally)
		keys := keysOf(size)
		keys[0] = notAPoint
		edgeQuestion(keys, sign).compare(t, "key is no point", tally)
	}
	if tally["accepted"] != 2 || tally[string(comet.ErrSignature)] != 6 {
		t.Fatal(tally)
	}
}

// notAPoint is a y without an x.
var notAPoint = [32]byte{2}

func keysOf(n int) [][32]byte {
	keys := make([][32]byte, n)
	for i := range keys {
		v := comettest.NewSigner("edge", i, 1).Validator()
		keys[i] = v.PublicKey
	}
	return keys
}

// torsionSign signs with R = rB + torsion.
func torsionSign(t *testing.T, key ed25519.PrivateKey, msg []byte, torsion [32]byte) (sig [64]byte) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	wide := func(parts ...[]byte) *scalar.Scalar {
		h := sha512.New()
		for _, p := range parts {
			h.Write(p)
		}
		s, err := scalar.NewFromBytesModOrderWide(h.Sum(nil))
		must(err)
		return s
	}
	expanded := sha512.Sum512(key.Seed())
	expanded[0] &= 248
	expanded[31] = expanded[31]&63 | 64
	a, err := scalar.NewFromBits(expanded[:32])
	must(err)
	r := wide(expanded[32:], msg)
	var compressed curve.CompressedEdwardsY
	_, err = compressed.SetBytes(torsion[:])
	must(err)
	var point, tor curve.EdwardsPoint
	_, err = tor.SetCompressedY(&compressed)
	must(err)
	point.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, r)
	point.Add(&point, &tor)
	compressed.SetEdwardsPoint(&point)
	copy(sig[:32], compressed[:])
	k := wide(sig[:32], key.Public().(ed25519.PublicKey), msg)
	s := scalar.New().Mul(k, a)
	s.Add(s, r)
	must(s.ToBytes(sig[32:]))
	return sig
}
