package producer

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"

	"github.com/phala-go/phala/attest"
)

const gramineDir = "/dev/attestation"

// gramine uses the pseudo-files that Gramine shows to an enclave.
type gramine struct {
	files fileSystem
	mu    sync.Mutex // user_report_data is one for the whole enclave
}

func openGramine(o Options) (Producer, error) {
	g := &gramine{files: o.fileSystem()}
	kind, err := g.files.ReadFile(gramineDir + "/attestation_type")
	if err != nil {
		if missing(err) {
			return nil, fmt.Errorf("%w: no Gramine at %s", ErrNoTEE, gramineDir)
		}
		return nil, fmt.Errorf("gramine: %w", err)
	}
	if k := strings.TrimSpace(string(kind)); k != "dcap" {
		return nil, fmt.Errorf("%w: gramine: attestation type is %q; set sgx.remote_attestation = \"dcap\" in the manifest", ErrAnswer, k)
	}
	return g, nil
}

func (g *gramine) Name() string    { return "gramine" }
func (g *gramine) TEE() attest.TEE { return attest.SGX }
func (g *gramine) Simulated() bool { return false }

func (g *gramine) Evidence(_ context.Context, reportData [64]byte) (attest.Evidence, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.files.WriteFile(gramineDir+"/user_report_data", reportData[:]); err != nil {
		return attest.Evidence{}, fmt.Errorf("gramine: %w", err)
	}
	quote, err := g.files.ReadFile(gramineDir + "/quote")
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("gramine: %w", err)
	}
	e, err := finish(attest.SGX, quote, nil, reportData)
	if err != nil {
		return attest.Evidence{}, err
	}
	return e, g.check(quote)
}

// Sizes of SGX's structures.
const (
	reportSize     = 432
	reportBodySize = 384
	quoteHeader    = 48 // before the report's body
)

// check compares a quote with a report that the processor makes for this enclave alone.
// The quote comes through the host, which could give that of another enclave with the
// same report data, and whoever learns its own measurement from it would take the other's.
func (g *gramine) check(quote []byte) error {
	target, err := g.files.ReadFile(gramineDir + "/my_target_info")
	if err != nil {
		return fmt.Errorf("gramine: %w", err)
	}
	if err := g.files.WriteFile(gramineDir+"/target_info", target); err != nil {
		return fmt.Errorf("gramine: %w", err)
	}
	report, err := g.files.ReadFile(gramineDir + "/report")
	if err != nil {
		return fmt.Errorf("gramine: %w", err)
	}
	if len(report) != reportSize || !bytes.Equal(report[:reportBodySize], quote[quoteHeader:quoteHeader+reportBodySize]) {
		return fmt.Errorf("%w: gramine: the quote is not of this enclave", ErrAnswer)
	}
	return nil
}

// SealingKey derives from the key that the processor derives from MRENCLAVE:
// an upgraded enclave does not get it.
func (g *gramine) SealingKey(_ context.Context, label []byte) (key [32]byte, err error) {
	secret, err := g.files.ReadFile(gramineDir + "/keys/_sgx_mrenclave")
	if err != nil {
		return key, fmt.Errorf("gramine: %w", err)
	}
	if len(secret) != 16 {
		return key, fmt.Errorf("%w: gramine: sealing key of %d bytes, expected 16", ErrAnswer, len(secret))
	}
	b, err := hkdf.Key(sha256.New, secret, nil, "phala/sealing/gramine/v1/"+string(label), len(key))
	copy(key[:], b)
	return key, err
}
