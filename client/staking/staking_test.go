package staking_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/client/staking"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/snapshot"
)

// msg writes a protobuf message as the node does: pairs of a field's number and its value,
// a number, a text, bytes or another message.
func msg(pairs ...any) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		n := protowire.Number(pairs[i].(int))
		switch v := pairs[i+1].(type) {
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
		}
	}
	return b
}

// node answers by method and request.
type node map[string][]byte

func (n node) Query(_ context.Context, method string, request []byte) ([]byte, error) {
	name, _ := strings.CutPrefix(method, "/phala.npos.v1.Query/")
	b, ok := n[fmt.Sprintf("%s %x", name, request)]
	if !ok {
		return nil, fmt.Errorf("no answer to %s %x", name, request)
	}
	return b, nil
}

// network has three validators, of which "c" is not elected and "b" chilled, and two
// nominators; the voters come in two pages.
func network() node {
	validator := func(name string, elected, candidate int, own, total string, backers int) []byte {
		return msg(1, name, 2, []byte{1, 2}, 3, 50_000_000, 4, elected, 6, candidate, 7, own, 8, own, 9, total, 10, backers, 11, 7, 12, 2, 13, 1, 99, "newer")
	}
	return node{
		"Params ":               msg(1, `{"seats":2,"balancing_iterations":10,"history_eras":84,"max_electing_voters":22500,"session_blocks":5}`),
		"Era ":                  msg(1, 3, 2, 3, 3, 1000, 4, 1_800_000_000_000, 5, 1500, 6, 2, 7, "340", 11, 14, 12, "election", 13, 5, 14, 9, 15, 2, 16, 2, 17, "400"),
		"Era 0802":              msg(1, 2, 2, 3, 8, "12", 9, "3", 10, "4"),
		"Validators ":           msg(1, 3, 2, validator("a", 1, 1, "100", "180", 2), 2, validator("b", 1, 0, "100", "160", 1), 2, validator("c", 0, 1, "50", "0", 0)),
		"Exposure 120161":       msg(1, "100", 2, "180", 3, 2, 4, msg(1, "m", 2, "50")),
		"Exposure 1201611801":   msg(1, "100", 2, "180", 3, 2, 4, msg(1, "n", 2, "30")),
		"Exposure 120162":       msg(1, "100", 2, "160", 3, 1, 4, msg(1, "n", 2, "60")),
		"Voters 10e807":         msg(1, msg(1, "a", 2, "100", 3, "a"), 1, msg(1, "c", 2, "50", 3, "c"), 2, []byte{0, 'c'}),
		"Voters 0a02006310e807": msg(2, []byte{1, 1}), // a page of whom nobody votes
		"Voters 0a02010110e807": msg(1, msg(1, "n", 2, "95", 3, "a", 3, "c"), 1, msg(1, "o", 2, "5", 3, "c")),
		"Staker 0a016e":         msg(1, "n", 2, "90", 3, msg(1, "5", 2, 9), 4, "nominator", 5, "a", 5, "b", 7, msg(1, "a", 2, "30"), 8, 1),
	}
}

