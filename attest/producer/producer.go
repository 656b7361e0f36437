package producer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/snp"
)

// Producer obtains evidence about the process that calls it.
type Producer interface {
	// Name is the interface used: configfs, dstack, gramine or simulator.
	Name() string
	// TEE is the class of the evidence.
	TEE() attest.TEE
	// Simulated is true for the simulator only. Whether evidence is accepted is
	// not decided by this, but by the network's roots.
	Simulated() bool
	// Evidence returns evidence, in canonical form, that carries reportData.
	// Hardware gives it without collateral; the simulator with.
	Evidence(ctx context.Context, reportData [64]byte) (attest.Evidence, error)
	// SealingKey returns a key that only this software on this machine gets,
	// or an error that is ErrNoSealing.
	SealingKey(ctx context.Context, label []byte) ([32]byte, error)
}

// Reasons why there is no evidence or key. Test with errors.Is.
var (
	// ErrNoTEE: no TEE interface was found, or not the one that was asked for.
	ErrNoTEE = errors.New("no TEE interface")
	// ErrNoSealing: this TEE gives no sealing key: what a process here knows
	// ends with it, and the network gives it again.
	ErrNoSealing = errors.New("this TEE has no sealing keys")
	// ErrAnswer: the interface answered something that cannot be evidence for
	// what was asked.
	ErrAnswer = errors.New("the TEE interface answered wrongly")
	// ErrNoVCEK: the SNP host gave no VCEK certificate.
	ErrNoVCEK = errors.New("no VCEK certificate")
)

// Options adjust how a producer is opened. The zero value suits production.
type Options struct {
	// VCEK is the processor's certificate in DER or PEM (SNP), for hosts that do not
	// hand it to their guests. Anyone can download it from AMD.
	VCEK []byte

	files fileSystem
	root  string // before the dstack sockets' paths
}

func (o Options) fileSystem() fileSystem {
	if o.files == nil {
		return realFiles{}
	}
	return o.files
}

// Open opens the interface that spec names:
//
//	auto                  the first of dstack, configfs and gramine that is there
//	configfs              Linux configfs-tsm: TDX and SEV-SNP guests
//	dstack[:SOCKET]       the dstack guest agent: TDX guests
//	gramine               Gramine's /dev/attestation: SGX
//	simulator:unix:PATH   a tee-simulator
//	simulator:HOST:PORT   the same, on loopback
//
// auto never finds a simulator: simulation is asked for by name.
func Open(ctx context.Context, spec string, o Options) (Producer, error) {
	kind, rest, _ := strings.Cut(spec, ":")
	switch kind {
	case "auto":
		return detect(ctx, o)
	case "configfs":
		return openConfigFS(o)
	case "dstack":
		return openDstack(ctx, rest, o)
	case "gramine":
		return openGramine(o)
	case "simulator":
		return openSimulator(ctx, rest)
	}
	return nil, fmt.Errorf("%w: %q is none of auto, configfs, dstack[:SOCKET], gramine, simulator:unix:PATH, simulator:HOST:PORT", ErrNoTEE, spec)
}

// detect tries the hardware interfaces in turn. One that is there but does not
// work is an error, not a reason to go on.
func detect(ctx context.Context, o Options) (Producer, error) {
	for _, open := range []func() (Producer, error){
		func() (Producer, error) { return openDstack(ctx, "", o) },
		func() (Producer, error) { return openConfigFS(o) },
		func() (Producer, error) { return openGramine(o) },
	} {
		p, err := open()
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, ErrNoTEE) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: found neither a dstack guest agent (%s), nor configfs-tsm (%s), nor Gramine (%s); a development network's simulator must be named: simulator:unix:PATH",
		ErrNoTEE, strings.Join(dstackSockets, ", "), tsmDir, gramineDir)
}

// finish turns what an interface gave into evidence, and checks that it is
// about what was asked.
func finish(tee attest.TEE, report, certificate []byte, reportData [64]byte) (attest.Evidence, error) {
	canonical, err := attest.Canonical(tee, report)
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	e := attest.Evidence{TEE: tee, Report: canonical, Certificate: certificate}
	return e, checkReportData(e, reportData)
}

func checkReportData(e attest.Evidence, want [64]byte) error {
	var have [64]byte
	kind := e.TEE
	switch e.TEE {
	case attest.SGX, attest.TDX:
		q, err := dcap.ParseQuote(e.Report)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		have, kind = q.ReportData(), attest.SGX
		if q.TD != nil {
			kind = attest.TDX
		}
	case attest.SNP:
		r, err := snp.ParseReport(e.Report)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		have = r.ReportData
	}
	switch {
	case kind != e.TEE:
		return fmt.Errorf("%w: a quote of %s instead of %s", ErrAnswer, kind, e.TEE)
	case have != want:
		return fmt.Errorf("%w: the evidence carries other report data than asked for", ErrAnswer)
	}
	return nil
}

// fileSystem is what the file-based interfaces are used through. Their files
// react to each other, so tests bring an imitation.
type fileSystem interface {
	Mkdir(path string) error
	Remove(path string) error
	ReadFile(path string) ([]byte, error)
	WriteFile(path string, data []byte) error
}

type realFiles struct{}

func (realFiles) Mkdir(path string) error              { return os.Mkdir(path, 0o700) }
func (realFiles) Remove(path string) error             { return os.Remove(path) }
func (realFiles) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// WriteFile writes in one call to a file that exists already.
func (realFiles) WriteFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// missing reports whether err means that an interface is not there at all.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
