package npos

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/npos/types"
)

var _ types.QueryServer = queries{}

// queries serves reads.
type queries struct{ k *Keeper }

func (q queries) Params(ctx context.Context, _ *types.QueryParamsRequest) (*types.QueryParamsResponse, error) {
	p, err := q.k.Params(ctx)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(p)
	return &types.QueryParamsResponse{Params: string(b)}, err
}

// era resolves an era's number: 0 is the active one.
func (q queries) era(ctx context.Context, n uint64) (era, active uint64, e *period, err error) {
	if active, err = q.k.Active(ctx); err != nil {
		return
	}
	if era = n; n == 0 {
		era = active
	}
	if era > active {
		err = ErrEra.Wrapf("%d; the active one is %d", era, active)
		return
	}
	e, err = q.k.period(ctx, era)
	return
}

func (q queries) Era(ctx context.Context, m *types.QueryEraRequest) (*types.QueryEraResponse, error) {
	k := q.k
	n, active, e, err := q.era(ctx, m.Era)
	if err != nil {
		return nil, err
	}
	points, err := read(k.kv(ctx), key(prefixPoints, u64(n)), parsePoints)
	if err != nil {
		return nil, err
	}
	r := &types.QueryEraResponse{Era: n, Active: active, StartHeight: e.Start, StartTime: e.Time, EndHeight: e.End, Seats: uint32(len(points)),
		Staked: e.Staked.String(), Issued: e.Issued.String(), Fees: e.Fees.String(), Paid: e.Paid.String()}
	for _, p := range points {
		r.Points += p
	}
	if n != active {
		return r, nil
	}
	x, err := k.progress(ctx)
	if err != nil {
		return nil, err
	}
	r.Phase = phaseNames[x.Phase]
	if r.Candidates, err = k.countCandidates(ctx); err != nil {
		return nil, err
	}
	err = kv.Each(k.kv(ctx), []byte(prefixList), func(_, _ []byte) (bool, error) { r.Nominators++; return true, nil })
	if err != nil {
		return nil, err
	}
	switch x.Phase {
	case phaseSnapshot:
		r.Done, r.Total = uint64(x.Voters), uint64(min(r.Nominators, x.Limit))
	case phaseElection:
		r.Done = x.Steps // how many there will be, only the election tells
	case phaseExposures, phaseReady:
		r.Done, r.Total = uint64(x.Seats), uint64(x.Winners)
	}
	r.TotalBonded = k.bank.GetBalance(ctx, k.accounts.GetModuleAddress(ModuleName), k.denom).Amount.String()
	return r, nil
}

func (q queries) Validators(ctx context.Context, m *types.QueryValidatorsRequest) (*types.QueryValidatorsResponse, error) {
	k := q.k
	n, active, _, err := q.era(ctx, m.Era)
	if err != nil {
		return nil, err
	}
	seats, err := k.seats(ctx, n)
	if err != nil {
		return nil, err
	}
	points, err := read(k.kv(ctx), key(prefixPoints, u64(n)), parsePoints)
	if err != nil {
		return nil, err
	}
	out := &types.QueryValidatorsResponse{Era: n}
	for i, s := range seats {
		x, err := k.exposure(ctx, n, s.Operator)
		if err != nil {
			return nil, err
		}
		if x == nil || i >= len(points) {
			return nil, ErrEra.Wrapf("%d is being forgotten", n)
		}
		v := types.Validator{Operator: s.Operator.String(), Commission: x.Commission, Elected: true, Disabled: x.Disabled, Own: x.Own.String(), Total: x.Total.String(),
			Backers: x.Backers, Points: points[i], Pages: x.pages(), PaidPages: x.Paid, Slashed: x.Slashed}
		if err := q.complete(ctx, &v, s.Operator); err != nil {
			return nil, err
		}
		out.Validators = append(out.Validators, v)
	}
	if n != active {
		return out, nil
	}
	err = kv.Each(k.kv(ctx), []byte(prefixCandidate), func(op, _ []byte) (bool, error) {
		if _, seated := slices.BinarySearchFunc(seats, op, func(s seat, op []byte) int { return bytes.Compare(s.Operator, op) }); seated {
			return true, nil
		}
		v := types.Validator{Operator: sdk.AccAddress(op).String(), Own: "0", Total: "0"}
		if err := q.complete(ctx, &v, op); err != nil {
			return false, err
		}
		out.Validators = append(out.Validators, v)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out.Validators, func(a, b types.Validator) int {
		x, _ := k.account(a.Operator)
		y, _ := k.account(b.Operator)
		return bytes.Compare(x, y)
	})
	return out, nil
}

// complete adds what does not depend on the era.
func (q queries) complete(ctx context.Context, v *types.Validator, op sdk.AccAddress) error {
	k := q.k
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	if v.ConsensusKey, err = k.kv(ctx).Get(key(prefixOperator, op)); err != nil {
		return err
	}
	l, err := k.ledger(ctx, op)
	if err != nil {
		return err
	}
	v.Bonded = "0"
	if l != nil {
		v.Bonded = l.Active.String()
		v.Candidate = l.Role == roleCandidate && !l.Active.Less(p.MinValidatorBond)
		if !v.Elected {
			v.Commission = l.Commission
		}
	}
	return nil
}

func (q queries) Exposure(ctx context.Context, m *types.QueryExposureRequest) (*types.QueryExposureResponse, error) {
	n, _, _, err := q.era(ctx, m.Era)
	if err != nil {
		return nil, err
	}
	who, err := q.k.account(m.Validator)
	if err != nil {
		return nil, err
	}
	x, err := q.k.exposure(ctx, n, who)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, ErrNoSeat.Wrapf("%s in era %d", who, n)
	}
	list, err := q.k.page(ctx, n, who, m.Page)
	if err != nil {
		return nil, err
	}
	r := &types.QueryExposureResponse{Own: x.Own.String(), Total: x.Total.String(), Pages: x.pages()}
	for _, h := range list {
		r.Backers = append(r.Backers, types.Backer{Staker: h.Staker.String(), Amount: h.Amount.String()})
	}
	return r, nil
}

