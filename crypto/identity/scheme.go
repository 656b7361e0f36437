package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/ripemd160" //nolint:staticcheck // Cosmos account addresses are defined with it

	"github.com/phala-go/phala/crypto/address"
)

// A Scheme says how a user's signature was made.
type Scheme uint8

// The schemes. The numbers are on the wire and never change.
const (
	SchemeSr25519      Scheme = 1
	SchemeSr25519Bytes Scheme = 2
	SchemeSecp256k1    Scheme = 3
)

// String returns the scheme's name.
func (s Scheme) String() string {
	switch s {
	case SchemeSr25519:
		return "sr25519"
	case SchemeSr25519Bytes:
		return "sr25519-bytes"
	case SchemeSecp256k1:
		return "secp256k1-adr36"
	}
	return fmt.Sprintf("scheme %d", uint8(s))
}

// WrapBytes returns msg as a Polkadot wallet signs it for a web page.
func WrapBytes(msg []byte) []byte {
	return bytes.Join([][]byte{[]byte("<Bytes>"), msg, []byte("</Bytes>")}, nil)
}

// AccountOf returns the chain account of a public key: the key itself for the
// sr25519 schemes, RIPEMD-160(SHA-256(key)) of the 33-byte key for secp256k1.
func AccountOf(scheme Scheme, pub []byte) ([]byte, error) {
	switch scheme {
	case SchemeSr25519, SchemeSr25519Bytes:
		if len(pub) != PublicKeySize {
			return nil, fmt.Errorf("%w: %d bytes for %s", ErrPublicKey, len(pub), scheme)
		}
		return bytes.Clone(pub), nil
	case SchemeSecp256k1:
		if len(pub) != 33 {
			return nil, fmt.Errorf("%w: %d bytes for %s", ErrPublicKey, len(pub), scheme)
		}
		sum := sha256.Sum256(pub)
		h := ripemd160.New()
		h.Write(sum[:])
		return h.Sum(nil), nil
	}
	return nil, fmt.Errorf("%w: %d", ErrScheme, uint8(scheme))
}

// VerifyScheme checks a user's signature over msg and returns the account that
// made it. The caller compares the account with the one that the message names.
func VerifyScheme(scheme Scheme, pub, msg, sig []byte) ([]byte, error) {
	account, err := AccountOf(scheme, pub)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case SchemeSr25519:
		err = Verify(PublicKey(pub), msg, sig)
	case SchemeSr25519Bytes:
		err = Verify(PublicKey(pub), WrapBytes(msg), sig)
	case SchemeSecp256k1:
		err = verifyADR36(account, pub, msg, sig)
	}
	if err != nil {
		return nil, err
	}
	return account, nil
}

// ADR36Document returns the amino JSON that a Cosmos wallet's signArbitrary signs
// for data: ADR-36, with keys in alphabetical order and no white space.
func ADR36Document(signer string, data []byte) []byte {
	return []byte(`{"account_number":"0","chain_id":"","fee":{"amount":[],"gas":"0"},"memo":"",` +
		`"msgs":[{"type":"sign/MsgSignData","value":{"data":"` + base64.StdEncoding.EncodeToString(data) +
		`","signer":"` + signer + `"}}],"sequence":"0"}`)
}

func verifyADR36(account, pub, msg, sig []byte) error {
	key, err := secp256k1.ParsePubKey(pub)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrPublicKey, err)
	}
	signer, err := address.Bech32(address.HRP, account)
	if err != nil {
		return err
	}
	if len(sig) != SignatureSize {
		return fmt.Errorf("%w: %d bytes", ErrSignature, len(sig))
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() {
		return fmt.Errorf("%w: r or s out of range", ErrSignature)
	}
	if s.IsOverHalfOrder() {
		return fmt.Errorf("%w: s is in the upper half", ErrSignature)
	}
	digest := sha256.Sum256(ADR36Document(signer, msg))
	if !ecdsa.NewSignature(&r, &s).Verify(digest[:], key) {
		return fmt.Errorf("%w: by %s", ErrSignature, signer)
	}
	return nil
}
