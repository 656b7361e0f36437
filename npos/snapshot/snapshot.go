package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/phala-go/phala/npos"
)

// Code names one class of failure; test with errors.Is.
type Code string

// Error gives the code as text.
func (c Code) Error() string { return string(c) }

// The failure classes of this package.
const (
	// CodeTooLarge: the data exceed MaxBytes.
	CodeTooLarge Code = "snapshot: too large"
	// CodeSyntax: not JSON, or not of the fields and types the format has.
	CodeSyntax Code = "snapshot: malformed"
	// CodeFormat: JSON, but none of the formats that Parse knows.
	CodeFormat Code = "snapshot: unknown format"
	// CodeNotCanonical: the native format, but not as Marshal writes it.
	CodeNotCanonical Code = "snapshot: not in canonical form"
	// CodeAmount: an amount is not a non-negative number of the token's units.
	CodeAmount Code = "snapshot: bad amount"
	// CodeInconsistent: the data contradict themselves.
	CodeInconsistent Code = "snapshot: inconsistent"
	// CodeNoResult: the snapshot is an input only.
	CodeNoResult Code = "snapshot: holds no result"
)

// Error is a failure: its class and what happened to what.
type Error struct {
	Code   Code
	Detail string
}

// Error gives the class and the detail as one line.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Unwrap gives the code, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.Code }