func (q queries) Staker(ctx context.Context, m *types.QueryStakerRequest) (*types.QueryStakerResponse, error) {
	k := q.k
	who, err := k.account(m.Staker)
	if err != nil {
		return nil, err
	}
	l, err := k.ledger(ctx, who)
	if err != nil {
		return nil, err
	}
	if l == nil {
		l = &ledger{}
	}
	r := &types.QueryStakerResponse{Staker: who.String(), Bonded: l.Active.String(), Role: l.Role.String(), Commission: l.Commission, Slashes: l.Slashes}
	for _, c := range l.Chunks {
		r.Unbonding = append(r.Unbonding, types.Unbonding{Amount: c.Amount.String(), Era: c.Era})
	}
	for _, t := range l.Targets {
		r.Targets = append(r.Targets, t.String())
	}
	active, err := k.Active(ctx)
	if err != nil {
		return nil, err
	}
	// Nominations may have changed since the era was elected, so every seat is asked.
	seats, err := k.seats(ctx, active)
	if err != nil {
		return nil, err
	}
	for _, s := range seats {
		x, err := k.exposure(ctx, active, s.Operator)
		if err != nil {
			return nil, err
		}
		if s.Operator.Equals(who) {
			r.Backing = append(r.Backing, types.Backing{Validator: s.Operator.String(), Amount: x.Own.String()})
		}
		for page := range x.pages() {
			list, err := k.page(ctx, active, s.Operator, page)
			if err != nil {
				return nil, err
			}
			for _, h := range list {
				if h.Staker.Equals(who) {
					r.Backing = append(r.Backing, types.Backing{Validator: s.Operator.String(), Amount: h.Amount.String()})
				}
			}
		}
	}
	return r, nil
}

// maxVotersPage bounds an answer.
const maxVotersPage = 1000

// Voters: the cursor is 0 and a candidate, or 1 and a place in the list.
func (q queries) Voters(ctx context.Context, m *types.QueryVotersRequest) (*types.QueryVotersResponse, error) {
	k := q.k
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	limit := int(min(m.Limit, maxVotersPage))
	if limit == 0 {
		limit = maxVotersPage
	}
	list, err := k.candidates(ctx, &p)
	if err != nil {
		return nil, err
	}
	r := &types.QueryVotersResponse{}
	if len(m.Cursor) == 0 || m.Cursor[0] == 0 {
		for _, c := range list {
			if len(m.Cursor) > 0 && bytes.Compare(c.Operator, m.Cursor[1:]) <= 0 {
				continue
			}
			if len(r.Voters) == limit {
				return r, nil
			}
			name := c.Operator.String()
			r.Voters = append(r.Voters, types.Voter{Staker: name, Amount: c.Stake.String(), Targets: []string{name}})
			r.Cursor = append([]byte{0}, c.Operator...)
		}
	}
	var after []byte
	if len(m.Cursor) > 0 && m.Cursor[0] != 0 {
		after = m.Cursor[1:]
	}
	number := numbered(list)
	looked := 0
	err = k.eachNominator(ctx, after, func(place []byte, who sdk.AccAddress, l *ledger) (bool, error) {
		if looked == maxVotersPage || len(r.Voters) == limit {
			return false, nil
		}
		looked++
		r.Cursor = append([]byte{1}, place...)
		v := number.vote(who, l)
		if len(v.Targets) == 0 {
			return true, nil
		}
		out := types.Voter{Staker: who.String(), Amount: v.Stake.String()}
		for _, t := range v.Targets {
			out.Targets = append(out.Targets, list[t].Operator.String())
		}
		r.Voters = append(r.Voters, out)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if looked < maxVotersPage && len(r.Voters) < limit {
		r.Cursor = nil
	}
	return r, nil
}

func (q queries) Slashes(ctx context.Context, _ *types.QuerySlashesRequest) (*types.QuerySlashesResponse, error) {
	r := &types.QuerySlashesResponse{}
	err := q.k.eachSlash(ctx, func(id uint64, s *slash) (bool, error) {
		r.Slashes = append(r.Slashes, types.Slash{Id: id, Validator: s.Validator.String(), Era: s.Era, Reported: s.Reported, Applies: s.Applies, Fraction: s.To,
			Amount: s.Amount.String(), Stakers: s.Stakers, Computed: s.State != slashComputing})
		return true, nil
	})
	return r, err
}
