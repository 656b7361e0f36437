package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/report"
	"github.com/phala-go/phala/npos/snapshot"
)

// balancing is how often a dry run of a file balances: as often as Polkadot does.
const balancing = 20

func runElection(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala election dry-run|report [FILE]", `dry-run elects the validators now: the set, the support of each and why it has its seat, how proportional
the set is, what an attack on it would cost. report judges in the same way the set that there is. Both of the
network, as its node says, or of FILE: a snapshot of an election, plain or gzip, this program's own or the result
of Substrate's offline-election tools.`)
	seats := f.Int("seats", 0, "validators to elect; as many as the file says without it")
	iterations := f.Int("balance", -1, "rounds of balancing after the election; as the chain does, for a file 20, without it")
	explain := f.String("explain", "", "show this candidate's backers and what each of them gives, instead of all")
	svg := f.String("svg", "", "file to draw the support of each validator into")
	save := f.String("save", "", "file to write the election and its result into, for others to check")
	pos, err := need(f, args, 1, 2)
	if err != nil {
		return ignoreHelp(err)
	}
	if pos[0] != "dry-run" && pos[0] != "report" || *seats < 0 || *iterations < -1 {
		return misused(f, "phala election dry-run or report, and numbers of seats and rounds that are not negative")
	}
	e := &election{steps: steps{w: a.err}}
	where := "the network"
	if len(pos) == 2 {
		where = pos[1]
		e.snap, err = e.read(where)
	} else {
		e.snap, err = e.ask(ctx, a, pos[0], iterations)
	}
	if err != nil {
		return err
	}
	if *iterations < 0 {
		*iterations = balancing
	}
	if *seats > 0 {
		e.snap.Seats = *seats
	}
	if pos[0] == "dry-run" {
		err = e.elect(ctx, *iterations)
	} else {
		err = e.judge()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if err := e.write(*svg, *save); err != nil {
		return err
	}
	if *explain != "" {
		return e.explain(a, *explain)
	}
	return e.print(a)
}

// An election is a snapshot, its result and what is to be said about it.
type election struct {
	snap   *snapshot.Snapshot
	in     *npos.Instance
	result *npos.Result
	report *report.Report
	// published is how the elected set compares with one of the same size that the
	// file holds.
	published *comparison
	steps     steps
}

// A comparison is of two results for one instance.
type comparison struct {
	Score     npos.Score `json:"score"`
	SameSeats int        `json:"same_seats"` // validators in both
	Verdict   string     `json:"verdict"`    // "better", "equal" or "worse" is the new one
}

// steps tells what is being done, and remembers how long each step took.
type steps struct {
	w     io.Writer
	names []string
	took  []time.Duration
}

func (s *steps) do(name, what string, f func() error) error {
	fmt.Fprintf(s.w, "%s … ", what)
	began := time.Now()
	err := f()
	took := time.Since(began)
	s.names, s.took = append(s.names, name), append(s.took, took)
	if err != nil {
		fmt.Fprintln(s.w, "failed")
		return err
	}
	fmt.Fprintf(s.w, "%.2f s\n", took.Seconds())
	return nil
}

// read reads a snapshot from a file. A bomb of gzip ends at the size that Parse takes.
func (e *election) read(path string) (s *snapshot.Snapshot, err error) {
	err = e.steps.do("read", "reading "+path, func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasSuffix(path, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		data, err := io.ReadAll(io.LimitReader(r, snapshot.MaxBytes+1))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if s, err = snapshot.Parse(data); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	return s, err
}

// ask reads from the network: the input of an election, or the set that there is.
func (e *election) ask(ctx context.Context, a *app, what string, iterations *int) (s *snapshot.Snapshot, err error) {
	c, err := a.readStaking()
	if err != nil {
		return nil, err
	}
	err = e.steps.do("read", "asking the network", func() error {
		progress := func(n int) { fmt.Fprintf(e.steps.w, "%d voters … ", n) }
		if what == "report" {
			s, err = c.Set(ctx, progress)
			return err
		}
		var rounds int
		if s, rounds, err = c.Election(ctx, progress); err == nil && *iterations < 0 {
			*iterations = rounds
		}
		return err
	})
	return s, err
}

// elect runs the election, and compares with the result that the file holds.
func (e *election) elect(ctx context.Context, iterations int) (err error) {
	if e.in, err = e.snap.Instance(); err != nil {
		return err
	}
	if err = ctx.Err(); err != nil {
		return err
	}
	what := fmt.Sprintf("electing %d of %d candidates by %d voters with %d approvals", e.snap.Seats, e.in.Candidates(), e.in.Voters(), e.in.Edges())
	err = e.steps.do("elect", what, func() error {
		e.result, err = npos.SeqPhragmen(e.in, e.snap.Seats, npos.Balancing{Iterations: iterations})
		return err
	})
	if err != nil {
		return err
	}
	old, err := e.snap.Result(e.in)
	switch {
	case errors.Is(err, snapshot.CodeNoResult):
	case err != nil:
		return err
	case len(old.Winners) == len(e.result.Winners):
		c := comparison{Score: old.Score(), Verdict: [...]string{"worse", "equal", "better"}[1+e.result.Score().Compare(old.Score())]}
		held := map[uint32]bool{}
		for _, w := range old.Winners {
			held[w.Candidate] = true
		}
		for _, w := range e.result.Winners {
			if held[w.Candidate] {
				c.SameSeats++
			}
		}
		e.published = &c
	}
	e.snap.SetResult(e.result)
	return e.measure()
}

// judge takes the result that the snapshot holds.
func (e *election) judge() (err error) {
	if e.in, err = e.snap.Instance(); err != nil {
		return err
	}
	if e.result, err = e.snap.Result(e.in); errors.Is(err, snapshot.CodeNoResult) {
		return fmt.Errorf("%w: phala election dry-run elects one", err)
	} else if err != nil {
		return err
	}
	return e.measure()
}

func (e *election) measure() error {
	return e.steps.do("report", "measuring the set", func() (err error) {
		e.report, err = report.New(e.in, e.result)
		return err
	})
}

func (e *election) unit() report.Unit {
	return report.Unit{Symbol: e.snap.Symbol, Decimals: e.snap.Decimals}
}

func (e *election) names() report.Names {
	return report.Names{
		Candidate: func(c uint32) string { return e.snap.Candidates[c] },
		Voter:     func(v uint32) string { return e.snap.Voters[v].ID },
	}
}

// write puts the drawing and the snapshot where they were asked for.
func (e *election) write(svg, save string) error {
	if svg != "" {
		if err := os.WriteFile(svg, e.report.SVG(e.unit(), e.names()), 0o644); err != nil {
			return err
		}
	}
	if save == "" {
		return nil
	}
	b, err := e.snap.Marshal()
	if err != nil {
		return err
	}
	return os.WriteFile(save, append(b, '\n'), 0o644)
}

// A namedValidator is a line of the report with the names that numbers stand for.
type namedValidator struct {
	ID string `json:"id"`
	report.Validator
	LargestBacker snapshot.Backer `json:"largest_backer"`
}

type namedCandidate struct {
	ID string `json:"id"`
	report.Unelected
}

func (e *election) print(a *app) error {
	v := struct {
		Symbol   string `json:"symbol"`
		Decimals int    `json:"decimals"`
		Partial  bool   `json:"partial,omitempty"`
		*report.Report
		Validators []namedValidator   `json:"validators"`
		Unelected  []namedCandidate   `json:"unelected"`
		Published  *comparison        `json:"published,omitempty"`
		Seconds    map[string]float64 `json:"seconds"`
	}{Symbol: e.snap.Symbol, Decimals: e.snap.Decimals, Partial: e.snap.Partial, Report: e.report, Published: e.published,
		Validators: []namedValidator{}, Unelected: []namedCandidate{}, Seconds: map[string]float64{}}
	for i, s := range e.steps.names {
		v.Seconds[s] = e.steps.took[i].Seconds()
	}
	for _, w := range e.report.Validators {
		n := namedValidator{ID: e.snap.Candidates[w.Candidate], Validator: w}
		if w.Backers > 0 {
			n.LargestBacker = snapshot.Backer{Voter: e.snap.Voters[w.LargestBacker.Voter].ID, Stake: w.LargestBacker.Stake}
		}
		v.Validators = append(v.Validators, n)
	}
	for _, c := range e.report.Unelected {
		v.Unelected = append(v.Unelected, namedCandidate{e.snap.Candidates[c.Candidate], c})
	}
	var text bytes.Buffer
	if err := e.report.WriteText(&text, e.unit(), e.names()); err != nil {
		return err
	}
	return a.print(v, func(w io.Writer) {
		if e.snap.Partial {
			fmt.Fprintln(w, "note              the file tells only which winners a voter backs, not all it approves of:")
			fmt.Fprintln(w, "                  with the same number of seats nobody else can be elected")
		}
		if p := e.published; p != nil {
			fmt.Fprintf(w, "against the file  %s score; %d validators in both; the file's smallest support %s\n", p.Verdict, p.SameSeats, e.unit().Format(p.Score.MinimalStake, 2))
		}
		for i, s := range e.steps.names {
			fmt.Fprintf(w, "time to %-9s %.3f s\n", s, e.steps.took[i].Seconds())
		}
		w.Write(text.Bytes())
	})
}

// explain shows where one candidate's support comes from.
func (e *election) explain(a *app, id string) error {
	type backer struct {
		snapshot.Backer
		Has   npos.U128 `json:"has"`    // the voter's whole stake
		Backs int       `json:"backs"`  // elected candidates that it gives to
		Of    int       `json:"of"`     // candidates that it approves of
		Last  string    `json:"latest"` // its latest candidate to be elected, whose round set its load
	}
	number := -1
	for i, c := range e.snap.Candidates {
		if c == id {
			number = i
		}
	}
	if number < 0 {
		return fmt.Errorf("no candidate %q among the %d", id, len(e.snap.Candidates))
	}
	edges, round := map[uint32][]npos.Edge{}, map[uint32]int{}
	for _, as := range e.result.Assignments {
		edges[as.Voter] = as.Edges
	}
	for i, w := range e.result.Winners {
		round[w.Candidate] = i + 1
	}
	v := struct {
		ID       string            `json:"id"`
		Elected  bool              `json:"elected"`
		Seat     *report.Validator `json:"seat,omitempty"`
		NoSeat   *report.Unelected `json:"no_seat,omitempty"`
		LastSeat npos.U128         `json:"last_seat_elected_with"`
		Voters   []backer          `json:"voters"`
	}{ID: id, Voters: []backer{}}
	for i, w := range e.report.Validators {
		if int(w.Candidate) == number {
			v.Elected, v.Seat = true, &e.report.Validators[i]
		}
		v.LastSeat = w.ElectedWith
	}
	for i, c := range e.report.Unelected {
		if int(c.Candidate) == number {
			v.NoSeat = &e.report.Unelected[i]
		}
	}
	for n := range e.in.Voters() {
		approves := e.in.Approvals(n)
		b := backer{Backer: snapshot.Backer{Voter: e.snap.Voters[n].ID}, Has: e.in.Stake(n), Backs: len(edges[uint32(n)]), Of: len(approves)}
		mine, latest := false, 0
		for _, c := range approves {
			mine = mine || int(c) == number
			if r := round[c]; r > latest {
				latest, b.Last = r, e.snap.Candidates[c]
			}
		}
		if !mine {
			continue
		}
		for _, edge := range edges[uint32(n)] {
			if int(edge.Candidate) == number {
				b.Stake = edge.Weight
			}
		}
		v.Voters = append(v.Voters, b)
	}
	u := e.unit()
	return a.print(v, func(w io.Writer) {
		switch {
		case v.Elected && v.Seat.ElectedWith.IsZero():
			fmt.Fprintf(w, "%s has seat %d with a support of %s.\n", id, v.Seat.Round+1, u.Format(v.Seat.Support, 2))
		case v.Elected:
			fmt.Fprintf(w, "%s is elected in round %d: its voters could give %s for the seat, more than any other candidate's then.\nIts support after balancing is %s.\n",
				id, v.Seat.Round+1, u.Format(v.Seat.ElectedWith, 2), u.Format(v.Seat.Support, 2))
		default:
			fmt.Fprintf(w, "%s is not elected: beside what they give to others, its voters could offer %s for a seat; the last seat went for %s.\n",
				id, u.Format(v.NoSeat.Offer, 2), u.Format(v.LastSeat, 2))
		}
		fmt.Fprintf(w, "%d voters approve of it:\n", len(v.Voters))
		for _, b := range v.Voters {
			fmt.Fprintf(w, "  %s gives %s of its %s; it backs %d of the %d it approves of\n", b.Voter, u.Format(b.Stake, 2), u.Format(b.Has, 2), b.Backs, b.Of)
		}
	})
}
