package era

import (
	"fmt"
	"slices"

	"github.com/phala-go/phala/npos"
)

// Spans keeps what one staker (validator or nominator) has been slashed, so that
// faults found late cost no more than once (Web3 Foundation, "Slashing mechanisms";
// Substrate's slashing spans). A span is a run of eras; within one only the largest
// of its eras' slashes counts, and spans add up. A slash that is found ends the
// current span: offences after it are new ones, those before it belong to the fault
// that the staker has already paid for.
//
// An era's slash for a validator is the largest fraction found for it in that era; for
// a nominator it is the sum, over the validators it backed in that era, of the largest
// fraction times its exposure. The caller keeps those sums and hands them in.
//
// The zero value is a staker that was never slashed. Encode it as JSON or field by
// field; all fields are plain.
type Spans struct {
	// List are the spans from oldest to newest: eras from Start to before the next
	// one's. It starts with the first span when the first slash is found.
	List []Span `json:"list"`
}

// Span is one span and the largest slash of an era in it.
type Span struct {
	Start   uint64    `json:"start"`
	Slashed npos.U128 `json:"slashed"`
}

// Slash records that the staker's slash for an era is now total (of all reports on
// that era so far), found in the era now, and returns what is to be taken in
// addition to what earlier slashes of the same span took. A new slash in the
// current span ends that span after now, whether or not more is taken.
func (s *Spans) Slash(era, now uint64, total npos.U128) (npos.U128, error) {
	if era > now {
		return npos.U128{}, &Error{CodeSpan, fmt.Sprintf("era %d is after %d", era, now)}
	}
	if len(s.List) == 0 {
		if total.IsZero() {
			return npos.U128{}, nil
		}
		s.List = []Span{{}} // since ever
	}
	i := len(s.List) - 1
	for i >= 0 && s.List[i].Start > era {
		i--
	}
	if i < 0 {
		return npos.U128{}, &Error{CodeSpan, fmt.Sprintf("era %d is before the first span, from %d", era, s.List[0].Start)}
	}
	extra := total.SaturatingSub(s.List[i].Slashed)
	s.List[i].Slashed = s.List[i].Slashed.SaturatingAdd(extra)
	if i == len(s.List)-1 && !total.IsZero() {
		s.List = append(s.List, Span{Start: now + 1})
	}
	return extra, nil
}

// Undo takes back what a slash for an era that was cancelled added, so that another
// offence in the same span costs what it does. Spans that the slash ended stay ended.
func (s *Spans) Undo(era uint64, extra npos.U128) {
	for i := len(s.List) - 1; i >= 0; i-- {
		if p := &s.List[i]; p.Start <= era {
			p.Slashed = p.Slashed.SaturatingSub(extra)
			return
		}
	}
}

// Prune forgets the spans that ended before an era, from which no slash can be
// reported any more.
func (s *Spans) Prune(era uint64) {
	keep := 0
	for keep+1 < len(s.List) && s.List[keep+1].Start <= era {
		keep++
	}
	s.List = slices.Delete(s.List, 0, keep)
}
