package staking

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/npos"
)

// A Node answers a query of the chain's services; see rpc.Client.
type Node interface {
	Query(ctx context.Context, method string, request []byte) ([]byte, error)
}

// ErrAnswer: a node answered something else than was asked for.
var ErrAnswer = errors.New("staking: malformed answer")

// A Client asks one node.
type Client struct{ Node Node }

// An Era is a period with one set of validators.
type Era struct {
	Era         uint64    `json:"era"`
	Active      uint64    `json:"active"`
	StartHeight uint64    `json:"start_height"`
	StartTime   uint64    `json:"start_time"` // Unix milliseconds
	EndHeight   uint64    `json:"end_height"`
	Seats       uint32    `json:"seats"`
	Staked      npos.U128 `json:"staked"`
	Issued      npos.U128 `json:"issued"`
	Fees        npos.U128 `json:"fees"`
	Paid        npos.U128 `json:"paid"`
	Points      uint64    `json:"points"`
	Phase       string    `json:"phase,omitempty"` // of the next election; of the active era only
	Done        uint64    `json:"done,omitempty"`
	Total       uint64    `json:"total,omitempty"`
	Candidates  uint32    `json:"candidates,omitempty"`
	Nominators  uint32    `json:"nominators,omitempty"`
	TotalBonded npos.U128 `json:"total_bonded"`
}

// A Validator is one of an era, or a candidate of the next.
type Validator struct {
	Operator     string    `json:"operator"`
	ConsensusKey hexBytes  `json:"consensus_key"`
	Commission   uint32    `json:"commission"` // billionths
	Elected      bool      `json:"elected"`
	Disabled     bool      `json:"disabled,omitempty"`
	Candidate    bool      `json:"candidate"`
	Bonded       npos.U128 `json:"bonded"`
	Own          npos.U128 `json:"own"`
	Total        npos.U128 `json:"total"`
	Backers      uint32    `json:"backers"`
	Points       uint64    `json:"points"`
	Pages        uint32    `json:"pages"`
	PaidPages    uint32    `json:"paid_pages"`
	Slashed      uint32    `json:"slashed,omitempty"` // billionths
}

// hexBytes are bytes that JSON shows in hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// An Amount is somebody's stake.
type Amount struct {
	Account string    `json:"account"`
	Amount  npos.U128 `json:"amount"`
}

// An Unbonding is stake on its way out.
type Unbonding struct {
	Amount npos.U128 `json:"amount"`
	Era    uint64    `json:"era"` // the first in which it may be withdrawn
}

// A Staker is an account's stake.
type Staker struct {
	Account    string      `json:"account"`
	Bonded     npos.U128   `json:"bonded"`
	Unbonding  []Unbonding `json:"unbonding"`
	Role       string      `json:"role"`
	Targets    []string    `json:"targets"`
	Commission uint32      `json:"commission,omitempty"`
	Backing    []Amount    `json:"backing"`
	Slashes    uint32      `json:"slashes,omitempty"`
}

// A Voter is a nominator, or a candidate that votes for itself.
type Voter struct {
	Amount
	Targets []string `json:"targets"`
}

// Params are the parameters that an election needs.
type Params struct {
	Seats               uint32 `json:"seats"`
	BalancingIterations uint32 `json:"balancing_iterations"`
	MaxElectingVoters   int    `json:"max_electing_voters"` // nominators
	HistoryEras         uint64 `json:"history_eras"`
}

// Params reads the parameters.
func (c *Client) Params(ctx context.Context) (Params, error) {
	var p Params
	m, err := c.ask(ctx, "Params", nil)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(m.last(1), &p); err != nil {
		return p, fmt.Errorf("%w: parameters: %w", ErrAnswer, err)
	}
	return p, nil
}

// Era reads an era; 0 is the active one.
func (c *Client) Era(ctx context.Context, era uint64) (*Era, error) {
	m, err := c.ask(ctx, "Era", request(nil).uint(1, era))
	if err != nil {
		return nil, err
	}
	e := &Era{Era: m.uint(1), Active: m.uint(2), StartHeight: m.uint(3), StartTime: m.uint(4), EndHeight: m.uint(5), Seats: uint32(m.uint(6)),
		Points: m.uint(11), Phase: string(m.last(12)), Done: m.uint(13), Total: m.uint(14), Candidates: uint32(m.uint(15)), Nominators: uint32(m.uint(16))}
	return e, m.amounts(map[protowire.Number]*npos.U128{7: &e.Staked, 8: &e.Issued, 9: &e.Fees, 10: &e.Paid, 17: &e.TotalBonded})
}

