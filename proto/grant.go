package proto

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// Limits of a grant.
const (
	// MaxGrant bounds an encoded grant.
	MaxGrant = 1 << 10
	// MaxGrantContracts is how many contracts one grant may name.
	MaxGrantContracts = 16
	// MaxGrantTerm is the longest time from Issued to NotAfter, milliseconds: 366 days.
	// It is what lets a cluster forget a revocation of all grants.
	MaxGrantTerm = 366 * 24 * 60 * 60 * 1000
)

// A Grant lets another account ask queries in the grantor's name: the contracts that it
// names see the grantor as the caller. It is worth nothing to anybody but the reader,
// whose signature every query under it carries.
//
// Its times are those of block headers, the only clock that an enclave can verify. Time
// and not height, because a grant lasts for days, in which the pace of blocks may change.
type Grant struct {
	Grantor   []byte // account
	Reader    []byte // account
	Cluster   ClusterID
	Contracts []ContractID // 1 to MaxGrantContracts, ascending
	ID        [16]byte     // names it in a revocation
	Issued    uint64       // Unix milliseconds; what the grantor revokes up to a block was issued by then
	NotAfter  uint64       // the last instant at which it holds, Unix milliseconds
	Scheme    uint8        // crypto/identity.Scheme
	PublicKey []byte
	Signature []byte
}

// SignedBytes is what the grantor signs. As with an invocation, the enclave fills in its
// own chain.
func (g *Grant) SignedBytes(chain string) []byte {
	var contracts []byte
	for i := range g.Contracts {
		contracts = append(contracts, g.Contracts[i][:]...)
	}
	return transcript.Bytes("phala/grant/v1", []byte(chain), g.Cluster.Bytes(), g.Grantor, g.Reader, contracts, g.ID[:],
		transcript.U64(g.Issued), transcript.U64(g.NotAfter))
}

// Covers reports whether a contract is in its scope.
func (g *Grant) Covers(id ContractID) bool {
	for i := range g.Contracts {
		if g.Contracts[i] == id {
			return true
		}
	}
	return false
}

// Marshal encodes g.
func (g *Grant) Marshal() []byte {
	w := wire.NewWriter(256 + 32*len(g.Contracts)).Blob(g.Grantor).Blob(g.Reader).U32(uint32(g.Cluster)).Count(len(g.Contracts))
	for i := range g.Contracts {
		w.Fixed(g.Contracts[i][:])
	}
	return w.Fixed(g.ID[:]).U64(g.Issued).U64(g.NotAfter).U8(g.Scheme).Blob(g.PublicKey).Blob(g.Signature).Bytes()
}

// ParseGrant decodes a grant.
func ParseGrant(b []byte) (*Grant, error) {
	r := wire.NewReader(b)
	g := &Grant{Grantor: r.Blob(MaxSender), Reader: r.Blob(MaxSender), Cluster: ClusterID(r.U32())}
	for range r.Count(MaxGrantContracts, 32) {
		g.Contracts = append(g.Contracts, r.Array32())
	}
	r.Fixed(g.ID[:])
	g.Issued, g.NotAfter = r.U64(), r.U64()
	g.Scheme, g.PublicKey, g.Signature = r.U8(), r.Blob(64), r.Blob(128)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: grant: %w", err)
	}
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("proto: grant: %w: %w", wire.ErrNotCanonical, err)
	}
	return g, nil
}

// check holds the rules of a grant that its encoding cannot express.
func (g *Grant) check() error {
	switch {
	case len(g.Grantor) == 0 || len(g.Reader) == 0:
		return errors.New("it names no grantor or no reader")
	case len(g.Contracts) == 0:
		return errors.New("it names no contract")
	case g.NotAfter < g.Issued:
		return errors.New("it ends before it was issued")
	case g.NotAfter-g.Issued > MaxGrantTerm:
		return fmt.Errorf("it lasts for more than %d days", MaxGrantTerm/(24*60*60*1000))
	}
	for i := 1; i < len(g.Contracts); i++ {
		if bytes.Compare(g.Contracts[i-1][:], g.Contracts[i][:]) >= 0 {
			return errors.New("its contracts are not in ascending order")
		}
	}
	return nil
}

// grantPrefix starts a grant as text.
const grantPrefix = "phala-grant:"

// ErrGrantText: a text is not a grant.
var ErrGrantText = errors.New("proto: a grant as text is " + grantPrefix + " and base64url")

// MarshalText returns g as text, to hand to the reader.
func (g *Grant) MarshalText() ([]byte, error) {
	return append([]byte(grantPrefix), base64.RawURLEncoding.EncodeToString(g.Marshal())...), nil
}

// UnmarshalText reads a grant from text.
func (g *Grant) UnmarshalText(text []byte) error {
	code, ok := bytes.CutPrefix(text, []byte(grantPrefix))
	if !ok || len(code) > base64.RawURLEncoding.EncodedLen(MaxGrant) {
		return ErrGrantText
	}
	// The decoder of the standard library skips line breaks, which would be a second
	// encoding of the same grant.
	if bytes.ContainsAny(code, "\r\n") {
		return ErrGrantText
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(code))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGrantText, err)
	}
	got, err := ParseGrant(b)
	if err != nil {
		return err
	}
	*g = *got
	return nil
}

// ClusterAddress is the address of a cluster itself: a command to it is not for a
// contract, and its input is a Revocation.
var ClusterAddress ContractID

// A Revocation ends grants of the account that sends it.
type Revocation struct {
	// All ends every grant that was issued until the command's block; the other fields
	// are zero.
	All bool
	// ID and NotAfter are those of the one grant that ends. The cluster remembers it until
	// NotAfter, so an earlier one than the grant's would let it live again.
	ID       [16]byte
	NotAfter uint64
}

// What a command to the cluster itself does, the first byte of its input.
const (
	revokeOne = 1
	revokeAll = 2
)

// Marshal encodes r.
func (r *Revocation) Marshal() []byte {
	if r.All {
		return []byte{revokeAll}
	}
	return new(wire.Writer).U8(revokeOne).Fixed(r.ID[:]).U64(r.NotAfter).Bytes()
}

// ParseRevocation decodes the input of a command to the cluster itself.
func ParseRevocation(b []byte) (*Revocation, error) {
	d, r := wire.NewReader(b), new(Revocation)
	switch kind := d.U8(); kind {
	case revokeOne:
		d.Fixed(r.ID[:])
		r.NotAfter = d.U64()
	case revokeAll:
		r.All = true
	default:
		d.Fail(fmt.Errorf("%w: %d", ErrUnknownKind, kind))
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("proto: revocation: %w", err)
	}
	return r, nil
}
