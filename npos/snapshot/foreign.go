package snapshot

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/phala-go/phala/npos"
)

// collector gathers voters from supports, in the order of their first appearance.
type collector struct {
	s  *Snapshot
	at map[string]int
}

func newCollector(s *Snapshot) *collector { return &collector{s, map[string]int{}} }

// back adds to the newest support and to the voter's stake and approvals.
func (c *collector) back(voter string, stake npos.U128) error {
	i, known := c.at[voter]
	if !known {
		i = len(c.s.Voters)
		c.at[voter] = i
		c.s.Voters = append(c.s.Voters, Voter{ID: voter})
	}
	sup := &c.s.Supports[len(c.s.Supports)-1]
	v := &c.s.Voters[i]
	if n := len(v.Approvals); n > 0 && v.Approvals[n-1] == sup.Candidate {
		return fail(CodeInconsistent, "%q backs %q twice", voter, sup.Candidate)
	}
	sum, ok := v.Stake.Add(stake)
	if !ok {
		return fail(CodeAmount, "the stakes of %q overflow", voter)
	}
	v.Stake = sum
	v.Approvals = append(v.Approvals, sup.Candidate)
	sup.Backers = append(sup.Backers, Backer{voter, stake})
	return nil
}

// plain is an amount written as a JSON integer.
type plain npos.U128

func (p *plain) UnmarshalJSON(b []byte) error {
	v, err := npos.ParseU128(string(b))
	if err != nil {
		return fail(CodeAmount, "%v", err)
	}
	*p = plain(v)
	return nil
}

// offlineSupports is an object read in the order of its keys; a repeated key is
// an error.
type offlineSupports map[string]offlineSupport

type offlineSupport struct {
	Total  plain         `json:"total"`
	Voters []offlinePair `json:"voters"`
}

type offlinePair struct {
	ID    string
	Stake plain
}

func (p *offlinePair) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) != 2 {
		return fail(CodeSyntax, "a voter of %d parts", len(parts))
	}
	if err := json.Unmarshal(parts[0], &p.ID); err != nil {
		return err
	}
	return json.Unmarshal(parts[1], &p.Stake)
}

func (m *offlineSupports) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return fail(CodeSyntax, "supports are not an object")
	}
	*m = offlineSupports{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name, ok := key.(string)
		if !ok {
			return fail(CodeSyntax, "a key that is not text")
		}
		if _, twice := (*m)[name]; twice {
			return fail(CodeInconsistent, "support of %q given twice", name)
		}
		var s offlineSupport
		if err := d.Decode(&s); err != nil {
			return err
		}
		(*m)[name] = s
	}
	return nil
}

// parseOffline reads Substrate's offline-election output of 2020.
func parseOffline(data []byte) (*Snapshot, error) {
	var file struct {
		Supports offlineSupports `json:"supports"`
		Winners  []string        `json:"winners"`
	}
	if err := strict(data, &file); err != nil {
		return nil, err
	}
	if len(file.Winners) != len(file.Supports) {
		return nil, fail(CodeInconsistent, "%d winners but %d supports", len(file.Winners), len(file.Supports))
	}
	s := &Snapshot{Version: Version, Symbol: "KSM", Decimals: 12, Seats: len(file.Winners), Partial: true}
	c := newCollector(s)
	for _, w := range file.Winners {
		sup, ok := file.Supports[w]
		if !ok {
			return nil, fail(CodeInconsistent, "winner %q has no support or is listed twice", w)
		}
		delete(file.Supports, w)
		s.Candidates = append(s.Candidates, w)
		s.Supports = append(s.Supports, Support{Candidate: w})
		var sum npos.U128
		for _, v := range sup.Voters {
			sum = sum.SaturatingAdd(npos.U128(v.Stake))
			if err := c.back(v.ID, npos.U128(v.Stake)); err != nil {
				return nil, err
			}
		}
		if sum != npos.U128(sup.Total) {
			return nil, fail(CodeInconsistent, "support of %q is %v in total but %v in parts", w, npos.U128(sup.Total), sum)
		}
	}
	return s, nil
}

// units are the tokens that a simulation may be in, with their decimals.
var units = map[string]int{"DOT": 10, "KSM": 12, "WND": 12, "PHA": 12}

