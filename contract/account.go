package contract

import (
	"errors"
	"strings"
)

// An Account is the raw bytes of an account: 32 for an sr25519 key, 20 for a
// secp256k1 one. In JSON and as text it is the address, phala1…; only as the key of a
// Go map, where encoding/json does not ask, it must be given as a.String().
type Account string

const hrp = "phala"

// String returns the address.
func (a Account) String() string {
	if a == "" {
		return ""
	}
	five := regroup([]byte(a), 8, 5, true)
	sum := bech32Sum(append(expandHRP(), append(append([]byte(nil), five...), 0, 0, 0, 0, 0, 0)...)) ^ 1
	for i := range 6 {
		five = append(five, byte(sum>>(5*(5-i)))&31)
	}
	var b strings.Builder
	b.WriteString(hrp + "1")
	for _, x := range five {
		b.WriteByte(charset[x])
	}
	return b.String()
}

// MarshalText returns the address.
func (a Account) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an address.
func (a *Account) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" {
		*a = ""
		return nil
	}
	bad := errors.New("not a phala1… address: " + s)
	if !strings.HasPrefix(s, hrp+"1") || len(s) > 90 {
		return bad
	}
	var five []byte
	for _, c := range []byte(s[len(hrp)+1:]) {
		i := strings.IndexByte(charset, c)
		if i < 0 {
			return bad
		}
		five = append(five, byte(i))
	}
	if len(five) < 6 || bech32Sum(append(expandHRP(), five...)) != 1 {
		return bad
	}
	raw := regroup(five[:len(five)-6], 5, 8, false)
	if len(raw) != 20 && len(raw) != 32 {
		return bad
	}
	*a = Account(raw)
	return nil
}

// Bech32 as BIP-173 defines it.
const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

func expandHRP() []byte {
	var out []byte
	for _, c := range []byte(hrp) {
		out = append(out, c>>5)
	}
	out = append(out, 0)
	for _, c := range []byte(hrp) {
		out = append(out, c&31)
	}
	return out
}

func bech32Sum(values []byte) uint32 {
	chk := uint32(1)
	for _, v := range values {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	return chk
}

func regroup(in []byte, from, to uint, pad bool) []byte {
	var out []byte
	acc, bits := uint(0), uint(0)
	for _, b := range in {
		acc, bits = acc<<from|uint(b), bits+from
		for bits >= to {
			bits -= to
			out = append(out, byte(acc>>bits)&(1<<to-1))
		}
		acc &= 1<<bits - 1
	}
	if pad && bits > 0 {
		out = append(out, byte(acc<<(to-bits))&(1<<to-1))
	}
	return out
}