// Validators reads the validators of an era, in the order of their accounts; 0 is the
// active one, with all candidates.
func (c *Client) Validators(ctx context.Context, era uint64) ([]Validator, error) {
	m, err := c.ask(ctx, "Validators", request(nil).uint(1, era))
	if err != nil {
		return nil, err
	}
	var out []Validator
	for _, b := range m.bytes[2] {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		x := Validator{Operator: string(v.last(1)), ConsensusKey: v.last(2), Commission: uint32(v.uint(3)), Elected: v.uint(4) != 0, Disabled: v.uint(5) != 0,
			Candidate: v.uint(6) != 0, Backers: uint32(v.uint(10)), Points: v.uint(11), Pages: uint32(v.uint(12)), PaidPages: uint32(v.uint(13)), Slashed: uint32(v.uint(14))}
		if err := v.amounts(map[protowire.Number]*npos.U128{7: &x.Bonded, 8: &x.Own, 9: &x.Total}); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// Exposure reads who stands behind a validator in an era, itself first.
func (c *Client) Exposure(ctx context.Context, era uint64, validator string) ([]Amount, error) {
	var out []Amount
	for page := uint64(0); page < maxPages; page++ {
		m, err := c.ask(ctx, "Exposure", request(nil).uint(1, era).string(2, validator).uint(3, page))
		if err != nil {
			return nil, err
		}
		if page == 0 {
			own := Amount{Account: validator}
			if err := m.amounts(map[protowire.Number]*npos.U128{1: &own.Amount}); err != nil {
				return nil, err
			}
			if !own.Amount.IsZero() {
				out = append(out, own)
			}
		}
		list, err := m.list(4)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if page+1 >= m.uint(3) {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%w: an exposure of %d backers and no end", ErrAnswer, len(out))
}

// Staker reads an account's stake.
func (c *Client) Staker(ctx context.Context, account string) (*Staker, error) {
	m, err := c.ask(ctx, "Staker", request(nil).string(1, account))
	if err != nil {
		return nil, err
	}
	s := &Staker{Account: string(m.last(1)), Role: string(m.last(4)), Targets: []string{}, Commission: uint32(m.uint(6)), Slashes: uint32(m.uint(8)), Unbonding: []Unbonding{}}
	if err := m.amounts(map[protowire.Number]*npos.U128{2: &s.Bonded}); err != nil {
		return nil, err
	}
	for _, b := range m.bytes[3] {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		u := Unbonding{Era: v.uint(2)}
		if err := v.amounts(map[protowire.Number]*npos.U128{1: &u.Amount}); err != nil {
			return nil, err
		}
		s.Unbonding = append(s.Unbonding, u)
	}
	for _, t := range m.bytes[5] {
		s.Targets = append(s.Targets, string(t))
	}
	s.Backing, err = m.list(7)
	return s, err
}

// voterPage is how many voters are asked for at once, and maxPages how often at most.
const (
	voterPage = 1000
	maxPages  = 1 << 10
)

// Voters reads who would vote now, the first ones of them in the order in which the chain
// would take them.
// progress, which may be nil, hears how many there are so far.
func (c *Client) Voters(ctx context.Context, most int, progress func(n int)) ([]Voter, error) {
	var out []Voter
	var cursor []byte
	for range maxPages {
		m, err := c.ask(ctx, "Voters", request(nil).bytes(1, cursor).uint(2, voterPage))
		if err != nil {
			return nil, err
		}
		for _, b := range m.bytes[1] {
			v, err := parse(b)
			if err != nil {
				return nil, err
			}
			x := Voter{Amount: Amount{Account: string(v.last(1))}}
			if err := v.amounts(map[protowire.Number]*npos.U128{2: &x.Amount.Amount}); err != nil {
				return nil, err
			}
			for _, t := range v.bytes[3] {
				x.Targets = append(x.Targets, string(t))
			}
			out = append(out, x)
		}
		out = out[:min(len(out), max(0, most))]
		if progress != nil {
			progress(len(out))
		}
		if cursor = m.last(2); len(cursor) == 0 || len(out) == most {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%w: %d voters and no end", ErrAnswer, len(out))
}

// ask does one query.
func (c *Client) ask(ctx context.Context, method string, req request) (*message, error) {
	b, err := c.Node.Query(ctx, "/phala.npos.v1.Query/"+method, req)
	if err != nil {
		return nil, fmt.Errorf("staking: %s: %w", method, err)
	}
	return parse(b)
}