func TestReads(t *testing.T) {
	c := &staking.Client{Node: network()}
	e, err := c.Era(t.Context(), 0)
	if err != nil || e.Era != 3 || e.Staked != npos.U64(340) || e.Phase != "election" || e.Done != 5 || e.TotalBonded != npos.U64(400) {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err = c.Era(t.Context(), 2); err != nil || e.Issued != npos.U64(12) || e.Active != 3 {
		t.Errorf("%+v, %v", e, err)
	}
	list, err := c.Validators(t.Context(), 0)
	if err != nil || len(list) != 3 || list[0].Total != npos.U64(180) || !list[1].Elected || list[1].Candidate || list[2].Elected || list[0].PaidPages != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	x, err := c.Exposure(t.Context(), 0, "a")
	if err != nil || fmt.Sprint(x) != "[{a 100} {m 50} {n 30}]" {
		t.Errorf("%v, %v", x, err)
	}
	s, err := c.Staker(t.Context(), "n")
	if err != nil || s.Bonded != npos.U64(90) || len(s.Unbonding) != 1 || s.Unbonding[0].Era != 9 || fmt.Sprint(s.Targets) != "[a b]" || s.Slashes != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestElection(t *testing.T) {
	c := &staking.Client{Node: network()}
	var heard []int
	s, rounds, err := c.Election(t.Context(), func(n int) { heard = append(heard, n) })
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(s.Candidates) != "[a c]" || s.Seats != 2 || rounds != 10 || len(s.Voters) != 4 || s.Voters[2].ID != "n" || fmt.Sprint(s.Voters[2].Approvals) != "[a c]" || fmt.Sprint(heard) != "[2 2 4]" {
		t.Errorf("%+v, %d rounds, heard %v", s, rounds, heard)
	}
	if _, err := s.Instance(); err != nil {
		t.Error(err)
	}
}

// No more nominators vote than may.
func TestElectionOfTheLargest(t *testing.T) {
	for most, want := range map[int]int{0: 2, 1: 3, 2: 4, 3: 4} {
		n := network()
		n["Params "] = msg(1, fmt.Sprintf(`{"seats":2,"balancing_iterations":10,"history_eras":84,"max_electing_voters":%d}`, most))
		c := &staking.Client{Node: n}
		if s, _, err := c.Election(t.Context(), nil); err != nil || len(s.Voters) != want {
			t.Errorf("of %d nominators: %+v, %v", most, s, err)
		}
	}
}

// The set of the active era is one that an election could have: every stake in one place,
// and the chilled validator among the candidates.
func TestSet(t *testing.T) {
	c := &staking.Client{Node: network()}
	s, err := c.Set(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Instance()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Result(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Winners) != 2 || s.Candidates[r.Winners[0].Candidate] != "a" || r.Score().SumStake != npos.U64(340) || s.Seats != 2 {
		t.Errorf("%+v of %v", r.Winners, s.Candidates)
	}
	for _, v := range s.Voters {
		want := map[string]uint64{"a": 100, "b": 100, "m": 50, "n": 90, "c": 50, "o": 5}[v.ID]
		if v.Stake != npos.U64(want) {
			t.Errorf("%s has %v, want %d", v.ID, v.Stake, want)
		}
	}
	if b, err := s.Marshal(); err != nil {
		t.Error(err)
	} else if _, err := snapshot.Parse(b); err != nil {
		t.Error(err)
	}
}

func TestHostileNode(t *testing.T) {
	for _, c := range []struct {
		name, query string
		answer      []byte
		call        func(c *staking.Client) error
	}{
		{"cut off", "Era ", []byte{0x0a, 5, 1}, func(c *staking.Client) error { _, err := c.Era(t.Context(), 0); return err }},
		{"no tag", "Era ", []byte{0xff}, func(c *staking.Client) error { _, err := c.Era(t.Context(), 0); return err }},
		{"an amount that is none", "Era ", msg(7, "-1"), func(c *staking.Client) error { _, err := c.Era(t.Context(), 0); return err }},
		{"an amount too large", "Validators ", msg(2, msg(9, strings.Repeat("9", 40))), func(c *staking.Client) error { _, err := c.Validators(t.Context(), 0); return err }},
		{"parameters that are none", "Params ", msg(1, "{"), func(c *staking.Client) error { _, err := c.Params(t.Context()); return err }},
		{"an exposure without end", "Exposure 120161", msg(3, 1<<30), func(c *staking.Client) error { _, err := c.Exposure(t.Context(), 0, "a"); return err }},
		{"voters without end", "Voters 10e807", msg(2, []byte{1}), func(c *staking.Client) error { _, err := c.Voters(t.Context(), 1000, nil); return err }},
		{"a staker's list that is none", "Staker 0a016e", msg(7, []byte{0xff}), func(c *staking.Client) error { _, err := c.Staker(t.Context(), "n"); return err }},
	} {
		n := endless{network(), c.query, c.answer}
		n.node[c.query] = c.answer
		if err := c.call(&staking.Client{Node: n}); !errors.Is(err, staking.ErrAnswer) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := (&staking.Client{Node: node{}}).Params(t.Context()); err == nil {
		t.Error("no answer is not an error")
	}
}

// endless answers one method always the same, whatever page is asked for.
type endless struct {
	node
	query  string
	answer []byte
}

func (e endless) Query(ctx context.Context, method string, request []byte) ([]byte, error) {
	if name, _, _ := strings.Cut(e.query, " "); strings.HasSuffix(method, "/"+name) {
		return e.answer, nil
	}
	return e.node.Query(ctx, method, request)
}

func FuzzAnswers(f *testing.F) {
	for _, b := range network() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, query := range []string{"Era ", "Validators ", "Staker ", "Params "} {
			c := &staking.Client{Node: endless{node{}, query, b}}
			c.Era(t.Context(), 0)
			c.Validators(t.Context(), 0)
			c.Staker(t.Context(), "")
			c.Params(t.Context())
		}
	})
}
