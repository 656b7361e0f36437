package dcap

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/big"

	"github.com/phala-go/phala/attest/fault"
)

// The order of P-256, and half of it.
var (
	p256N, _ = new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	p256Half = new(big.Int).Rsh(p256N, 1)
)

// lowS reports whether s of the raw signature r ‖ s is at most half the order.
func lowS(sig []byte) bool {
	return new(big.Int).SetBytes(sig[32:64]).Cmp(p256Half) <= 0
}

// Canonical returns the one accepted form of a quote that hardware made.
//
// Three parts of a quote are signed by nobody and can be rewritten by anyone
// who carries it: the s of its two ECDSA signatures (n-s verifies as well, and
// Intel's quoting enclaves emit either), the layout of the PEM text, and the
// padding after the quote's end. A quote whose bytes can be varied escapes
// every check for repetition, so [ParseQuote] accepts one form only, and whoever
// produces evidence passes it through here. Nothing that a signature covers
// changes; the verdict cannot change.
func Canonical(quote []byte) ([]byte, error) {
	q, err := parse(quote)
	if err != nil {
		return nil, err
	}
	pem := encodePEM(q.PCKChain[:])
	out := make([]byte, 0, q.certOffset+len(pem))
	out = append(out, quote[:q.certOffset]...)
	out = append(out, pem...)
	makeLowS(out[q.sigOffset:][:signatureSize])
	makeLowS(out[q.qeSigOffset:][:signatureSize])
	delta := len(pem) - q.certLength
	adjust(out[q.certOffset-4:], delta)
	adjust(out[len(q.signed):], delta)
	if q.outerSizeAt != 0 {
		adjust(out[q.outerSizeAt:], delta)
	}
	if _, err := ParseQuote(out); err != nil {
		return nil, err
	}
	return out, nil
}

func adjust(length []byte, delta int) {
	n := int(binary.LittleEndian.Uint32(length))
	binary.LittleEndian.PutUint32(length, uint32(n+delta))
}

func makeLowS(sig []byte) {
	s := new(big.Int).SetBytes(sig[32:64])
	if s.Cmp(p256Half) > 0 && s.Cmp(p256N) < 0 {
		s.Sub(p256N, s).FillBytes(sig[32:64])
	}
}

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"
)

var errPEM = errors.New("not a series of PEM certificates")

// decodePEM reads certificates and nothing else; line ends may be LF or CRLF,
// lines of any length, and one NUL may follow, as Intel's libraries write it.
func decodePEM(text []byte, limit int) ([][]byte, error) {
	text = bytes.TrimSuffix(text, []byte{0})
	var out [][]byte
	for {
		text = bytes.TrimLeft(text, "\r\n")
		if len(text) == 0 {
			return out, nil
		}
		if len(out) == limit {
			return nil, errors.New("too many certificates")
		}
		rest, ok := bytes.CutPrefix(text, []byte(pemBegin))
		if !ok {
			return nil, errPEM
		}
		body, rest, ok := bytes.Cut(rest, []byte(pemEnd))
		if !ok {
			return nil, errPEM
		}
		// The decoder skips CR and LF, and refuses every other stranger.
		der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
		n, err := base64.StdEncoding.Strict().Decode(der, body)
		if err != nil || n == 0 {
			return nil, errPEM
		}
		out = append(out, der[:n])
		text = rest
	}
}

// encodePEM writes certificates as Intel's service does: lines of 64
// characters, LF, nothing after the last line.
func encodePEM(chain [][]byte) []byte {
	size := 0
	for _, der := range chain {
		n := base64.StdEncoding.EncodedLen(len(der))
		size += len(pemBegin) + len(pemEnd) + 3 + n + n/64
	}
	out := make([]byte, 0, size)
	for _, der := range chain {
		out = append(append(out, pemBegin...), '\n')
		for len(der) > 0 {
			n := min(48, len(der))
			out = base64.StdEncoding.AppendEncode(out, der[:n])
			out = append(out, '\n')
			der = der[n:]
		}
		out = append(append(out, pemEnd...), '\n')
	}
	return out
}

// decodeChain is decodePEM for the issuer chains of the provisioning service.
func decodeChain(text []byte, want int, code fault.Code) ([][]byte, error) {
	chain, err := decodePEM(text, want)
	if err != nil {
		return nil, fault.Wrap(code, "issuer chain", err)
	}
	if len(chain) != want {
		return nil, fault.New(code, "issuer chain has not the expected length")
	}
	return chain, nil
}
