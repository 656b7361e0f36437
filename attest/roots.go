package attest

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/pem"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/snp"
)

// SimulatedOrganization is the organisation that the root certificates of a
// simulated network name, so that whoever prints a chain reads it there.
const SimulatedOrganization = "SIMULATED - NOT A TEE"

// Network classes, in a genesis. Only the first makes a network simulated; every other one
// is real, whatever it says.
const (
	ClassSimulated = "simulated"
	ClassReal      = "real"
)

//go:embed roots/*.pem
var vendorRoots embed.FS

// Roots are the trust anchors of one network. They are either the vendors' or
// those of one simulated network, never a mixture. The zero value trusts
// nobody.
type Roots struct {
	intel     *dcap.Root
	amd       []*snp.Root
	simulated bool
	digest    [32]byte
}

// ProductionRoots returns the vendors' roots, which are compiled in: Intel's
// SGX Root CA, and AMD's ARKs of Milan, Genoa and Turin.
func ProductionRoots() Roots { return production() }

var production = sync.OnceValue(func() Roots {
	der := func(name string) []byte {
		text, err := vendorRoots.ReadFile("roots/" + name + ".pem")
		if err != nil {
			panic("attest: " + err.Error())
		}
		block, _ := pem.Decode(text)
		return block.Bytes
	}
	r, err := newRoots(der("intel_sgx_root_ca"), [][]byte{der("amd_ark_milan"), der("amd_ark_genoa"), der("amd_ark_turin")})
	if err != nil {
		panic("attest: compiled-in roots: " + err.Error()) // a test holds their digests
	}
	return r
})

func newRoots(intel []byte, amd [][]byte) (Roots, error) {
	var r Roots
	var err error
	if r.intel, err = dcap.NewRoot(intel); err != nil {
		return Roots{}, err
	}
	for _, der := range amd {
		root, err := snp.NewRoot(der)
		if err != nil {
			return Roots{}, err
		}
		r.amd = append(r.amd, root)
	}
	r.digest = sha256.Sum256(encodeRoots(intel, amd))
	return r, nil
}

// Simulated reports whether these are the roots of a simulated network.
func (r Roots) Simulated() bool { return r.simulated }

// Digest identifies the roots. A genesis or a trust root binds it.
func (r Roots) Digest() [32]byte { return r.digest }

const (
	rootsMagic   = "PSR\x01"
	maxAMDRoots  = 8
	maxRootsSize = 64 << 10
)

func encodeRoots(intel []byte, amd [][]byte) []byte {
	b := appendPart([]byte(rootsMagic), intel)
	b = append(b, byte(len(amd)))
	for _, der := range amd {
		b = appendPart(b, der)
	}
	return b
}

// EncodeSimulatedRoots returns the bytes from which a genesis makes a network
// simulated: the DER certificates of its Intel-like root and AMD-like roots,
// the latter one per product, in the order of their names.
func EncodeSimulatedRoots(intel []byte, amd [][]byte) ([]byte, error) {
	b := encodeRoots(intel, amd)
	if _, err := SimulatedRoots(b); err != nil {
		return nil, err
	}
	return b, nil
}

// SimulatedRoots reads the roots of a simulated network from its genesis. Each
// must say in its subject that it is simulated, and none may be a vendor's: not
// by certificate, not by key, not by organisation.
func SimulatedRoots(rootBytes []byte) (Roots, error) {
	malformed := func(what string) (Roots, error) {
		return Roots{}, fault.New(fault.RootsMalformed, what)
	}
	if len(rootBytes) > maxRootsSize {
		return malformed(strconv.Itoa(len(rootBytes)) + " bytes, at most " + strconv.Itoa(maxRootsSize) + " are allowed")
	}
	rd := &reader{b: rootBytes}
	if !bytes.Equal(rd.take(len(rootsMagic)), []byte(rootsMagic)) {
		return malformed("no simulated roots of a known version")
	}
	intel := bytes.Clone(rd.part(MaxCertificate))
	n := int(rd.byte())
	if n > maxAMDRoots {
		return malformed("too many AMD roots")
	}
	var amd [][]byte
	for range n {
		amd = append(amd, bytes.Clone(rd.part(MaxCertificate)))
	}
	if rd.bad || len(rd.b) != 0 {
		return malformed("truncated, over long, or bytes follow them")
	}
	r, err := newRoots(intel, amd)
	if err != nil {
		return Roots{}, fault.Wrap(fault.RootsMalformed, "", err)
	}
	if !slices.IsSortedFunc(r.amd, func(a, b *snp.Root) int { return strings.Compare(string(a.Product()), string(b.Product())) }) {
		return malformed("AMD roots are not in the order of their products")
	}
	real := ProductionRoots()
	organizations := []string{r.intel.Organization()}
	if bytes.Equal(r.intel.PublicKey(), real.intel.PublicKey()) {
		return Roots{}, fault.New(fault.RootsVendor, "Intel's key")
	}
	for i, a := range r.amd {
		organizations = append(organizations, a.Organization())
		for _, v := range real.amd {
			if a.SameKey(v) {
				return Roots{}, fault.New(fault.RootsVendor, "AMD's key")
			}
		}
		if i > 0 && r.amd[i-1].Product() == a.Product() {
			return malformed("two AMD roots of one product")
		}
	}
	for _, o := range organizations {
		if o != SimulatedOrganization {
			return Roots{}, fault.New(fault.RootsVendor, "organisation "+strconv.Quote(o)+", a simulated root says "+strconv.Quote(SimulatedOrganization))
		}
	}
	r.simulated = true
	return r, nil
}

// NetworkRoots decides by a genesis' network class, once and for ever: only
// [ClassSimulated] makes a network simulated; every other class, unknown ones
// included, is real, and a real network may not name roots.
func NetworkRoots(class string, rootBytes []byte) (Roots, error) {
	if class == ClassSimulated {
		return SimulatedRoots(rootBytes)
	}
	if len(rootBytes) != 0 {
		return Roots{}, fault.New(fault.RootsVendor, "a real network's genesis holds roots; the vendors' are compiled in")
	}
	return ProductionRoots(), nil
}