func fail(code Code, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// MaxBytes bounds the JSON text of a snapshot.
const MaxBytes = 256 << 20

// Version is the version of the native format.
const Version = 1

// Snapshot is the input of an election by name, and its result where there is one.
// The JSON form of this type is the native format; amounts are decimal strings in
// the smallest unit.
type Snapshot struct {
	Version int `json:"phala_election"`
	// Symbol and Decimals say what an amount is: 10^Decimals units are one token.
	Symbol   string `json:"symbol"`
	Decimals int    `json:"decimals"`
	// Seats is the number of validators to elect.
	Seats int `json:"seats"`
	// Candidates and Voters are in the order that breaks ties.
	Candidates []string `json:"candidates"`
	Voters     []Voter  `json:"voters"`
	// Supports are the elected, in the order of their election; none means that
	// the snapshot is an input only.
	Supports []Support `json:"supports,omitempty"`
	// Partial is set for a file that tells only which winners a voter backs, not
	// all candidates it approves of: electing again from it cannot give others.
	Partial bool `json:"partial,omitempty"`
}

// Voter is a nominator, or a candidate with its self-stake.
type Voter struct {
	ID        string    `json:"id"`
	Stake     npos.U128 `json:"stake"`
	Approvals []string  `json:"approvals"`
}

// Support is one elected candidate with its backers.
type Support struct {
	Candidate string   `json:"candidate"`
	Backers   []Backer `json:"backers"`
}

// Backer is one voter's part of a support.
type Backer struct {
	Voter string    `json:"voter"`
	Stake npos.U128 `json:"stake"`
}

// Instance is the election's input by number: candidates and voters by their
// position in the snapshot. Errors are those of package npos.
func (s *Snapshot) Instance() (*npos.Instance, error) {
	ballots := make([]npos.Ballot[string], len(s.Voters))
	for i, v := range s.Voters {
		ballots[i] = npos.Ballot[string]{Voter: v.ID, Stake: v.Stake, Approvals: v.Approvals}
	}
	return npos.Setup(s.Candidates, ballots)
}

// Result is the snapshot's own result, checked against its instance.
func (s *Snapshot) Result(in *npos.Instance) (*npos.Result, error) {
	if len(s.Supports) == 0 {
		return nil, fail(CodeNoResult, "%d candidates, %d voters", len(s.Candidates), len(s.Voters))
	}
	candidate, voter := positions(s.Candidates), make(map[string]uint32, len(s.Voters))
	for i, v := range s.Voters {
		voter[v.ID] = uint32(i)
	}
	var winners []uint32
	lists := make([]npos.Assignment, len(s.Voters))
	for _, sup := range s.Supports {
		c, ok := candidate[sup.Candidate]
		if !ok {
			return nil, fail(CodeInconsistent, "%q is supported but no candidate", sup.Candidate)
		}
		winners = append(winners, c)
		for _, b := range sup.Backers {
			v, ok := voter[b.Voter]
			if !ok {
				return nil, fail(CodeInconsistent, "%q backs %q but is no voter", b.Voter, sup.Candidate)
			}
			if !b.Stake.IsZero() {
				lists[v].Voter = v
				lists[v].Edges = append(lists[v].Edges, npos.Edge{Candidate: c, Weight: b.Stake})
			}
		}
	}
	lists = slices.DeleteFunc(lists, func(a npos.Assignment) bool { return len(a.Edges) == 0 })
	return npos.NewResult(in, winners, lists)
}

func positions(names []string) map[string]uint32 {
	at := make(map[string]uint32, len(names))
	for i, n := range names {
		at[n] = uint32(i)
	}
	return at
}

// SetResult stores a result of the snapshot's instance in it.
func (s *Snapshot) SetResult(r *npos.Result) {
	s.Supports = nil
	for _, sup := range r.Supports() {
		out := Support{Candidate: s.Candidates[sup.Candidate], Backers: []Backer{}}
		for _, b := range sup.Backers {
			out.Backers = append(out.Backers, Backer{s.Voters[b.Voter].ID, b.Stake})
		}
		s.Supports = append(s.Supports, out)
	}
}

// Marshal writes the native format, in its one canonical form.
func (s *Snapshot) Marshal() ([]byte, error) {
	c := *s
	c.Version = Version
	if c.Candidates == nil {
		c.Candidates = []string{}
	}
	c.Voters = slices.Clone(c.Voters)
	if c.Voters == nil {
		c.Voters = []Voter{}
	}
	for i := range c.Voters {
		if c.Voters[i].Approvals == nil {
			c.Voters[i].Approvals = []string{}
		}
	}
	return json.Marshal(&c)
}

// Parse reads a snapshot. It knows the native format, the result files of
// Substrate's offline-election tool of 2020 (`{"supports": …, "winners": …}`,
// amounts taken as KSM units) and of the offline-election-tool of 2025
// (`{"active_validators": …}`, amounts with the unit DOT, KSM, WND or PHA). Unknown
// fields, trailing data and contradictions are refused.
func Parse(data []byte) (*Snapshot, error) {
	if len(data) > MaxBytes {
		return nil, fail(CodeTooLarge, "%d bytes; at most %d", len(data), MaxBytes)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fail(CodeSyntax, "%v", err)
	}
	for _, f := range []struct {
		key   string
		parse func([]byte) (*Snapshot, error)
	}{
		{"phala_election", parseNative}, {"active_validators", parseSimulation}, {"winners", parseOffline},
	} {
		if _, ok := keys[f.key]; ok {
			return f.parse(data)
		}
	}
	return nil, fail(CodeFormat, "none of the keys phala_election, active_validators, winners among %d", len(keys))
}

// strict decodes one value without unknown fields or trailing data.
func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fail(CodeSyntax, "%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fail(CodeSyntax, "data after the value")
	}
	return nil
}

func parseNative(data []byte) (*Snapshot, error) {
	s := new(Snapshot)
	if err := strict(data, s); err != nil {
		return nil, err
	}
	if s.Version != Version {
		return nil, fail(CodeFormat, "version %d of the native format; this is %d", s.Version, Version)
	}
	if s.Decimals < 0 || s.Decimals > 30 || s.Seats < 0 {
		return nil, fail(CodeInconsistent, "%d decimals, %d seats", s.Decimals, s.Seats)
	}
	// encoding/json takes repeated keys and fields in any order and letter case;
	// comparing with what Marshal writes leaves one form.
	var got bytes.Buffer
	if err := json.Compact(&got, data); err != nil {
		return nil, fail(CodeSyntax, "%v", err)
	}
	want, err := s.Marshal()
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		return nil, fail(CodeNotCanonical, "fields repeated, out of order or in another form")
	}
	return s, nil
}
