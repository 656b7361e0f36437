package npos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	sdkerrors "cosmossdk.io/errors"

	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

// TestSimulation: accounts do at random what they may and what they may not, some
// validators double-sign or go silent, governance cancels slashes and changes seats,
// least bonds and the lengths of eras and of history; after every block everything adds
// up. PHALA_LONG=1 runs thousands of eras. PHALA_SEED runs another seed.
func TestSimulation(t *testing.T) {
	seeds, eras := 3, uint64(40)
	if os.Getenv("PHALA_LONG") != "" {
		seeds, eras = 6, 500
	}
	first := uint64(0)
	if s := os.Getenv("PHALA_SEED"); s != "" {
		seeds = 1
		if _, err := fmt.Sscan(s, &first); err != nil {
			t.Fatalf("PHALA_SEED: %v", err)
		}
	}
	for seed := first; seed < first+uint64(seeds); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { simulate(t, seed, eras) })
	}
}

const (
	simValidators = 12
	simAccounts   = 40
)

func simulate(t *testing.T, seed, eras uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	p := quick()
	p.MaxElectingVoters, p.SlashDeferEras = 20, (seed+1)%3
	wanted := []string{"cancel", "bond", "unbond", "rebond", "withdraw", "validate", "nominate", "chill", "payout", "slashed", "disabled", "seats changed", "swept", "changed roles", "balanced"}
	if p.SlashDeferEras == 0 {
		wanted = wanted[1:] // there is nothing to cancel
	}
	e := started(t, p, 5)
	s := &simulation{env: e, rng: rng, done: map[string]int{}}
	for e.active() < eras {
		s.block()
	}
	t.Logf("%d blocks, %d eras: %v", e.Height(), e.active(), s.done)
	for _, kind := range wanted {
		if s.done[kind] == 0 {
			t.Errorf("nobody ever did: %s", kind)
		}
	}
}

type simulation struct {
	*env
	rng  *rand.Rand
	done map[string]int
	last []int
}

func (s *simulation) block() {
	s.t.Helper()
	if s.rng.IntN(15) == 0 && s.Height() > 1 { // somebody may double-sign; sometimes it is reported twice
		v, h := 1+s.rng.IntN(simValidators), s.Height()-min(s.Height()-1, s.rng.Uint64N(45))
		for range 1 + s.rng.IntN(2) {
			s.accuse = append(s.accuse, accusation{consOf(v), h})
		}
	}
	if s.rng.IntN(20) == 0 {
		s.offline = map[string]bool{}
		for range s.rng.IntN(3) {
			s.offline[string(consOf(1+s.rng.IntN(simValidators)))] = true
		}
	}
	snapshot := s.phase() == phaseSnapshot
	s.Start()
	if snapshot && s.rng.IntN(3) == 0 { // a candidate becomes a nominator while an election reads
		who := 1 + s.rng.IntN(simValidators)
		if _, err := s.Tx(func(ctx sdk.Context) error {
			return errors.Join(s.chill(who)(ctx), s.nominate(who, 0, 1+who%simValidators)(ctx))
		}); err == nil {
			s.done["changed roles"]++
		}
	}
	for range s.rng.IntN(6) {
		s.act()
	}
	if s.rng.IntN(3) == 0 { // fees
		c := coinsOf(denom, npos.U64(1+s.rng.Uint64N(1e9)))
		s.Must(func(ctx sdk.Context) error {
			return errors.Join(s.bank.MintCoins(ctx, "faucet", c), s.bank.SendCoinsFromModuleToModule(ctx, "faucet", authtypes.FeeCollectorName, c))
		})
	}
	events := s.Finish()
	for _, ev := range events {
		switch ev.Type {
		case "npos_slash_failed", "npos_prune_failed", "npos_election_error":
			s.t.Fatalf("height %d: %v", s.Height(), ev)
		case "npos_slashed":
			s.done["slashed"]++
		case "npos_swept":
			s.done["swept"]++
		case "npos_disabled":
			s.done["disabled"]++
		case "npos_era":
			if now := s.elected(); fmt.Sprint(now) != fmt.Sprint(s.last) {
				s.last = now
				s.done["seats changed"]++
			}
		}
	}
	s.check()
	if r := s.k.runs.run; s.phase() == phaseExposures && r != nil {
		s.checkBalance(r)
	}
}

