package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/measure"
	"github.com/phala-go/phala/attest/pcs"
	"github.com/phala-go/phala/attest/snp"
)

// A measurement is what an allow-list names, and of what it is the digest.
type measurement struct {
	Class  string            `json:"class"`
	Digest string            `json:"digest"`
	Fields map[string]string `json:"fields,omitempty"`
	// Proposal is the message with which governance allows it.
	Proposal map[string]any `json:"proposal"`
	Note     string         `json:"note,omitempty"`

	order []attest.Field
}

func measured(tee attest.TEE, fields []attest.Field) *measurement {
	digest := attest.MeasurementDigest(tee, fields)
	m := &measurement{Class: tee.String(), Digest: hex.EncodeToString(digest[:]), Fields: map[string]string{}, order: fields}
	for _, f := range fields {
		m.Fields[f.Name] = hex.EncodeToString(f.Value)
	}
	return m
}

func runMeasure(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala measure FILE", `Computes the measurement of a build, as an allow-list names it. FILE is one of

  pruntime.sig     the signature structure that gramine-sgx-sign writes (SGX)
  registers.json   {"class": "tdx" or "snp", "registers": {"MRTD": hex, …}}: those of the image, by the vendor's
                   names; RTMR3 may come from --event-log
  evidence.bin     evidence of a machine that runs it, or its quote (SGX, TDX) or report (SEV-SNP) as the hardware gave
                   it: verified first, with collateral from the vendor's service, under the network's roots
  pruntime         the program itself, for simulated networks; nothing there is protected`)
	var o measureOptions
	f.StringVar(&o.role, "role", "worker", "role that the proposal is for: worker or gatekeeper")
	f.StringVar(&o.class, "class", "sgx", "class that a simulator stands for: sgx, tdx or snp")
	f.StringVar(&o.eventLog, "event-log", "", "event log of a dstack guest (JSON), from which RTMR3 is computed")
	f.StringVar(&o.compose, "compose", "", "app-compose.json that the event log must name")
	roots := f.String("simulated-roots", "", "file with the attestation roots of a simulated network; without it the vendors' roots count")
	f.StringVar(&o.pccs, "pccs", "", "PCCS to ask for Intel's collateral; Intel's own service without it")
	f.StringVar(&o.kds, "kds", "", "service to ask for AMD's certificates; AMD's own without it")
	pos, err := need(f, args, 1, 1)
	if err != nil {
		return ignoreHelp(err)
	}
	file, err := os.ReadFile(pos[0])
	if err != nil {
		return err
	}
	if o.roots, err = loadRoots(*roots); err != nil {
		return err
	}
	m, err := measureFile(ctx, file, o)
	if err != nil {
		return fmt.Errorf("%s: %w", pos[0], err)
	}
	digest, err := hex.DecodeString(m.Digest)
	if err != nil {
		return err
	}
	m.Proposal = map[string]any{"@type": "/phala.registry.v1.MsgSetMeasurement", "authority": "", "digest": digest, "role": o.role, "from": "0", "until": "0"}
	return a.print(m, func(w io.Writer) {
		for _, f := range m.order {
			fmt.Fprintf(w, "%-20s %x\n", f.Name, f.Value)
		}
		fmt.Fprintf(w, "%-20s %s\n%-20s %s\n", "class", m.Class, "digest", m.Digest)
		if m.Note != "" {
			fmt.Fprintln(w, m.Note)
		}
		entry, _ := json.Marshal(m.Proposal)
		fmt.Fprintf(w, "\nfor a proposal, with the governance account as authority: %s\n", entry)
	})
}

// measureOptions are the flags that say how to read a file.
type measureOptions struct {
	role, class, eventLog, compose, pccs, kds string
	roots                                     attest.Roots
}

// measureFile measures what a file is of.
func measureFile(ctx context.Context, file []byte, o measureOptions) (*measurement, error) {
	switch {
	case bytes.HasPrefix(file, []byte("\x7fELF")):
		return measureSimulated(ctx, o.class, file)
	case bytes.HasPrefix(file, []byte("PEV")):
		ev, err := attest.Parse(file)
		if err != nil {
			return nil, err
		}
		return measureEvidence(ctx, ev, o)
	case len(file) == snp.ReportSize:
		return measureRaw(ctx, attest.SNP, file, o)
	case len(file) > 1000 && (file[0] == 4 || file[0] == 5) && file[4] == 0x81:
		return measureRaw(ctx, attest.TDX, file, o)
	case len(file) > 1000 && file[0] == 3 && file[1] == 0 && file[4] == 0:
		return measureRaw(ctx, attest.SGX, file, o)
	case bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")):
		return measureRegisters(file, o.eventLog, o.compose)
	}
	fields, err := measure.SGX(file)
	if err != nil {
		return nil, err
	}
	return measured(attest.SGX, fields), nil
}

// measureSimulated asks the tee-simulator beside this program: what it measures is the
// hash of the program.
func measureSimulated(ctx context.Context, class string, program []byte) (*measurement, error) {
	dir, err := binDir()
	if err != nil {
		return nil, err
	}
	tee, err := attest.ParseTEE(class)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(program)
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "tee-simulator"), "measure", "--class", tee.String(), "--measurement", hex.EncodeToString(hash[:]))
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("tee-simulator, which should be in %s: %w", dir, err)
	}
	return &measurement{Class: tee.String(), Digest: strings.TrimSpace(string(out)), Note: "simulated: it names this program on a simulated network, and protects nothing"}, nil
}

// measureRaw takes a quote or report as hardware gave it.
func measureRaw(ctx context.Context, tee attest.TEE, file []byte, o measureOptions) (*measurement, error) {
	report, err := attest.Canonical(tee, file)
	if err != nil {
		return nil, err
	}
	return measureEvidence(ctx, attest.Evidence{TEE: tee, Report: report}, o)
}

// measureEvidence verifies evidence and takes what it proves. What hardware leaves out is
// asked of the vendor.
func measureEvidence(ctx context.Context, ev attest.Evidence, o measureOptions) (*measurement, error) {
	var v *attest.Verdict
	var err error
	if ev.Collateral != nil {
		v, err = attest.Verify(ev, o.roots, time.Now())
	} else {
		var c *pcs.Client
		if c, err = pcs.New(pcs.Options{Intel: o.pccs, AMD: o.kds, Roots: o.roots}); err == nil {
			_, v, err = c.Complete(ctx, ev)
		}
	}
	if err != nil {
		return nil, err
	}
	m := measured(v.TEE, v.Fields)
	if v.Simulated {
		m.Note = "simulated: nothing is protected"
	}
	return m, nil
}

// loadRoots reads a simulated network's roots; no file means the vendors'.
func loadRoots(file string) (attest.Roots, error) {
	if file == "" {
		return attest.ProductionRoots(), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return attest.Roots{}, err
	}
	return attest.SimulatedRoots(b)
}

func measureRegisters(file []byte, eventLog, compose string) (*measurement, error) {
	var in struct {
		Class     string            `json:"class"`
		Registers measure.Registers `json:"registers"`
	}
	d := json.NewDecoder(bytes.NewReader(file))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	if in.Registers == nil {
		return nil, errors.New(`there are no "registers"`)
	}
	if eventLog != "" {
		if err := replay(in.Registers, eventLog, compose); err != nil {
			return nil, err
		}
	} else if compose != "" {
		return nil, errors.New("--compose needs --event-log: the log says what was started")
	}
	tee, err := attest.ParseTEE(in.Class)
	if err != nil {
		return nil, err
	}
	var fields []attest.Field
	switch tee {
	case attest.TDX:
		fields, err = in.Registers.TDX()
	case attest.SNP:
		fields, err = in.Registers.SNP()
	default:
		err = errors.New("an enclave is measured from the .sig file that gramine-sgx-sign writes")
	}
	if err != nil {
		return nil, err
	}
	return measured(tee, fields), nil
}

// replay sets RTMR3 from an event log, or compares where it is there.
func replay(r measure.Registers, eventLog, compose string) error {
	text, err := os.ReadFile(eventLog)
	if err != nil {
		return err
	}
	log, err := events(text)
	if err != nil {
		return fmt.Errorf("%s: %w", eventLog, err)
	}
	register, payloads, err := measure.Replay(log)
	if err != nil {
		return fmt.Errorf("%s: %w", eventLog, err)
	}
	got := hex.EncodeToString(register[:])
	if want := r["RTMR3"]; want != "" && want != got {
		return fmt.Errorf("%s: its events give RTMR3 %s, the registers say %s", eventLog, got, want)
	}
	r["RTMR3"] = got
	if compose == "" {
		return nil
	}
	b, err := os.ReadFile(compose)
	if err != nil {
		return err
	}
	if hash := sha256.Sum256(b); !bytes.Equal(payloads["compose-hash"], hash[:]) {
		return fmt.Errorf("%s has the hash %x, the guest was started with %x", compose, hash, payloads["compose-hash"])
	}
	return nil
}

// events reads a log: a list, or what the guest agent answers, in which the list is a
// member "event_log", as JSON or as a text of it.
func events(text []byte) ([]measure.Event, error) {
	var list []measure.Event
	if err := json.Unmarshal(text, &list); err == nil {
		return list, nil
	}
	var answer struct {
		EventLog json.RawMessage `json:"event_log"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	var inner string
	if json.Unmarshal(answer.EventLog, &inner) == nil {
		answer.EventLog = json.RawMessage(inner)
	}
	if err := json.Unmarshal(answer.EventLog, &list); err != nil {
		return nil, fmt.Errorf(`no list of events, and none in "event_log": %w`, err)
	}
	return list, nil
}
