package keyring

import (
	"errors"
	"fmt"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/keys"
)

// Requests, by their first byte. A response is a zero and the fields that are named here,
// or the code of a failure class and a text.
const (
	opStart       = 1  // config, TEE interface                          -> info; first and once
	opRegister    = 2  // session, epoch, height, hash, rules, endpoints -> registration, signature, evidence
	opCertify     = 3  // beginning, TLS key                             -> signature, evidence
	opSign        = 4  // number of the first entry, entries             -> signatures
	opNewSession  = 5  //                                                -> its public key
	opEndSessions = 6  // public key of the one that stays               ->
	opQuery       = 7  // envelope                                       -> session, key of the answer, query
	opRelease     = 8  // cluster, epoch, session, master key, envelope  -> stable key, blinding key, epoch's public key
	opCommands    = 9  // cluster, epoch, commands                       -> epoch's public key, for each what became of it
	opForget      = 10 // cluster, first epoch that stays                ->
)

// Limits of requests.
const (
	maxText     = 4096
	maxPath     = 4096
	maxVCEK     = 64 << 10
	maxOuter    = 1024
	maxCommands = 4096
	// maxBatch is how many bytes of commands or entries go into one request, or one of
	// them.
	maxBatch = 1 << 20
)

// classes are the failures that the other process tells apart, by their code less one.
var classes = []error{ErrRequest, ErrRefused, ErrNoKey, ErrOpen, ErrRelease, ErrIdentity, keys.ErrSealed, producer.ErrNoSealing, producer.ErrNoTEE, cluster.ErrNeedKey}

// codeOther is for the failures of no class.
const codeOther = 255

// failure encodes an error.
func failure(err error) []byte {
	code := uint8(codeOther)
	for i, c := range classes {
		if errors.Is(err, c) {
			code = uint8(i + 1)
			break
		}
	}
	text := err.Error()
	return new(wire.Writer).U8(code).String(text[:min(len(text), maxText)]).Bytes()
}

// A told error is one of the other process.
type told struct {
	text  string
	class error
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.class }

// result checks a response for a failure and returns a reader of its fields.
func result(b []byte) (*wire.Reader, error) {
	r := wire.NewReader(b)
	code := r.U8()
	if code == 0 {
		return r, r.Err()
	}
	e := &told{text: r.String(maxText)}
	if int(code) <= len(classes) {
		e.class = classes[code-1]
	} else if code != codeOther {
		r.Fail(fmt.Errorf("%w: code %d", wire.ErrNotCanonical, code))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("keyring: response: %w", err)
	}
	return nil, e
}

func ok() *wire.Writer { return new(wire.Writer).U8(0) }

func writeSettings(w *wire.Writer, s *proto.Settings) *wire.Writer {
	return w.U64(s.Lease).U64(s.TrustingPeriod).U64(s.ClockDrift).U64(s.SessionInterval).U8(s.WorstLevel)
}

func readSettings(r *wire.Reader) proto.Settings {
	return proto.Settings{Lease: r.U64(), TrustingPeriod: r.U64(), ClockDrift: r.U64(), SessionInterval: r.U64(), WorstLevel: r.U8()}
}

func readHashes(r *wire.Reader) (out []proto.Hash) {
	for range r.Count(proto.MaxReleases, 32) {
		out = append(out, r.Array32())
	}
	return out
}

// A TEE says how its interface is found, as package producer opens it.
type TEE struct {
	Interface string
	VCEK      []byte // see producer.Options; mostly empty
}

// marshalStart encodes the first request. Only a worker's keyring is a process of its own.
func marshalStart(c *Config, tee TEE) []byte {
	w := new(wire.Writer).U8(opStart).String(c.DataDir).String(c.Chain).U64(c.RootHeight).Fixed(c.RootHash[:]).Blob(c.Operator).Fixed(c.Roots[:])
	return writeSettings(w, &c.Settings).String(tee.Interface).Blob(tee.VCEK).Bytes()
}

func parseStart(b []byte) (c Config, tee TEE, err error) {
	r := wire.NewReader(b)
	if op := r.U8(); op != opStart {
		r.Fail(fmt.Errorf("request %d is not the first", op))
	}
	c = Config{DataDir: r.String(maxPath), Chain: r.String(64), RootHeight: r.U64(), RootHash: r.Array32(), Role: proto.RoleWorker, Operator: r.Blob(proto.MaxSender), Roots: r.Array32(), Settings: readSettings(r)}
	tee = TEE{r.String(maxPath), r.Blob(maxVCEK)}
	if err := r.Close(); err != nil {
		return c, tee, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return c, tee, nil
}

func (i *Info) marshal() []byte {
	w := ok().Fixed(i.Worker[:]).U8(uint8(i.TEE)).Bool(i.Simulated).Bool(i.Ephemeral)
	writeSettings(w, &i.Made).Count(len(i.Releases))
	for _, h := range i.Releases {
		w.Fixed(h[:])
	}
	return w.Fixed(i.Files[:]).Bytes()
}

func parseInfo(b []byte) (Info, error) {
	r, err := result(b)
	if err != nil {
		return Info{}, err
	}
	i := Info{Worker: r.Array32(), TEE: attest.TEE(r.U8()), Simulated: r.Bool(), Ephemeral: r.Bool(), Made: readSettings(r), Releases: readHashes(r), Files: r.Array32()}
	if i.TEE < attest.SGX || i.TEE > attest.SNP {
		r.Fail(fmt.Errorf("%w: TEE %d", wire.ErrNotCanonical, i.TEE))
	}
	return i, closed(r)
}

// Purposes of commands, by their number in a request.
var purposes = []string{proto.PurposeCommand, proto.PurposeInstantiate}
