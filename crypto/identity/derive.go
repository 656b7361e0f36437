package identity

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"github.com/cosmos/go-bip39"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"github.com/oasisprotocol/curve25519-voi/primitives/merlin"
	"github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/pbkdf2"
)

// NewPhrase makes a recovery phrase of twelve English BIP-39 words from 16 bytes
// of rng.
func NewPhrase(rng io.Reader) (string, error) {
	var entropy [16]byte
	if _, err := io.ReadFull(rng, entropy[:]); err != nil {
		return "", fmt.Errorf("identity: read random phrase: %w", err)
	}
	return bip39.NewMnemonic(entropy[:])
}

// SeedFromPhrase returns the mini secret of a BIP-39 phrase as substrate-bip39
// defines it: the first 32 bytes of PBKDF2-HMAC-SHA512 over the phrase's entropy,
// salt "mnemonic" ‖ password, 2048 rounds.
func SeedFromPhrase(phrase, password string) ([SeedSize]byte, error) {
	var seed [SeedSize]byte
	words := strings.Fields(phrase)
	withSum, err := bip39.MnemonicToByteArray(strings.Join(words, " "))
	if err != nil {
		// The library's error may quote words of the phrase.
		return seed, fmt.Errorf("%w: a word is not on the English BIP-39 list, or the checksum is wrong", ErrPhrase)
	}
	// n words hold n·11 bits: n/3 of checksum behind n/3·32 of entropy.
	entropy := make([]byte, len(words)/3*4)
	new(big.Int).Rsh(new(big.Int).SetBytes(withSum), uint(len(words)/3)).FillBytes(entropy)
	copy(seed[:], pbkdf2.Key(entropy, []byte("mnemonic"+password), 2048, 64, sha512.New))
	return seed, nil
}

// devPhrase is the phrase that Polkadot's tools use when a secret URI has a path
// and no phrase: "//Alice" is the same well-known key everywhere.
const devPhrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk"

// FromURI makes the key pair of a secret URI: a phrase or 0x-prefixed 32-byte
// seed, then a derivation path of //hard and /soft junctions, then ///password.
// Without a phrase it is the public development phrase.
func FromURI(uri string) (*KeyPair, error) {
	uri, password, _ := strings.Cut(uri, "///")
	phrase, path := uri, ""
	if i := strings.IndexByte(uri, '/'); i >= 0 {
		phrase, path = uri[:i], uri[i:]
	}
	var k *KeyPair
	var err error
	if strings.HasPrefix(phrase, "0x") {
		raw, herr := hex.DecodeString(phrase[2:])
		if herr != nil {
			return nil, fmt.Errorf("%w: not hexadecimal", ErrSeed)
		}
		k, err = FromSeed(raw)
	} else {
		if phrase == "" {
			phrase = devPhrase
		}
		seed, perr := SeedFromPhrase(phrase, password)
		if perr != nil {
			return nil, perr
		}
		k, err = FromSeed(seed[:])
	}
	if err != nil {
		return nil, err
	}
	return k.Derive(path)
}

// Derive follows a path of //hard and /soft junctions. A junction that is a
// decimal number is that number in 8 bytes, little-endian; any other is its SCALE
// string, hashed with BLAKE2b-256 when longer than 32 bytes.
func (k *KeyPair) Derive(path string) (*KeyPair, error) {
	for path != "" {
		if path[0] != '/' {
			return nil, fmt.Errorf("%w: a junction starts with / or //", ErrPath)
		}
		path = path[1:]
		hard := strings.HasPrefix(path, "/")
		path = strings.TrimPrefix(path, "/")
		name := path
		if i := strings.IndexByte(path, '/'); i >= 0 {
			name, path = path[:i], path[i:]
		} else {
			path = ""
		}
		if name == "" || len(name) > maxJunction {
			return nil, fmt.Errorf("%w: a junction has 1 to %d bytes", ErrPath, maxJunction)
		}
		var err error
		if k, err = k.junction(chainCode(name), hard); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// maxJunction keeps a junction's SCALE length within two bytes.
const maxJunction = 1<<14 - 1

func chainCode(name string) (cc [32]byte) {
	if n, err := strconv.ParseUint(name, 10, 64); err == nil {
		binary.LittleEndian.PutUint64(cc[:], n)
		return cc
	}
	var b []byte
	if n := len(name); n < 1<<6 {
		b = []byte{byte(n << 2)}
	} else {
		b = binary.LittleEndian.AppendUint16(nil, uint16(n<<2|1))
	}
	b = append(b, name...)
	if len(b) > 32 {
		return blake2b.Sum256(b)
	}
	copy(cc[:], b)
	return cc
}

// junction is schnorrkel's HDKD for one step.
func (k *KeyPair) junction(cc [32]byte, hard bool) (*KeyPair, error) {
	secret := k.secretBytes()
	t := merlin.NewTranscript("SchnorrRistrettoHDKD")
	t.AppendMessage("sign-bytes", nil)
	t.AppendMessage("chain-code", cc[:])
	if hard {
		var mini [32]byte
		t.AppendMessage("secret-key", secret[:32])
		t.ExtractBytes(mini[:], "HDKD-hard")
		return FromSeed(mini[:])
	}
	t.AppendMessage("public-key", k.pub[:])
	var wide [64]byte
	t.ExtractBytes(wide[:], "HDKD-scalar")
	step, err := scalar.NewFromBytesModOrderWide(wide[:])
	if err != nil {
		return nil, fmt.Errorf("identity: soft derivation: %w", err)
	}
	own, err := scalar.NewFromCanonicalBytes(secret[:32])
	if err != nil {
		return nil, fmt.Errorf("identity: soft derivation: %w", err)
	}
	out := make([]byte, 64)
	if err := scalar.New().Add(own, step).ToBytes(out[:32]); err != nil {
		return nil, fmt.Errorf("identity: soft derivation: %w", err)
	}
	// The nonce seed only has to be secret and its own for each key; schnorrkel
	// draws it at random, we derive it so that a URI always gives the same secret.
	nt := merlin.NewTranscript("phala soft derivation nonce")
	nt.AppendMessage("secret", secret)
	nt.AppendMessage("chain-code", cc[:])
	nt.ExtractBytes(out[32:], "nonce")
	sk, err := sr25519.NewSecretKeyFromBytes(out)
	if err != nil {
		return nil, fmt.Errorf("identity: soft derivation: %w", err)
	}
	return fromSecret(sk)
}
