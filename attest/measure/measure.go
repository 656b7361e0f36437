package measure

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/snp"
)

// ErrMalformed: the input is not what it should be. ErrOpen: it leaves to the machine
// what a measurement must fix.
var (
	ErrMalformed = errors.New("measure: malformed")
	ErrOpen      = errors.New("measure: left to the machine")
)

// SigstructSize is the size of SGX's signature structure, in bytes (Intel SDM, volume
// 3D, ENCLAVE SIGNATURE STRUCT).
const SigstructSize = 1808

// Bits of SGX attributes.
const (
	flagInit  = 1 << 0
	flagDebug = 1 << 1
	flagKSS   = 1 << 7
)

// features are the parts of XFRM that a signer may leave to the machine, by the name of
// Gramine's manifest.
var features = []struct {
	name string
	bits uint64
}{{"avx", 0x4}, {"mpx", 0x18}, {"avx512", 0xe0}, {"pkru", 0x200}, {"amx", 0x60000}}

// SGX returns the measured properties of an enclave from its signature structure.
func SGX(sigstruct []byte) ([]attest.Field, error) {
	if len(sigstruct) != SigstructSize {
		return nil, fmt.Errorf("%w: a signature structure has %d bytes, this has %d", ErrMalformed, SigstructSize, len(sigstruct))
	}
	header := []byte{6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}
	header2 := []byte{1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0}
	if !bytes.Equal(sigstruct[:16], header) || !bytes.Equal(sigstruct[24:40], header2) {
		return nil, fmt.Errorf("%w: no signature structure's header", ErrMalformed)
	}
	le := binary.LittleEndian
	modulus := sigstruct[128:512]
	if err := verify(sigstruct, modulus, int(le.Uint32(sigstruct[512:]))); err != nil {
		return nil, err
	}
	flags, xfrm := le.Uint64(sigstruct[928:]), le.Uint64(sigstruct[936:])
	flagsMask, xfrmMask := le.Uint64(sigstruct[944:]), le.Uint64(sigstruct[952:])
	switch {
	case flags&flagDebug != 0:
		return nil, fmt.Errorf("%w: the enclave is debuggable; a network refuses it", ErrMalformed)
	case flags&flagKSS != 0:
		return nil, fmt.Errorf("%w: key separation (KSS) lets whoever starts it choose CONFIGID", ErrOpen)
	case flagsMask|flagInit != ^uint64(0) || le.Uint32(sigstruct[904:]) != ^uint32(0):
		return nil, fmt.Errorf("%w: masks of attributes or MISCSELECT are not full", ErrOpen)
	}
	for _, f := range features {
		if xfrmMask&f.bits != f.bits {
			return nil, fmt.Errorf(`%w: processor feature %s; say sgx.cpu_features.%s = "required" or "disabled" in the manifest`, ErrOpen, f.name, f.name)
		}
	}
	if xfrmMask != ^uint64(0) {
		return nil, fmt.Errorf("%w: XFRM mask %#x", ErrOpen, xfrmMask)
	}
	r := &dcap.EnclaveReport{
		MRENCLAVE: [32]byte(sigstruct[960:992]), MRSIGNER: sha256.Sum256(modulus),
		ISVProdID: le.Uint16(sigstruct[1024:]), ISVSVN: le.Uint16(sigstruct[1026:]), MiscSelect: le.Uint32(sigstruct[900:]),
	}
	le.PutUint64(r.Attributes[:], flags|flagInit) // the processor sets INIT
	le.PutUint64(r.Attributes[8:], xfrm)
	return attest.SGXFields(r), nil
}

