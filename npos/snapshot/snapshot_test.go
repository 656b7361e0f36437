package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/snapshot"
)

const native = `{"phala_election":1,"symbol":"PHA","decimals":12,"seats":1,"candidates":["alice","carol"],"voters":[{"id":"bob","stake":"5","approvals":["alice","carol"]},{"id":"dan","stake":"6","approvals":[]}],"supports":[{"candidate":"alice","backers":[{"voter":"bob","stake":"5"}]}]}`

const offline = `{"supports":{"A":{"total":7,"voters":[["v",3],["A",4]]},"B":{"total":2,"voters":[["v",2]]}},"winners":["B","A"]}`

const simulation = `{"run_parameters":{"algorithm":"SeqPhragmen","iterations":20,"reduce":true,"max_nominations":16,"min_nominator_bond":0,"min_validator_bond":0,"desired_validators":1},` +
	`"staking_stats":{"total_staked":"3.5 DOT","lowest_staked":"3.5 DOT","avg_staked":"3.5 DOT"},` +
	`"active_validators":[{"stash":"S","self_stake":"1 DOT","total_stake":"3.5 DOT","commission":0.05,"blocked":false,"nominations_count":1,"nominations":[{"nominator":"n","stake":"2.5000000001 DOT"}]}]}`

func ExampleParse() {
	s, err := snapshot.Parse([]byte(native))
	if err != nil {
		fmt.Println(err)
		return
	}
	in, err := s.Instance()
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := npos.SeqPhragmen(in, s.Seats, npos.Balancing{Iterations: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Candidates[r.Winners[0].Candidate], "with", r.Winners[0].Backing)
	// Output: alice with 5
}

func TestNativeRoundTrip(t *testing.T) {
	s, err := snapshot.Parse([]byte(native))
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Marshal()
	if err != nil || string(out) != native {
		t.Errorf("%s, %v", out, err)
	}
	spaced := strings.ReplaceAll(native, ",", " ,\n")
	if _, err := snapshot.Parse([]byte(spaced)); err != nil {
		t.Errorf("white space: %v", err)
	}
	in, err := s.Instance()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Result(in)
	if err != nil || len(r.Winners) != 1 || r.Winners[0].Backing != npos.U64(5) {
		t.Fatalf("%+v, %v", r, err)
	}
	s.SetResult(r)
	if out, err := s.Marshal(); err != nil || string(out) != native {
		t.Errorf("with its own result set: %s, %v", out, err)
	}
	s.Supports = nil
	if _, err := s.Result(in); !errors.Is(err, snapshot.CodeNoResult) {
		t.Errorf("without supports: %v", err)
	}
	if out, err := new(snapshot.Snapshot).Marshal(); err != nil || !bytes.Contains(out, []byte(`"candidates":[],"voters":[]`)) {
		t.Errorf("empty: %s, %v", out, err)
	}
}

func TestForeignFormats(t *testing.T) {
	s, err := snapshot.Parse([]byte(offline))
	if err != nil {
		t.Fatal(err)
	}
	if s.Symbol != "KSM" || s.Decimals != 12 || s.Seats != 2 || !s.Partial || strings.Join(s.Candidates, "") != "BA" ||
		s.Voters[0].ID != "v" || s.Voters[0].Stake != npos.U64(5) || strings.Join(s.Voters[0].Approvals, "") != "BA" {
		t.Errorf("%+v", s)
	}
	if s, err = snapshot.Parse([]byte(simulation)); err != nil {
		t.Fatal(err)
	}
	if s.Symbol != "DOT" || s.Decimals != 10 || s.Seats != 1 || len(s.Voters) != 2 ||
		s.Voters[0].Stake != npos.U64(1e10) || s.Voters[1].Stake != npos.U64(25_000_000_001) {
		t.Errorf("%+v", s)
	}
	in, err := s.Instance()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Result(in); err != nil || r.Winners[0].Backing != npos.U64(35_000_000_001) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRefusals(t *testing.T) {
	in := func(text, old, with string) string {
		t.Helper()
		if !strings.Contains(text, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(text, old, with, 1)
	}
	for _, c := range []struct {
		name, text string
		want       snapshot.Code
	}{
		{"nothing", "", snapshot.CodeSyntax},
		{"no object", "[]", snapshot.CodeSyntax},
		{"trailing data", native + "{}", snapshot.CodeSyntax},
		{"another format", `{"blocks":[]}`, snapshot.CodeFormat},
		{"later version", in(native, `election":1`, `election":2`), snapshot.CodeFormat},
		{"unknown field", in(native, `"seats"`, `"x":1,"seats"`), snapshot.CodeSyntax},
		{"amount as number", in(native, `"stake":"5"`, `"stake":5`), snapshot.CodeSyntax},
		{"negative amount", in(native, `"stake":"5"`, `"stake":"-5"`), snapshot.CodeSyntax},
		{"field twice", in(native, `"seats":1`, `"seats":1,"seats":1`), snapshot.CodeNotCanonical},
		{"letter case", in(native, `"seats"`, `"Seats"`), snapshot.CodeNotCanonical},
		{"order", in(native, `"symbol":"PHA","decimals":12`, `"decimals":12,"symbol":"PHA"`), snapshot.CodeNotCanonical},
		{"negative seats", in(native, `"seats":1`, `"seats":-1`), snapshot.CodeInconsistent},
		{"decimals", in(native, `"decimals":12`, `"decimals":31`), snapshot.CodeInconsistent},
		{"winner without support", in(offline, `["B","A"]`, `["B","C"]`), snapshot.CodeInconsistent},
		{"winner twice", in(offline, `["B","A"]`, `["B","B"]`), snapshot.CodeInconsistent},
		{"fewer winners", in(offline, `["B","A"]`, `["B"]`), snapshot.CodeInconsistent},
		{"support twice", in(offline, `"B":{`, `"A":{`), snapshot.CodeSyntax},
		{"wrong total", in(offline, `7`, `8`), snapshot.CodeInconsistent},
		{"backer twice", in(offline, `["A",4]`, `["v",4]`), snapshot.CodeInconsistent},
		{"voter of three", in(offline, `["A",4]`, `["A",4,1]`), snapshot.CodeSyntax},
		{"voter by number", in(offline, `["A",4]`, `[1,4]`), snapshot.CodeSyntax},
		{"fraction of a unit", in(offline, `4]`, `4.0]`), snapshot.CodeSyntax},
		{"supports as list", in(offline, `{"A":{"total":7,"voters":[["v",3],["A",4]]},"B":{"total":2,"voters":[["v",2]]}}`, `[]`), snapshot.CodeSyntax},
		{"unknown unit", in(simulation, `"1 DOT"`, `"1 BTC"`), snapshot.CodeAmount},
		{"mixed units", in(simulation, `"1 DOT"`, `"1 KSM"`), snapshot.CodeAmount},
		{"no unit", in(simulation, `"1 DOT"`, `"1"`), snapshot.CodeAmount},
		{"too fine", in(simulation, `"1 DOT"`, `"1.00000000001 DOT"`), snapshot.CodeAmount},
		{"open fraction", in(simulation, `"1 DOT"`, `"1. DOT"`), snapshot.CodeAmount},
		{"not a number", in(simulation, `"1 DOT"`, `"one DOT"`), snapshot.CodeAmount},
		{"leading zero", in(simulation, `"1 DOT"`, `"01 DOT"`), snapshot.CodeAmount},
		{"nominations miscounted", in(simulation, `count":1`, `count":2`), snapshot.CodeInconsistent},
		{"total off", in(simulation, `"total_stake":"3.5 DOT"`, `"total_stake":"3.6 DOT"`), snapshot.CodeInconsistent},
		{"self twice", in(simulation, `"nominator":"n"`, `"nominator":"S"`), snapshot.CodeInconsistent},
		{"validator twice", in(simulation, `}]}]}`, `}]},{"stash":"S","self_stake":"0 DOT","total_stake":"0 DOT","commission":0,"blocked":false,"nominations_count":0,"nominations":[]}]}`), snapshot.CodeInconsistent},
	} {
		if _, err := snapshot.Parse([]byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := snapshot.Parse(make([]byte, snapshot.MaxBytes+1)); !errors.Is(err, snapshot.CodeTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for _, c := range []struct{ old, with string }{
		{`"candidate":"alice"`, `"candidate":"zoe"`}, {`"voter":"bob"`, `"voter":"zoe"`},
	} {
		s, err := snapshot.Parse([]byte(in(native, c.old, c.with)))
		if err != nil {
			t.Fatal(err)
		}
		instance, err := s.Instance()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Result(instance); !errors.Is(err, snapshot.CodeInconsistent) {
			t.Errorf("with %s: %v", c.with, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{native, offline, simulation, "{}", `{"winners":[],"supports":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := snapshot.Parse(data)
		if err != nil {
			return
		}
		out, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := snapshot.Parse(out)
		if err != nil {
			t.Fatalf("%v from its own form %s", err, out)
		}
		if second, err := again.Marshal(); err != nil || !bytes.Equal(out, second) {
			t.Fatalf("%s and %s, %v", out, second, err)
		}
		in, err := s.Instance()
		if err != nil || in.Candidates() > 50 {
			return
		}
		if r, err := s.Result(in); err == nil {
			npos.CheckStandardPJR(in, r)
		}
	})
}
