package verifycli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/reads"
)

// The exit codes of Run.
const (
	ExitVerified = 0 // every link holds
	ExitBroken   = 1 // a link does not hold
	ExitUsage    = 2 // bad flags or unreadable files
)

const usage = `Usage: phala verify substrate [flags] LINK...

Verifies proofs about a Substrate chain offline and prints each link, or the first that breaks.

Trust (at least one; never take these from whoever sent the proofs):
  --checkpoint FILE      chain specification with a lightSyncState
  --authorities FILE     authority set: one key in hexadecimal a line, a weight behind it if not 1
  --set-id N             id of that set
  --root HEX             state root
Options:
  --trusting-period D    age at which the checkpoint can no longer be advanced (default 504h, 0 for none)
  --slot D               slot duration of the chain (default 6s)
  --signatures-only      check signatures of sets whose members are unknown; that proves no finality
  --output json          one JSON object instead of lines

Links, in order:
  update=FILE            headers and a justification
  headers=FILE           headers for the next justification or finality proof
  justification=FILE     GRANDPA justification
  finality=FILE          answer of grandpa_proveFinality
  commit=FILE            gossip commit message
  warp=FILE              warp-sync proof
  state=FILE             read proof (answer of state_getReadProof)
  para=ID                go on in the state of parachain ID; its read proof is the next state link
  read=ITEM              number, now, events, digest, session-validators, staking-validators, grandpa,
                         account:HEX, balance:HEX, validator:HEX, head:ID, hrmp:FROM:TO, downward:ID,
                         key:HEX, prefix:HEX, available

Files may be raw SCALE, hexadecimal or the JSON of an RPC answer.
Example:
  phala verify substrate --checkpoint polkadot.json update=update.scale state=proof.json read=number read=head:2000
`

// A broken is the failure of a link; anything else that goes wrong is a matter of usage.
type broken struct{ err error }

func (b *broken) Error() string { return b.err.Error() }
func (b *broken) Unwrap() error { return b.err }

func breaks(err error) error {
	if err == nil {
		return nil
	}
	return &broken{err}
}

// report is what --output json prints.
type report struct {
	OK             bool   `json:"ok"`
	SignaturesOnly bool   `json:"signatures_only"` // no finality is proven
	Links          []link `json:"links"`
	Hint           string `json:"hint,omitempty"`
	Error          string `json:"error,omitempty"` // of usage; a broken link says itself what is wrong
}

type link struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// session is what the links so far have proven.
type session struct {
	out        io.Writer // of lines; nowhere with --output json
	report     report
	now        time.Time
	checkpoint *grandpa.Checkpoint
	state      *grandpa.State        // the light client, from the checkpoint
	set        *grandpa.AuthoritySet // --authorities
	setID      uint64
	setIDGiven bool
	signatures bool // --signatures-only
	weak       bool // a link was about signatures only
	headers    []*grandpa.Header
	root       *grandpa.Hash // state root that state links are held against
	rootFrom   string
	view       *reads.View
}

