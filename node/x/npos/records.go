package npos

import (
	"errors"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
	"github.com/phala-go/phala/proto/wire"
)

// Limits of what records hold.
const (
	MaxTargets = 16
	maxChunks  = 32
	maxAddress = 255
	// pageStakers is the number of stakers in a page of an exposure, which one payout
	// pays.
	pageStakers = 256
)

func putAmount(w *wire.Writer, a npos.U128) { w.U64(a.Hi).U64(a.Lo) }

func getAmount(r *wire.Reader) npos.U128 { return npos.U128{Hi: r.U64(), Lo: r.U64()} }

// A role is what a staker does with its stake.
type role uint8

const (
	roleNone role = iota
	roleNominator
	roleCandidate
)

func (r role) String() string { return [...]string{"none", "nominator", "candidate"}[r] }

// A ledger is one account's stake.
type ledger struct {
	Active npos.U128 // counts in elections
	Chunks []chunk   // unbonding, the oldest first
	Role   role
	// Commission is a candidate's, Targets are a nominator's.
	Commission uint32
	Targets    []sdk.AccAddress
	// Bag and Seq are a nominator's place in the list; Seq is 0 for none.
	Bag uint16
	Seq uint64
	// Slashes counts the slashes that are computed and not applied.
	Slashes uint32
}

// A chunk is tokens that can be withdrawn from an era on.
type chunk struct {
	Amount npos.U128
	Era    uint64
}

// total is all that can be slashed.
func (l *ledger) total() npos.U128 {
	sum := l.Active
	for _, c := range l.Chunks {
		sum = sum.SaturatingAdd(c.Amount)
	}
	return sum
}

func (l *ledger) marshal() []byte {
	w := wire.NewWriter(64 + 33*len(l.Targets))
	putAmount(w, l.Active)
	w.Count(len(l.Chunks))
	for _, c := range l.Chunks {
		putAmount(w, c.Amount)
		w.U64(c.Era)
	}
	w.U8(uint8(l.Role)).U32(l.Commission).Count(len(l.Targets))
	for _, t := range l.Targets {
		w.Blob(t)
	}
	w.U16(l.Bag).U64(l.Seq).U32(l.Slashes)
	return w.Bytes()
}

func parseLedger(b []byte) (*ledger, error) {
	r := wire.NewReader(b)
	l := &ledger{Active: getAmount(r)}
	for range r.Count(maxChunks, 24) {
		l.Chunks = append(l.Chunks, chunk{getAmount(r), r.U64()})
	}
	if l.Role = role(r.U8()); l.Role > roleCandidate {
		r.Fail(errors.New("unknown role"))
	}
	l.Commission = r.U32()
	for range r.Count(MaxTargets, 4) {
		l.Targets = append(l.Targets, r.Blob(maxAddress))
	}
	l.Bag, l.Seq, l.Slashes = r.U16(), r.U64(), r.U32()
	return l, closed(r, "ledger")
}

func closed(r *wire.Reader, what string) error {
	if err := r.Close(); err != nil {
		return fmt.Errorf("npos %s: %w", what, err)
	}
	return nil
}

// A period is what is kept of an era beside its validators.
type period struct {
	// Begun is the block whose end began it, Start the first that its validators
	// sign, End the block whose end is to begin the next.
	Begun, Start, End uint64
	Session           uint64 // blocks
	Time              int64  // of Begun, milliseconds
	Staked            npos.U128
	Issued            npos.U128 // to stakers, when it has ended
	Fees              npos.U128
	Paid              npos.U128 // of both
	Swept             bool      // the rest of it went to the treasury
}

func (p *period) pot() npos.U128 { return p.Issued.SaturatingAdd(p.Fees) }

func (p *period) marshal() []byte {
	w := wire.NewWriter(105)
	w.U64(p.Begun).U64(p.Start).U64(p.End).U64(p.Session).U64(uint64(p.Time))
	putAmount(w, p.Staked)
	putAmount(w, p.Issued)
	putAmount(w, p.Fees)
	putAmount(w, p.Paid)
	return w.Bool(p.Swept).Bytes()
}

func parsePeriod(b []byte) (*period, error) {
	r := wire.NewReader(b)
	p := &period{Begun: r.U64(), Start: r.U64(), End: r.U64(), Session: r.U64(), Time: int64(r.U64()),
		Staked: getAmount(r), Issued: getAmount(r), Fees: getAmount(r), Paid: getAmount(r), Swept: r.Bool()}
	return p, closed(r, "era")
}

// A seat names a validator of an era; seats are in the order of operators.
type seat struct {
	Operator sdk.AccAddress
	Cons     [20]byte
}