// verify checks the signature: RSA-3072, PKCS #1 v1.5 with SHA-256, numbers in
// little-endian order.
func verify(sigstruct, modulus []byte, exponent int) error {
	big3072 := func(b []byte) *big.Int {
		b = bytes.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	key := &rsa.PublicKey{N: big3072(modulus), E: exponent}
	sig := make([]byte, len(modulus))
	big3072(sigstruct[516:900]).FillBytes(sig)
	h := sha256.New()
	h.Write(sigstruct[:128])
	h.Write(sigstruct[900:1028])
	if exponent != 3 || key.N.BitLen() != 3072 || rsa.VerifyPKCS1v15(key, crypto.SHA256, h.Sum(nil), sig) != nil {
		return fmt.Errorf("%w: the signature structure is not signed", ErrMalformed)
	}
	return nil
}

// An Event is an entry of a dstack guest's event log, as its agent gives it.
type Event struct {
	IMR     uint32 `json:"imr"` // the register: 3 at run time
	Type    uint32 `json:"event_type"`
	Digest  string `json:"digest"`
	Name    string `json:"event"`
	Payload string `json:"event_payload"`
}

// runtimeEvent is the type of dstack's own events.
const runtimeEvent = 0x08000001

// maxEvents bounds a log.
const maxEvents = 4096

// Replay computes the run-time register, RTMR3, from a log, and returns the payloads of
// dstack's events by name. An event whose digest is not its payload's is refused, and so
// is a name that occurs twice.
func Replay(log []Event) (register [48]byte, payloads map[string][]byte, err error) {
	if len(log) > maxEvents {
		return register, nil, fmt.Errorf("%w: %d events, at most %d", ErrMalformed, len(log), maxEvents)
	}
	payloads = map[string][]byte{}
	for i, e := range log {
		if e.IMR != 3 {
			continue
		}
		payload, err := hex.DecodeString(e.Payload)
		if err != nil {
			return register, nil, fmt.Errorf("%w: event %d: payload: %w", ErrMalformed, i, err)
		}
		digest := EventDigest(e.Name, payload)
		if e.Type != runtimeEvent {
			return register, nil, fmt.Errorf("%w: event %d is of type %#x", ErrMalformed, i, e.Type)
		}
		if e.Digest != "" && e.Digest != hex.EncodeToString(digest[:]) {
			return register, nil, fmt.Errorf("%w: event %d, %q: the digest is not that of its payload", ErrMalformed, i, e.Name)
		}
		if _, twice := payloads[e.Name]; twice {
			return register, nil, fmt.Errorf("%w: event %q occurs twice", ErrMalformed, e.Name)
		}
		payloads[e.Name] = payload
		register = sha512.Sum384(append(register[:], digest[:]...))
	}
	return register, payloads, nil
}

// EventDigest is what a run-time event extends RTMR3 with: SHA-384 over its type, name
// and payload, separated by colons.
func EventDigest(name string, payload []byte) [48]byte {
	b := binary.LittleEndian.AppendUint32(nil, runtimeEvent)
	b = append(append(append(b, ':'), name...), ':')
	return sha512.Sum384(append(b, payload...))
}

// A Registers names measured properties by the vendor's names, values in hexadecimal:
// those that a build and its configuration fix. Absent ones are zero where a guest may
// leave them so.
type Registers map[string]string

// TDX returns the measured properties of a trust domain. MRTD, the four RTMRs,
// TDATTRIBUTES and XFAM are needed; the two numbers are big-endian here.
func (r Registers) TDX() ([]attest.Field, error) {
	td := new(dcap.TDReport)
	into := map[string][]byte{
		"MRTD": td.MRTD[:], "RTMR0": td.RTMR[0][:], "RTMR1": td.RTMR[1][:], "RTMR2": td.RTMR[2][:], "RTMR3": td.RTMR[3][:],
		"MRCONFIGID": td.MRConfigID[:], "MROWNER": td.MROwner[:], "MROWNERCONFIG": td.MROwnerConfig[:], "MRSERVICETD": td.MRServiceTD[:],
	}
	numbers := map[string]*uint64{"TDATTRIBUTES": &td.TDAttributes, "XFAM": &td.XFAM}
	if err := r.fill(into, numbers, "MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3", "TDATTRIBUTES", "XFAM"); err != nil {
		return nil, err
	}
	if td.TDAttributes&1 != 0 {
		return nil, fmt.Errorf("%w: the domain is debuggable; a network refuses it", ErrMalformed)
	}
	return attest.TDXFields(td), nil
}

// SNP returns the measured properties of a guest. MEASUREMENT and POLICY are needed;
// numbers are big-endian here.
func (r Registers) SNP() ([]attest.Field, error) {
	g := new(snp.Report)
	into := map[string][]byte{
		"MEASUREMENT": g.Measurement[:], "HOST_DATA": g.HostData[:], "FAMILY_ID": g.FamilyID[:], "IMAGE_ID": g.ImageID[:],
		"ID_KEY_DIGEST": g.IDKeyDigest[:], "AUTHOR_KEY_DIGEST": g.AuthorKeyDigest[:],
	}
	var svn uint64
	if err := r.fill(into, map[string]*uint64{"POLICY": &g.Policy, "GUEST_SVN": &svn}, "MEASUREMENT", "POLICY"); err != nil {
		return nil, err
	}
	if svn > 1<<32-1 {
		return nil, fmt.Errorf("%w: GUEST_SVN has four bytes", ErrMalformed)
	}
	g.GuestSVN = uint32(svn)
	return attest.SNPFields(g), nil
}

// fill writes every register to its place. Numbers have eight bytes.
func (r Registers) fill(into map[string][]byte, numbers map[string]*uint64, needed ...string) error {
	for _, name := range needed {
		if r[name] == "" {
			return fmt.Errorf("%w: %s is needed", ErrMalformed, name)
		}
	}
	for name, text := range r {
		b, err := hex.DecodeString(text)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
		}
		size := len(into[name])
		number, ok := numbers[name]
		if ok {
			size = 8
		}
		switch {
		case size == 0:
			return fmt.Errorf("%w: no such property as %s", ErrMalformed, name)
		case len(b) != size:
			return fmt.Errorf("%w: %s has %d bytes, expected %d", ErrMalformed, name, len(b), size)
		case ok:
			*number = binary.BigEndian.Uint64(b)
		default:
			copy(into[name], b)
		}
	}
	return nil
}
