package producer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/snp"
)

const tsmDir = "/sys/kernel/config/tsm/report"

// configFS uses the Linux kernel's configfs-tsm reports (Documentation/ABI/
// testing/configfs-tsm-report): a directory made there has an inblob, to which
// the report data is written, and an outblob, which then is the quote.
type configFS struct {
	files fileSystem
	tee   attest.TEE
	vcek  []byte
}

func openConfigFS(o Options) (Producer, error) {
	c := &configFS{files: o.fileSystem(), vcek: der(o.VCEK)}
	entry, err := c.enter()
	if err != nil {
		if missing(err) {
			return nil, fmt.Errorf("%w: no configfs-tsm at %s", ErrNoTEE, tsmDir)
		}
		return nil, fmt.Errorf("configfs-tsm: %w", err)
	}
	provider, err := c.files.ReadFile(entry + "/provider")
	if err = errors.Join(err, c.files.Remove(entry)); err != nil {
		return nil, fmt.Errorf("configfs-tsm: %w", err)
	}
	switch p := strings.TrimSpace(string(provider)); p {
	case "tdx_guest":
		c.tee = attest.TDX
	case "sev_guest":
		c.tee = attest.SNP
	default:
		return nil, fmt.Errorf("%w: configfs-tsm: provider %q is not supported", ErrAnswer, p)
	}
	return c, nil
}

// enter makes a report directory of a name that nobody else uses.
func (c *configFS) enter() (string, error) {
	var id [8]byte
	rand.Read(id[:])
	entry := tsmDir + "/phala-" + hex.EncodeToString(id[:])
	return entry, c.files.Mkdir(entry)
}

func (c *configFS) Name() string    { return "configfs" }
func (c *configFS) TEE() attest.TEE { return c.tee }
func (c *configFS) Simulated() bool { return false }

func (c *configFS) Evidence(ctx context.Context, reportData [64]byte) (e attest.Evidence, err error) {
	entry, err := c.enter()
	if err != nil {
		return e, fmt.Errorf("configfs-tsm: %w", err)
	}
	defer func() { err = errors.Join(err, c.files.Remove(entry)) }()
	if err := c.files.WriteFile(entry+"/inblob", reportData[:]); err != nil {
		return e, fmt.Errorf("configfs-tsm: inblob: %w", err)
	}
	before, err := c.files.ReadFile(entry + "/generation")
	if err != nil {
		return e, fmt.Errorf("configfs-tsm: generation: %w", err)
	}
	report, err := c.files.ReadFile(entry + "/outblob")
	if err != nil {
		return e, fmt.Errorf("configfs-tsm: outblob: %w", err)
	}
	vcek := c.vcek
	if c.tee == attest.SNP && len(vcek) == 0 {
		table, err := c.files.ReadFile(entry + "/auxblob")
		if err != nil && !missing(err) {
			return e, fmt.Errorf("configfs-tsm: auxblob: %w", err)
		}
		if vcek, err = findVCEK(table); err != nil {
			return e, fmt.Errorf("configfs-tsm: %w%s", err, whereVCEK(err, report))
		}
	}
	after, err := c.files.ReadFile(entry + "/generation")
	if err != nil {
		return e, fmt.Errorf("configfs-tsm: generation: %w", err)
	}
	// Another writer to this directory would be a stranger in this guest.
	if !bytes.Equal(before, after) {
		return e, fmt.Errorf("%w: configfs-tsm: the request was changed while it was answered", ErrAnswer)
	}
	if err := ctx.Err(); err != nil {
		return e, err
	}
	if c.tee == attest.SNP && len(report) > snp.ReportSize {
		report = report[:snp.ReportSize] // the kernel may give the whole page
	}
	return finish(c.tee, report, vcek, reportData)
}

// SealingKey refuses: a trust domain has no key of its own, and an SNP guest's
// derived key is not shown by this interface.
func (c *configFS) SealingKey(context.Context, []byte) ([32]byte, error) {
	return [32]byte{}, fmt.Errorf("%w: configfs-tsm of %s", ErrNoSealing, c.tee)
}

const (
	tableEntrySize = 24 // GUID, offset, length
	maxTableEntry  = 64
)

// guidVCEK is 63da758d-e664-4564-adc5-f4b93be8accd, in the order it is read.
var guidVCEK = []byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}

// findVCEK looks for the VCEK in a host's certificate table (AMD, GHCB
// Standardization, SNP Extended Guest Request).
func findVCEK(table []byte) ([]byte, error) {
	for i := range maxTableEntry {
		at := i * tableEntrySize
		if at+tableEntrySize > len(table) || isZero(table[at:at+tableEntrySize]) {
			break
		}
		if !bytes.Equal(table[at:at+16], guidVCEK) {
			continue
		}
		offset := uint64(binary.LittleEndian.Uint32(table[at+16:]))
		length := uint64(binary.LittleEndian.Uint32(table[at+20:]))
		if offset+length > uint64(len(table)) || length == 0 || length > attest.MaxCertificate {
			return nil, fmt.Errorf("%w: certificate table with an entry outside of it", ErrAnswer)
		}
		return der(bytes.Clone(table[offset : offset+length])), nil
	}
	return nil, fmt.Errorf("%w: the host gives none", ErrNoVCEK)
}

// der takes a certificate out of PEM: some hosts store text.
func der(certificate []byte) []byte {
	if block, _ := pem.Decode(certificate); block != nil {
		return block.Bytes
	}
	return certificate
}

// whereVCEK tells whoever runs the machine how to get the certificate that is missing.
func whereVCEK(missing error, report []byte) string {
	if !errors.Is(missing, ErrNoVCEK) {
		return ""
	}
	canonical, err := snp.Canonical(report[:min(len(report), snp.ReportSize)])
	if err != nil {
		return ""
	}
	r, err := snp.ParseReport(canonical)
	if err != nil {
		return ""
	}
	product, ok := r.Product()
	if !ok {
		product = "{Milan or Genoa}" // reports of version 2 do not say
	}
	return "; download https://kdsintf.amd.com" + r.VCEKPath(product) + " and name the file by --vcek"
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