func marshalSeats(seats []seat) []byte {
	w := wire.NewWriter(4 + 56*len(seats))
	w.Count(len(seats))
	for _, s := range seats {
		w.Blob(s.Operator).Fixed(s.Cons[:])
	}
	return w.Bytes()
}

func parseSeats(b []byte) ([]seat, error) {
	r := wire.NewReader(b)
	out := make([]seat, r.Count(maxSeats, 24))
	for i := range out {
		out[i].Operator = r.Blob(maxAddress)
		r.Fixed(out[i].Cons[:])
	}
	return out, closed(r, "seats")
}

func marshalPoints(points []uint64) []byte {
	w := wire.NewWriter(4 + 8*len(points))
	w.Count(len(points))
	for _, p := range points {
		w.U64(p)
	}
	return w.Bytes()
}

func parsePoints(b []byte) ([]uint64, error) {
	r := wire.NewReader(b)
	out := make([]uint64, r.Count(maxSeats, 8))
	for i := range out {
		out[i] = r.U64()
	}
	return out, closed(r, "points")
}

// An exposure says what stands behind a validator in an era; its other stakers are in
// pages of their own.
type exposure struct {
	Cons       [20]byte
	Commission uint32
	Own, Total npos.U128
	Backers    uint32
	Paid       uint32 // pages
	Slashed    uint32 // the largest fraction reported for the era
	Disabled   bool
}

// pages is never 0: the first page pays the validator.
func (e *exposure) pages() uint32 { return max(1, (e.Backers+pageStakers-1)/pageStakers) }

func (e *exposure) marshal() []byte {
	w := wire.NewWriter(69)
	w.Fixed(e.Cons[:]).U32(e.Commission)
	putAmount(w, e.Own)
	putAmount(w, e.Total)
	return w.U32(e.Backers).U32(e.Paid).U32(e.Slashed).Bool(e.Disabled).Bytes()
}

func parseExposure(b []byte) (*exposure, error) {
	r := wire.NewReader(b)
	e := new(exposure)
	r.Fixed(e.Cons[:])
	e.Commission, e.Own, e.Total = r.U32(), getAmount(r), getAmount(r)
	e.Backers, e.Paid, e.Slashed, e.Disabled = r.U32(), r.U32(), r.U32(), r.Bool()
	return e, closed(r, "exposure")
}

// A share is an amount of a staker: in an exposure or in a slash.
type share struct {
	Staker sdk.AccAddress
	Amount npos.U128
}

func marshalShares(shares []share) []byte {
	w := wire.NewWriter(4 + 52*len(shares))
	w.Count(len(shares))
	for _, s := range shares {
		w.Blob(s.Staker)
		putAmount(w, s.Amount)
	}
	return w.Bytes()
}

func parseShares(b []byte) ([]share, error) {
	r := wire.NewReader(b)
	out := make([]share, r.Count(pageStakers+1, 20))
	for i := range out {
		out[i] = share{r.Blob(maxAddress), getAmount(r)}
	}
	return out, closed(r, "shares")
}

// The states of a slash.
const (
	slashComputing = iota
	slashWaiting
	slashApplying
	slashCancelling
	slashFailed // and left for governance: what it names stays bonded until then
)

// A slash takes the difference of two fractions from an exposure.
type slash struct {
	Validator              sdk.AccAddress
	Era, Reported, Applies uint64
	// Height is that of the offence; 0 where another validator's raised the fraction.
	Height   uint64
	From, To uint32
	State    uint8
	Page     uint32 // the next one to compute, apply or cancel
	Pages    uint32
	Amount   npos.U128
	Stakers  uint32
}

func (s *slash) marshal() []byte {
	w := wire.NewWriter(104)
	w.Blob(s.Validator).U64(s.Era).U64(s.Reported).U64(s.Applies).U64(s.Height).U32(s.From).U32(s.To).U8(s.State).U32(s.Page).U32(s.Pages)
	putAmount(w, s.Amount)
	return w.U32(s.Stakers).Bytes()
}

func parseSlash(b []byte) (*slash, error) {
	r := wire.NewReader(b)
	s := &slash{Validator: r.Blob(maxAddress), Era: r.U64(), Reported: r.U64(), Applies: r.U64(), Height: r.U64(), From: r.U32(), To: r.U32(), State: r.U8(), Page: r.U32(), Pages: r.U32(),
		Amount: getAmount(r), Stakers: r.U32()}
	if s.State > slashFailed {
		r.Fail(errors.New("unknown state"))
	}
	return s, closed(r, "slash")
}

