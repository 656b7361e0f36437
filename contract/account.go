package contract

import (
	"errors"
	"strings"
)

// An Account is the raw bytes of an account: 32 for an sr25519 key, 20 for a
// secp256k1 one. In JSON and as text it is the address, phala1…; only as the key of a
// Go map, where encoding/json does not ask, it must be given as a.String(), and Register
// refuses it.
type Account string

const hrp = "phala"

// String returns the address.
func (a Account) String() string {
	if a == "" {
		return ""
	}
	out := append(make([]byte, 0, len(hrp)+1+(len(a)*8+4)/5+6), hrp+"1"...)
	sum := hrpSum
	add := func(five byte) {
		out = append(out, charset[five])
		sum = bech32Step(sum, five)
	}
	acc, bits := uint(0), uint(0)
	for i := range len(a) {
		acc, bits = acc<<8|uint(a[i]), bits+8
		for ; bits >= 5; bits -= 5 {
			add(byte(acc >> (bits - 5) & 31))
		}
	}
	if bits > 0 {
		add(byte(acc << (5 - bits) & 31))
	}
	for range 6 {
		sum = bech32Step(sum, 0)
	}
	sum ^= 1
	for i := range 6 {
		out = append(out, charset[sum>>(5*(5-i))&31])
	}
	return string(out)
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
	bad := func() error { return errors.New("not a phala1… address: " + s) }
	if !strings.HasPrefix(s, hrp+"1") || len(s) < len(hrp)+7 || len(s) > 90 {
		return bad()
	}
	raw := make([]byte, 0, 64)
	sum := hrpSum
	acc, bits := uint(0), uint(0)
	for i := len(hrp) + 1; i < len(s); i++ {
		five := values[s[i]]
		if five < 0 {
			return bad()
		}
		sum = bech32Step(sum, byte(five))
		if i >= len(s)-6 {
			continue // of the checksum
		}
		if acc, bits = acc<<5|uint(five), bits+5; bits >= 8 {
			bits -= 8
			raw = append(raw, byte(acc>>bits))
		}
	}
	if sum != 1 || len(raw) != 20 && len(raw) != 32 {
		return bad()
	}
	*a = Account(raw)
	return nil
}

// Bech32 as BIP-173 defines it.
const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// values is what each character of charset stands for, -1 for all others.
var values = func() (t [256]int8) {
	for i := range t {
		t[i] = int8(strings.IndexByte(charset, byte(i)))
	}
	return t
}()

// hrpSum is the checksum's state behind the expanded prefix.
var hrpSum = func() uint32 {
	sum := uint32(1)
	for i := range len(hrp) {
		sum = bech32Step(sum, hrp[i]>>5)
	}
	sum = bech32Step(sum, 0)
	for i := range len(hrp) {
		sum = bech32Step(sum, hrp[i]&31)
	}
	return sum
}()

func bech32Step(sum uint32, five byte) uint32 {
	return sum&0x1ffffff<<5 ^ uint32(five) ^ generator[sum>>25&31]
}

// generator is what the five bits that leave the checksum put into it.
var generator = func() (t [32]uint32) {
	for i := range t {
		for j, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if i>>j&1 == 1 {
				t[i] ^= g
			}
		}
	}
	return t
}()
