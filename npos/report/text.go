package report

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/phala-go/phala/npos"
)

// Names gives the names to show for candidates and voters by number. Either may be
// nil: then the numbers are shown.
type Names struct {
	Candidate func(uint32) string
	Voter     func(uint32) string
}

func name(of func(uint32) string, n uint32) string {
	if of == nil {
		return fmt.Sprintf("#%d", n)
	}
	return of(n)
}

// WriteText writes the report for a terminal: the measures, then a line for each
// validator, in the order of election, and for each candidate without a seat.
func (r *Report) WriteText(w io.Writer, u Unit, names Names) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	line("seats", "%d of %d candidates, %d voters, %d approvals", r.Seats, r.Candidates, r.Voters, r.Approvals)
	line("stake voting", "%s", u.Format(r.TotalStake, 2))
	line("smallest support", "%s (%s of the bound %s)", u.Format(r.Score.MinimalStake, 2), ofWhole(r.Score.MinimalStake, r.MaximinBound), u.Format(r.MaximinBound, 2))
	line("stake backing", "%s", u.Format(r.Score.SumStake, 2))
	line("sum of squares", "%v", r.Score.SumStakeSquared)
	line("PJR", "%s", r.pjr(u, names))
	for _, a := range r.Attacks {
		line(a.Part+" of the seats", "%d seats cost %s of new stake, %s of the present; %s stands behind the least backed %d now",
			a.Seats, u.Format(a.NewStake, 2), percent(a.OfTotal), u.Format(a.Incumbent, 2), a.Seats)
	}
	fmt.Fprintf(t, "\nround\tvalidator\telected with\tsupport\tof approved\tbackers\tlargest backer\n")
	for _, v := range r.Validators {
		largest := "-"
		if v.Backers > 0 {
			largest = fmt.Sprintf("%s %s", name(names.Voter, v.LargestBacker.Voter), u.Format(v.LargestBacker.Stake, 2))
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%s\n", v.Round+1, name(names.Candidate, v.Candidate), offer(v.ElectedWith, u), u.Format(v.Support, 2),
			ofWhole(v.Support, v.ApprovalStake), v.Backers, largest)
	}
	if len(r.Unelected) > 0 {
		fmt.Fprintf(t, "\n\tnot elected\tcould offer\tapproved by\n")
	}
	for _, c := range r.Unelected {
		fmt.Fprintf(t, "\t%s\t%s\t%s\n", name(names.Candidate, c.Candidate), offer(c.Offer, u), u.Format(c.ApprovalStake, 2))
	}
	return t.Flush()
}

// offer is a stake for a seat, where it is known.
func offer(v npos.U128, u Unit) string {
	if v.IsZero() {
		return "-"
	}
	return u.Format(v, 2)
}

// pjr is the certificate in words.
func (r *Report) pjr(u Unit, names Names) string {
	switch {
	case r.PJR.Unelected == 0:
		return "holds trivially: every candidate is elected"
	case r.PJR.Holds:
		return fmt.Sprintf("certified at %s: no group is left with more than %s to spare for one of the %d unelected; holds down to %s",
			u.Format(r.PJR.Threshold, 2), u.Format(r.PJR.MaxPreScore, 2), r.PJR.Unelected, u.Format(r.LowestPJR, 2))
	}
	return fmt.Sprintf("NOT certified at %s: voters could spare %s for %s; certified from %s",
		u.Format(r.PJR.Threshold, 2), u.Format(r.PJR.MaxPreScore, 2), name(names.Candidate, uint32(r.PJR.CounterExample)), u.Format(r.LowestPJR, 2))
}

// ofWhole is part of whole in percent; nothing of nothing is none.
func ofWhole(part, whole npos.U128) string {
	q, ok := npos.MulDiv(part, npos.U64(npos.Billion), whole)
	if !ok {
		return "-"
	}
	return percent(q)
}