// Run executes the command with the arguments behind "phala verify substrate" and returns its exit code. now is the
// time against which ages are measured.
func Run(args []string, stdout, stderr io.Writer, now time.Time) int {
	flags := flag.NewFlagSet("phala verify substrate", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	checkpoint := flags.String("checkpoint", "", "")
	authorities := flags.String("authorities", "", "")
	setID := flags.Uint64("set-id", 0, "")
	root := flags.String("root", "", "")
	trusting := flags.Duration("trusting-period", 21*24*time.Hour, "")
	slot := flags.Duration("slot", 6*time.Second, "")
	signatures := flags.Bool("signatures-only", false, "")
	asJSON := false
	flags.Func("output", "", func(s string) error {
		if asJSON = s == "json"; !asJSON && s != "text" {
			return fmt.Errorf("%q is neither text nor json", s)
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return ExitVerified
		}
		return ExitUsage
	}
	s := &session{out: stdout, report: report{Links: []link{}}, now: now, setID: *setID, signatures: *signatures}
	if asJSON {
		s.out = io.Discard
	}
	flags.Visit(func(f *flag.Flag) { s.setIDGiven = s.setIDGiven || f.Name == "set-id" })
	if *trusting == 0 {
		*trusting = math.MaxInt64 / time.Millisecond * time.Millisecond
	}
	params := grandpa.Params{SlotDuration: *slot, TrustingPeriod: *trusting, MaxClockDrift: time.Minute}
	err := s.trust(*checkpoint, *authorities, *root, params)
	for _, link := range flags.Args() {
		if err != nil {
			break
		}
		err = s.link(link)
	}
	var b *broken
	code, n := ExitVerified, len(s.report.Links)
	s.report.OK, s.report.SignaturesOnly = err == nil, s.weak
	switch {
	case errors.As(err, &b):
		fmt.Fprintf(s.out, "stopped: %d %s verified, then one broke\n", n-1, plural(n-1, "link"))
		if errors.Is(err, grandpa.ErrNewCheckpoint) {
			s.report.Hint = "take a newer checkpoint from a source you trust; to look at old data all the same, --trusting-period 0"
			fmt.Fprintln(s.out, "hint: "+s.report.Hint)
		}
		code = ExitBroken
	case err != nil:
		s.report.Error = err.Error()
		if !asJSON {
			fmt.Fprintf(stderr, "phala verify substrate: %v\n", err)
		}
		code = ExitUsage
	case s.weak:
		fmt.Fprintf(s.out, "verified: %d %s; signatures only, so finality is NOT proven\n", n, plural(n, "link"))
	default:
		fmt.Fprintf(s.out, "verified: %d %s\n", n, plural(n, "link"))
	}
	if asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		e.Encode(s.report)
	}
	return code
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// ok reports a verified link.
func (s *session) ok(name, format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	s.report.Links = append(s.report.Links, link{name, true, detail})
	fmt.Fprintf(s.out, "ok     %-14s %s\n", name, detail)
}

// trust takes the flags' trust roots.
func (s *session) trust(checkpoint, authorities, root string, params grandpa.Params) error {
	if checkpoint == "" && authorities == "" && root == "" && !s.signatures {
		return errors.New("nothing to trust: give --checkpoint, --authorities, --root or --signatures-only (see --help)")
	}
	if checkpoint != "" {
		raw, err := readFile(checkpoint)
		if err != nil {
			return err
		}
		if s.checkpoint, err = grandpa.ParseCheckpoint(raw); err == nil {
			s.state, err = grandpa.NewState(s.checkpoint, params)
		}
		if err != nil {
			return s.breaks("checkpoint", err)
		}
		age := s.now.Sub(s.state.Time())
		note := ""
		if s.state.CheckTrust(s.now) != nil {
			note = ", older than the trusting period: it cannot be advanced"
		}
		s.ok("checkpoint", "%s %s, set %d of %d authorities (threshold %d), %s (%s old%s)", s.checkpoint.ChainID, s.state.Block,
			s.state.Set.ID(), s.state.Set.Len(), s.state.Set.Threshold(), s.state.Time().Format(time.RFC3339), age.Round(time.Second), note)
		s.follow("trusted block")
	}
	if authorities != "" {
		if !s.setIDGiven {
			return errors.New("--authorities needs --set-id")
		}
		list, err := readAuthorities(authorities)
		if err != nil {
			return err
		}
		if s.set, err = grandpa.NewAuthoritySet(s.setID, list); err != nil {
			return s.breaks("authorities", err)
		}
		s.ok("authorities", "set %d of %d authorities (threshold %d), as given", s.setID, s.set.Len(), s.set.Threshold())
	}
	if root != "" {
		b, err := parseHex("--root", root)
		if err != nil {
			return err
		}
		if len(b) != 32 {
			return fmt.Errorf("--root has %d bytes, expected 32", len(b))
		}
		s.root, s.rootFrom = (*grandpa.Hash)(b), "--root"
	}
	return nil
}

// follow makes the light client's block the one whose state is read.
func (s *session) follow(from string) {
	root := s.state.StateRoot
	s.root, s.rootFrom, s.view = &root, fmt.Sprintf("%s #%d", from, s.state.Block.Number), nil
}

func (s *session) breaks(name string, err error) error {
	s.report.Links = append(s.report.Links, link{name, false, err.Error()})
	fmt.Fprintf(s.out, "BREAK  %-14s %v\n", name, err)
	return breaks(err)
}

// link checks one link. A failure to read or understand the argument is an error; a link that does not hold is a
// *broken.
func (s *session) link(arg string) error {
	kind, value, ok := strings.Cut(arg, "=")
	if !ok || value == "" {
		return fmt.Errorf("%q is not a link: expected KIND=VALUE (see --help)", arg)
	}
	switch kind {
	case "read":
		return s.read(value)
	case "para":
		return s.para(value)
	}
	check, known := map[string]func([]byte) error{
		"update": s.update, "headers": s.addHeaders, "justification": s.justification, "finality": s.finality,
		"commit": s.commit, "warp": s.warp, "state": s.proof,
	}[kind]
	if !known {
		return fmt.Errorf("no link of kind %q (see --help)", kind)
	}
	raw, err := readFile(value)
	if err != nil {
		return err
	}
	if err := check(raw); err != nil {
		var misuse *misuse
		var b *broken
		if errors.As(err, &misuse) || errors.As(err, &b) { // b: a read that the file asked for, reported already
			return err
		}
		return s.breaks(kind, err)
	}
	return nil
}

// A misuse is a link that cannot be checked as things are: not the proof's fault.
type misuse struct{ what string }

func (m *misuse) Error() string { return m.what }

func misused(format string, args ...any) error { return &misuse{fmt.Sprintf(format, args...)} }
