package measure_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/internal/fixture"
	"github.com/phala-go/phala/attest/measure"
	"github.com/phala-go/phala/attest/simulator"
)

func ExampleRegisters_SNP() {
	fields, err := measure.Registers{"MEASUREMENT": strings.Repeat("ab", 48), "POLICY": "0000000000030000"}.SNP()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%x\n", attest.MeasurementDigest(attest.SNP, fields))
	// Output: 227d77da598d9cd4bf18fef74856f224fdbae3b3fa891c9adc3aabab7061eca1
}

// signerKey is a key as SGX signers have it: RSA-3072 with exponent 3, which Go's
// generator does not make.
var signerKey = sync.OnceValue(func() *rsa.PrivateKey {
	three := big.NewInt(3)
	prime := func() *big.Int {
		for {
			p, err := rand.Prime(rand.Reader, 1536)
			if err != nil {
				panic(err)
			}
			if new(big.Int).Mod(p, three).Int64() == 2 { // 3 divides no p-1
				return p
			}
		}
	}
	for {
		p, q := prime(), prime()
		n := new(big.Int).Mul(p, q)
		if n.BitLen() != 3072 {
			continue
		}
		one := big.NewInt(1)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 3}, D: new(big.Int).ModInverse(three, phi), Primes: []*big.Int{p, q}}
	}
})

// sigstruct is what gramine-sgx-sign writes for a manifest that pins every feature.
func sigstruct(t *testing.T, edit func([]byte)) []byte {
	t.Helper()
	b := make([]byte, measure.SigstructSize)
	le := binary.LittleEndian
	copy(b, []byte{6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0})
	copy(b[24:], []byte{1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0})
	le.PutUint32(b[20:], 0x20261121)
	le.PutUint32(b[904:], 0xffffffff)         // MISCMASK
	le.PutUint64(b[928:], 0x4)                // MODE64BIT
	le.PutUint64(b[936:], 0xe7)               // XFRM: legacy, AVX, AVX-512
	le.PutUint64(b[944:], 0xffffffffffffffff) // masks
	le.PutUint64(b[952:], 0xffffffffffffffff) //
	copy(b[960:], strings.Repeat("\x42", 32)) // ENCLAVEHASH
	le.PutUint16(b[1024:], 7)                 // ISVPRODID
	le.PutUint16(b[1026:], 3)                 // ISVSVN
	if edit != nil {
		edit(b)
	}
	key := signerKey()
	reversed := func(n *big.Int) []byte {
		out := n.FillBytes(make([]byte, 384))
		slices.Reverse(out)
		return out
	}
	copy(b[128:], reversed(key.N))
	le.PutUint32(b[512:], 3)
	h := sha256.New()
	h.Write(b[:128])
	h.Write(b[900:1028])
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	copy(b[516:], reversed(new(big.Int).SetBytes(sig)))
	return b
}

