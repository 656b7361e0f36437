package address

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/cosmos/btcutil/bech32"
	"golang.org/x/crypto/blake2b"
)

// HRP is the bech32 prefix of account addresses; SS58Prefix is Phala's number in
// the SS58 registry.
const (
	HRP        = "phala"
	SS58Prefix = 30
)

// Failure classes. Test with errors.Is.
var (
	ErrBech32 = errors.New("address: not a bech32 account address")
	ErrSS58   = errors.New("address: not an SS58 account address")
	ErrPrefix = errors.New("address: of another network or kind")
	ErrLength = errors.New("address: an account has 20 or 32 bytes")
)

// Bech32 returns account with the given prefix.
func Bech32(hrp string, account []byte) (string, error) {
	if err := checkLength(account); err != nil {
		return "", err
	}
	five, err := bech32.ConvertBits(account, 8, 5, true)
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrBech32, err)
	}
	return bech32.Encode(hrp, five)
}

// ParseBech32 reads an account address with the given prefix.
func ParseBech32(hrp, s string) ([]byte, error) {
	if len(s) > 120 {
		return nil, fmt.Errorf("%w: %d characters", ErrBech32, len(s))
	}
	got, five, err := bech32.Decode(s, 120)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %v", ErrBech32, s, err)
	}
	if got != hrp {
		return nil, fmt.Errorf("%w: prefix %q, want %q", ErrPrefix, got, hrp)
	}
	account, err := bech32.ConvertBits(five, 5, 8, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %v", ErrBech32, s, err)
	}
	return account, checkLength(account)
}

func checkLength(account []byte) error {
	if len(account) != 20 && len(account) != 32 {
		return fmt.Errorf("%w: %d", ErrLength, len(account))
	}
	return nil
}

const base58Alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// SS58 returns a 32-byte account under a network prefix below 16384: base58 of
// prefix ‖ account ‖ first two bytes of BLAKE2b-512("SS58PRE" ‖ prefix ‖ account).
func SS58(prefix uint16, account [32]byte) (string, error) {
	body, err := ss58Prefix(prefix)
	if err != nil {
		return "", err
	}
	body = append(body, account[:]...)
	sum := ss58Checksum(body)
	return base58Encode(append(body, sum[:2]...)), nil
}

func ss58Prefix(prefix uint16) ([]byte, error) {
	switch {
	case prefix < 64:
		return []byte{byte(prefix)}, nil
	case prefix < 16384:
		return []byte{byte((prefix&0xfc)>>2) | 0x40, byte(prefix>>8) | byte((prefix&3)<<6)}, nil
	}
	return nil, fmt.Errorf("%w: prefix %d is above 16383", ErrSS58, prefix)
}

func ss58Checksum(body []byte) [64]byte {
	return blake2b.Sum512(append([]byte("SS58PRE"), body...))
}

// ParseSS58 reads a 32-byte account and its network prefix.
func ParseSS58(s string) (prefix uint16, account [32]byte, err error) {
	raw, err := base58Decode(s)
	if err != nil {
		return 0, account, err
	}
	if len(raw) == 0 {
		return 0, account, fmt.Errorf("%w: empty", ErrSS58)
	}
	n := 1
	switch {
	case raw[0] < 64:
		prefix = uint16(raw[0])
	case raw[0] < 128 && len(raw) > 1:
		n = 2
		prefix = uint16(raw[0]&0x3f)<<2 | uint16(raw[1])>>6 | uint16(raw[1]&0x3f)<<8
		if prefix < 64 {
			return 0, account, fmt.Errorf("%w: two-byte form of prefix %d", ErrSS58, prefix)
		}
	default:
		return 0, account, fmt.Errorf("%w: reserved prefix byte %#x", ErrSS58, raw[0])
	}
	if len(raw) != n+32+2 {
		return 0, account, fmt.Errorf("%w: %d bytes, want %d", ErrSS58, len(raw), n+34)
	}
	sum := ss58Checksum(raw[:n+32])
	if raw[n+32] != sum[0] || raw[n+33] != sum[1] {
		return 0, account, fmt.Errorf("%w: wrong checksum", ErrSS58)
	}
	copy(account[:], raw[n:])
	return prefix, account, nil
}

func base58Encode(b []byte) string {
	zeros := 0
	for zeros < len(b) && b[zeros] == 0 {
		zeros++
	}
	x, radix, mod := new(big.Int).SetBytes(b), big.NewInt(58), new(big.Int)
	var out []byte
	for x.Sign() > 0 {
		x.DivMod(x, radix, mod)
		out = append(out, base58Alphabet[mod.Int64()])
	}
	for range zeros {
		out = append(out, '1')
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return string(out)
}

func base58Decode(s string) ([]byte, error) {
	if len(s) > 64 {
		return nil, fmt.Errorf("%w: %d characters", ErrSS58, len(s))
	}
	x, radix := new(big.Int), big.NewInt(58)
	zeros, leading := 0, true
	for i := range len(s) {
		d := -1
		for j := range len(base58Alphabet) {
			if base58Alphabet[j] == s[i] {
				d = j
			}
		}
		if d < 0 {
			return nil, fmt.Errorf("%w: character %q", ErrSS58, s[i])
		}
		if leading = leading && d == 0; leading {
			zeros++
		}
		x.Mul(x, radix).Add(x, big.NewInt(int64(d)))
	}
	return append(make([]byte, zeros), x.Bytes()...), nil
}

// Parse reads either form of this network: bech32 with HRP, or SS58 with any
// prefix (one key has an SS58 form for every network).
func Parse(s string) ([]byte, error) {
	if len(s) > len(HRP) && s[:len(HRP)+1] == HRP+"1" {
		return ParseBech32(HRP, s)
	}
	_, account, err := ParseSS58(s)
	if err != nil {
		return nil, fmt.Errorf("%w (accounts look like %s1… or an SS58 address)", err, HRP)
	}
	return account[:], nil
}