func marshalSpans(s *era.Spans) []byte {
	w := wire.NewWriter(4 + 24*len(s.List))
	w.Count(len(s.List))
	for _, p := range s.List {
		w.U64(p.Start)
		putAmount(w, p.Slashed)
	}
	return w.Bytes()
}

func parseSpans(b []byte) (*era.Spans, error) {
	r := wire.NewReader(b)
	s := new(era.Spans)
	for range r.Count(maxEras, 24) {
		s.List = append(s.List, era.Span{Start: r.U64(), Slashed: getAmount(r)})
	}
	return s, closed(r, "spans")
}

// The phases of the election of the next era.
const (
	phaseIdle = iota
	phaseSnapshot
	phaseElection
	phaseExposures
	phaseReady
)

var phaseNames = [...]string{"idle", "snapshot", "election", "exposures", "ready"}

// progress is how far the election of the next era has come.
type progress struct {
	Phase     uint8
	NotBefore uint64 // the next attempt, after one that failed
	// Places, Balancing and Limit are the parameters that the election began with:
	// seats, balancing iterations, and nominators at most. Governance may change them
	// while it goes on.
	Places, Balancing, Limit uint32
	Cursor                   []byte // the last place in the list that was read
	Voters                   uint32 // nominators taken
	Pages                    uint32 // of the snapshot
	Extras                   uint32 // nominators who moved past the cursor
	Hash                     [32]byte
	Steps                    uint64 // of the election
	Seats                    uint32 // exposures written
	Winners                  uint32
	Staked                   npos.U128
}

func (x *progress) marshal() []byte {
	w := wire.NewWriter(128)
	w.U8(x.Phase).U64(x.NotBefore).U32(x.Places).U32(x.Balancing).U32(x.Limit).Blob(x.Cursor).U32(x.Voters).U32(x.Pages).U32(x.Extras).Fixed(x.Hash[:]).U64(x.Steps).U32(x.Seats).U32(x.Winners)
	putAmount(w, x.Staked)
	return w.Bytes()
}

func parseProgress(b []byte) (*progress, error) {
	r := wire.NewReader(b)
	x := &progress{Phase: r.U8(), NotBefore: r.U64(), Places: r.U32(), Balancing: r.U32(), Limit: r.U32(), Cursor: r.Blob(32), Voters: r.U32(), Pages: r.U32(), Extras: r.U32()}
	r.Fixed(x.Hash[:])
	x.Steps, x.Seats, x.Winners, x.Staked = r.U64(), r.U32(), r.U32(), getAmount(r)
	if x.Phase > phaseReady {
		r.Fail(errors.New("unknown phase"))
	}
	return x, closed(r, "progress")
}

// A voter is one entry of a snapshot: targets are numbers of candidates.
type voter struct {
	Staker  sdk.AccAddress
	Stake   npos.U128
	Targets []uint16
}

func marshalVoters(voters []voter) []byte {
	w := wire.NewWriter(4 + 90*len(voters))
	w.Count(len(voters))
	for _, v := range voters {
		w.Blob(v.Staker)
		putAmount(w, v.Stake)
		w.Count(len(v.Targets))
		for _, t := range v.Targets {
			w.U16(t)
		}
	}
	return w.Bytes()
}

func parseVoters(b []byte) ([]voter, error) {
	r := wire.NewReader(b)
	out := make([]voter, r.Count(maxVoters, 24))
	for i := range out {
		out[i] = voter{Staker: r.Blob(maxAddress), Stake: getAmount(r), Targets: make([]uint16, r.Count(MaxTargets, 2))}
		for j := range out[i].Targets {
			out[i].Targets[j] = r.U16()
		}
	}
	return out, closed(r, "voters")
}

// A candidate is one entry of a snapshot.
type candidate struct {
	Operator   sdk.AccAddress
	Cons       [20]byte
	Commission uint32
	Stake      npos.U128
}

func marshalCandidates(list []candidate) []byte {
	w := wire.NewWriter(4 + 72*len(list))
	w.Count(len(list))
	for _, c := range list {
		w.Blob(c.Operator).Fixed(c.Cons[:]).U32(c.Commission)
		putAmount(w, c.Stake)
	}
	return w.Bytes()
}

func parseCandidates(b []byte) ([]candidate, error) {
	r := wire.NewReader(b)
	out := make([]candidate, r.Count(maxCandidates, 44))
	for i := range out {
		out[i].Operator = r.Blob(maxAddress)
		r.Fixed(out[i].Cons[:])
		out[i].Commission, out[i].Stake = r.U32(), getAmount(r)
	}
	return out, closed(r, "candidates")
}