// What is computed from the signature structure is what the verifier finds in a quote of
// that enclave.
func TestSGX(t *testing.T) {
	b := sigstruct(t, nil)
	fields, err := measure.SGX(b)
	if err != nil {
		t.Fatal(err)
	}
	r := &dcap.EnclaveReport{MRSIGNER: sha256.Sum256(b[128:512]), ISVProdID: 7, ISVSVN: 3, Attributes: [16]byte{0: 0x05, 8: 0xe7}}
	copy(r.MRENCLAVE[:], strings.Repeat("\x42", 32))
	if got, want := attest.MeasurementDigest(attest.SGX, fields), attest.MeasurementDigest(attest.SGX, attest.SGXFields(r)); got != want {
		t.Errorf("%x, want %x: %v", got, want, fields)
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		name string
		want error
		edit func([]byte)
	}{
		{"debuggable", measure.ErrMalformed, func(b []byte) { b[928] |= 2 }},
		{"key separation", measure.ErrOpen, func(b []byte) { b[928] |= 0x80 }},
		{"attributes open", measure.ErrOpen, func(b []byte) { b[944] &^= 0x10 }},
		{"MISCSELECT open", measure.ErrOpen, func(b []byte) { b[904] = 0xfe }},
		{"AVX open", measure.ErrOpen, func(b []byte) { le.PutUint64(b[952:], ^uint64(4)) }},
		{"AMX open", measure.ErrOpen, func(b []byte) { le.PutUint64(b[952:], ^uint64(0x60000)) }},
		{"as Gramine leaves it", measure.ErrOpen, func(b []byte) { le.PutUint64(b[952:], 0xfffffffffff9ff1b) }},
		{"an unknown feature open", measure.ErrOpen, func(b []byte) { le.PutUint64(b[952:], ^uint64(1<<40)) }},
		{"header", measure.ErrMalformed, func(b []byte) { b[0] = 7 }},
		{"second header", measure.ErrMalformed, func(b []byte) { b[24] = 7 }},
	} {
		if _, err := measure.SGX(sigstruct(t, c.edit)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, at := range []int{20, 100, 130, 512, 520, 930, 970, 1025} {
		bad := slices.Clone(b)
		bad[at] ^= 1
		if _, err := measure.SGX(bad); err == nil {
			t.Errorf("byte %d changed after signing: accepted", at)
		}
	}
	for _, n := range []int{0, measure.SigstructSize - 1, measure.SigstructSize + 1} {
		if _, err := measure.SGX(append(slices.Clone(b), 0)[:n]); !errors.Is(err, measure.ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzSGX(f *testing.F) {
	f.Add(make([]byte, measure.SigstructSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if fields, err := measure.SGX(b); err == nil && len(fields) != 10 {
			t.Fatal(fields)
		}
	})
}

// The run-time events of a dstack guest (image dstack-0.5, no instance id) and the
// register that its quote had, as published with the tests of github.com/near/mpc
// (crates/attestation-types/assets/tcb_info.json, MIT).
var realEvents = []measure.Event{
	{3, 134217729, "f9974020ef507068183313d0ca808e0d1ca9b2d1ad0c61f5784e7157c362c06536f5ddacdad4451693f48fcc72fff624", "system-preparing", ""},
	{3, 134217729, "b1973088d6103fcf15809c6fd26bb0d7ae94e4bbdddc3ce833b597cecf792b2208f167f672fdbb03a065c05b97e3a4b4", "app-id", "2911e1f733466216dedb862d6d669e11256ee7a3"},
	{3, 134217729, "", "compose-hash", "2911e1f733466216dedb862d6d669e11256ee7a34ce4dbc66c4b807ba7a9c895"},
	{3, 134217729, "305a62e30e8f4ca791946c3ede6755cfacebe02be9101f0bccf2591509a0c8e8095bc83b3d53bfc5d70d6c7cf7813fc5", "instance-id", ""},
	{3, 134217729, "98bd7e6bd3952720b65027fd494834045d06b4a714bf737a06b874638b3ea00ff402f7f583e3e3b05e921c8570433ac6", "boot-mr-done", ""},
	{0, 10, "6dae15170c9fea6455681e3f838941a642ff9001a02a333e9ca8549af1db4ba47f01403e31dabe6e8a0b41ddd38b6d99", "", "414350492044415441"},
	{3, 134217729, "61ce56b6be756a9e45af7715b13c15040a4e6090cc740be24e2cc02e33b4fb53ae4e3c945c9af83e2a26c6d5efa414a8", "key-provider", "7b226e616d65223a226c6f63616c2d736778222c226964223a2236623565643032653534396131633330616161386533313731613034356631663434396230303137333533656635393565373865333963333438633938643031227d"},
	{3, 134217729, "ba51104636900268b0e059fa3d266419d079d1e94aea26fb9fcbb8d764bf4c89a67ac271b8a0d1a3989945132a111fc7", "storage-fs", "7a6673"},
	{3, 134217729, "1a76b2a80a0be71eae59f80945d876351a7a3fb8e9fd1ff1cede5734aa84ea11fd72b4edfbb6f04e5a85edd114c751bd", "system-ready", ""},
	{3, 134217729, "0405a5706797115cdcccb66841205179fa5c2d989ad42fee2e2fab4c5b52bb6d9aa9bf8a86755d37e8566fdaabebc468", "mpc-image-digest", "564a5aebc33495d5610626d23cb9e3da8e9d531d0edff9e38aa1ccaf059c15d3"},
}

const realRTMR3 = "86f1808cffc050f3c0c09d29da2bfcec7eba3e8fa52016a7341f28884230f9ca8b56400413d57bce00b578e36790b555"

func TestReplay(t *testing.T) {
	register, payloads, err := measure.Replay(realEvents)
	if err != nil || hex.EncodeToString(register[:]) != realRTMR3 || hex.EncodeToString(payloads["storage-fs"]) != "7a6673" {
		t.Fatalf("%x, %v", register, err)
	}
	for _, c := range []struct {
		name string
		edit func(log []measure.Event) []measure.Event
	}{
		{"payload changed", func(l []measure.Event) []measure.Event { l[1].Payload = "00"; return l }},
		{"name changed", func(l []measure.Event) []measure.Event { l[1].Name = "app"; return l }},
		{"not hexadecimal", func(l []measure.Event) []measure.Event { l[1].Payload = "xy"; return l }},
		{"another type", func(l []measure.Event) []measure.Event { l[1].Type = 10; return l }},
		{"twice", func(l []measure.Event) []measure.Event { return append(l, l[2]) }},
		{"too many", func(l []measure.Event) []measure.Event { return make([]measure.Event, 5000) }},
	} {
		if _, _, err := measure.Replay(c.edit(slices.Clone(realEvents))); !errors.Is(err, measure.ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if other, _, err := measure.Replay(realEvents[1:]); err != nil || other == register {
		t.Errorf("without the first event: %x, %v", other, err)
	}
}

// The registers of a real quote give the digest that its verdict has.
func TestTDX(t *testing.T) {
	quote, err := dcap.Canonical(fixture.Shared(t, "tdx_quote"))
	if err != nil {
		t.Fatal(err)
	}
	collateral := &attest.Collateral{TEE: attest.TDX, DCAP: fixture.QVLCollateral(t, fixture.Shared(t, "tdx_quote_collateral.json"))}
	v, err := attest.Verify(attest.Evidence{TEE: attest.TDX, Report: quote, Collateral: collateral}, attest.ProductionRoots(), time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	r := measure.Registers{
		"MRTD": fmt.Sprintf("%x", v.TDX.MRTD), "TDATTRIBUTES": fmt.Sprintf("%016x", v.TDX.TDAttributes), "XFAM": fmt.Sprintf("%016x", v.TDX.XFAM),
	}
	for i, m := range v.TDX.RTMR {
		r[fmt.Sprintf("RTMR%d", i)] = fmt.Sprintf("%x", m)
	}
	fields, err := r.TDX()
	if err != nil {
		t.Fatal(err)
	}
	if attest.MeasurementDigest(attest.TDX, fields) != v.Measurement {
		t.Errorf("%v is not %v", fields, v.Fields)
	}
	for _, c := range []struct{ name, register, value string }{
		{"missing", "RTMR3", ""}, {"short", "RTMR3", "00"}, {"not hexadecimal", "MRTD", "zz"}, {"unknown", "RTMR4", strings.Repeat("00", 48)},
		{"debuggable", "TDATTRIBUTES", "0000000010000001"}, {"short number", "XFAM", "e7"},
	} {
		bad := measure.Registers{}
		for k, v := range r {
			bad[k] = v
		}
		bad[c.register] = c.value
		if _, err := bad.TDX(); !errors.Is(err, measure.ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSNP(t *testing.T) {
	want, err := simulator.Measurement(attest.SNP, []byte{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	r := measure.Registers{"MEASUREMENT": "0102" + strings.Repeat("00", 46), "POLICY": "0000000000030000"}
	fields, err := r.SNP()
	if err != nil || attest.MeasurementDigest(attest.SNP, fields) != want {
		t.Errorf("%v, %v", fields, err)
	}
	r["GUEST_SVN"] = "0000000100000000"
	if _, err := r.SNP(); !errors.Is(err, measure.ErrMalformed) {
		t.Errorf("guest SVN of five bytes: %v", err)
	}
}