// floatError is how far a total of the offline-election-tool may be from the sum
// of its parts, in units: a float64 of up to 10^18 units is off by 64 at most.
var floatError = npos.U64(100)

// parseSimulation reads a simulation of the offline-election-tool.
func parseSimulation(data []byte) (*Snapshot, error) {
	var file struct {
		RunParameters struct {
			Algorithm         string `json:"algorithm"`
			Iterations        int    `json:"iterations"`
			Reduce            bool   `json:"reduce"`
			MaxNominations    int    `json:"max_nominations"`
			MinNominatorBond  plain  `json:"min_nominator_bond"`
			MinValidatorBond  plain  `json:"min_validator_bond"`
			DesiredValidators int    `json:"desired_validators"`
		} `json:"run_parameters"`
		StakingStats struct {
			Total  string `json:"total_staked"`
			Lowest string `json:"lowest_staked"`
			Avg    string `json:"avg_staked"`
		} `json:"staking_stats"`
		Validators []struct {
			Stash      string      `json:"stash"`
			Self       string      `json:"self_stake"`
			Total      string      `json:"total_stake"`
			Commission json.Number `json:"commission"` // not used here
			Blocked    bool        `json:"blocked"`
			Count      int         `json:"nominations_count"`
			Nominators []struct {
				Nominator string `json:"nominator"`
				Stake     string `json:"stake"`
			} `json:"nominations"`
		} `json:"active_validators"`
	}
	if err := strict(data, &file); err != nil {
		return nil, err
	}
	s := &Snapshot{Version: Version, Seats: file.RunParameters.DesiredValidators, Partial: true}
	c := newCollector(s)
	seen := map[string]bool{}
	for _, v := range file.Validators {
		if seen[v.Stash] {
			return nil, fail(CodeInconsistent, "validator %q listed twice", v.Stash)
		}
		seen[v.Stash] = true
		if v.Count != len(v.Nominators) {
			return nil, fail(CodeInconsistent, "validator %q counts %d nominations, lists %d", v.Stash, v.Count, len(v.Nominators))
		}
		s.Candidates = append(s.Candidates, v.Stash)
		s.Supports = append(s.Supports, Support{Candidate: v.Stash})
		total, err := s.tokens(v.Total)
		if err != nil {
			return nil, err
		}
		self, err := s.tokens(v.Self)
		if err != nil {
			return nil, err
		}
		sum := self
		if !self.IsZero() {
			if err := c.back(v.Stash, self); err != nil {
				return nil, err
			}
		}
		for _, n := range v.Nominators {
			stake, err := s.tokens(n.Stake)
			if err != nil {
				return nil, err
			}
			sum = sum.SaturatingAdd(stake)
			if err := c.back(n.Nominator, stake); err != nil {
				return nil, err
			}
		}
		// The tool writes totals through a float, so the last digits are off.
		off := sum.SaturatingSub(total).SaturatingAdd(total.SaturatingSub(sum))
		if floatError.Less(off) {
			return nil, fail(CodeInconsistent, "validator %q has %s in total but %v units in parts", v.Stash, v.Total, sum)
		}
	}
	return s, nil
}

// tokens reads an amount like "262.89 DOT" exactly, and fixes or checks the unit.
func (s *Snapshot) tokens(text string) (npos.U128, error) {
	number, symbol, _ := strings.Cut(text, " ")
	decimals, known := units[symbol]
	if !known || s.Symbol != "" && s.Symbol != symbol {
		return npos.U128{}, fail(CodeAmount, "%.40q has an unknown or another unit", text)
	}
	s.Symbol, s.Decimals = symbol, decimals
	whole, fraction, dotted := strings.Cut(number, ".")
	if dotted && fraction == "" || whole == "" || len(fraction) > decimals || len(whole) > 39 || len(whole) > 1 && whole[0] == '0' {
		return npos.U128{}, fail(CodeAmount, "%.40q", text)
	}
	digits := strings.TrimLeft(whole+fraction+strings.Repeat("0", decimals-len(fraction)), "0")
	if digits == "" {
		digits = "0"
	}
	v, err := npos.ParseU128(digits)
	if err != nil {
		return v, fail(CodeAmount, "%.40q", text)
	}
	return v, nil
}