// checkBalance: balancing elects the same and makes no score worse.
func (s *simulation) checkBalance(r *run) {
	s.t.Helper()
	got, err := r.election.Result()
	if err != nil {
		s.t.Fatal(err)
	}
	plain, err := npos.SeqPhragmen(r.instance, r.places, npos.Balancing{})
	if err != nil {
		s.t.Fatal(err)
	}
	switch c := got.Score().Compare(plain.Score()); {
	case c < 0:
		s.t.Fatalf("height %d: balancing made %+v of %+v", s.Height(), got.Score(), plain.Score())
	case c > 0:
		s.done["balanced"]++
	}
}

// act is one transaction. Whatever is refused is refused with an error of the module.
func (s *simulation) act() {
	s.t.Helper()
	who, amount := 1+s.rng.IntN(simAccounts), 1+s.rng.Uint64N(400)
	kind, f := "", tx(nil)
	switch s.rng.IntN(16) {
	case 0:
		kind, f = "bond", s.bond(who, amount)
	case 1, 2:
		kind, f = "unbond", s.unbond(who, amount)
	case 3:
		kind, f = "rebond", s.rebond(who, amount)
	case 4, 5:
		kind, f = "withdraw", s.withdraw(who)
	case 6:
		who = 1 + s.rng.IntN(simValidators)
		kind, f = "validate", s.validate(who, 100+amount, s.rng.Uint32N(npos.Billion+1))
		if l := s.ledger(who); l.Role == roleNominator {
			s.Must(s.chill(who))
		}
	case 7, 8, 9:
		var targets []int
		for range 1 + s.rng.IntN(5) {
			targets = append(targets, 1+s.rng.IntN(simValidators))
		}
		kind, f = "nominate", s.nominate(who, amount, targets...)
	case 10:
		if s.rng.IntN(4) == 0 {
			kind, f = "chill", s.chill(who)
		}
	case 11, 12, 13:
		kind, f = "payout", s.payout(1+s.rng.IntN(simValidators), s.active()-min(s.active(), s.rng.Uint64N(8)))
	case 14:
		if s.rng.IntN(3) == 0 {
			var id uint64
			err := s.k.eachSlash(s.Context(), func(n uint64, sl *slash) (bool, error) { id = n; return sl.State != slashWaiting, nil })
			if err != nil {
				s.t.Fatal(err)
			}
			kind, f = "cancel", msg(s.k.CancelSlash, &types.MsgCancelSlash{Authority: authority, Ids: []uint64{id}})
		}
	case 15:
		if s.rng.IntN(15) == 0 {
			kind, f = "params", func(ctx sdk.Context) error {
				p, err := s.k.Params(ctx)
				p.Seats, p.MaxElectingVoters = 2+s.rng.Uint32N(7), 10+s.rng.Uint32N(20)
				p.BalancingIterations, p.HistoryEras = s.rng.Uint32N(11), p.UnbondingEras+1+s.rng.Uint64N(5)
				p.SessionBlocks, p.SessionsPerEra = 5+s.rng.Uint64N(4), 1+s.rng.Uint64N(3)
				p.MinValidatorBond, p.MinNominatorBond = pha(100+s.rng.Uint64N(200)), pha(10+s.rng.Uint64N(40))
				p.MinCommission, p.MaxCandidates = s.rng.Uint32N(npos.Billion/2), 6+s.rng.Uint32N(15)
				return errors.Join(err, s.k.SetParams(ctx, p))
			}
		}
	}
	if f == nil {
		return
	}
	_, err := s.Tx(f)
	if err == nil {
		s.done[kind]++
		return
	}
	var typed *sdkerrors.Error
	if !errors.As(err, &typed) || typed.Codespace() != ModuleName {
		s.t.Fatalf("%s of %d: %v", kind, who, err)
	}
}
