package npos

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	evidencetypes "github.com/cosmos/cosmos-sdk/x/evidence/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/node/x/npos/types"
)

// TestGenesisRoundTrip: an export in any phase of an election begins a chain that has
// the same state, and still has it two eras later.
func TestGenesisRoundTrip(t *testing.T) {
	stores := []string{authtypes.StoreKey, banktypes.StoreKey, stakingtypes.StoreKey, slashingtypes.StoreKey, distrtypes.StoreKey, evidencetypes.StoreKey, ModuleName}
	next := func(e *env) { // a block in which what happens depends on the height alone
		h := int(e.Height())
		if h%9 == 3 {
			e.accuse = append(e.accuse, accusation{consOf(1 + h%4), uint64(h - 1)})
		}
		e.Start()
		for _, f := range []tx{e.nominate(22+h%10, 100, 1+h%4), e.payout(1+h%4, uint64(h/10)), e.unbond(20, 1), e.bond(1+h%4, 300)} {
			_, _ = e.Tx(f) // some are refused, on each chain alike
		}
		e.Finish()
	}
	e := nominated(t, quick())
	const phases, eras = 5, 20 // blocks of two
	exported, others := map[uint8]bool{}, []*env{}
	for blocks := 0; len(exported) < phases || blocks < eras; blocks++ {
		next(e)
		for _, other := range others {
			next(other)
			for _, name := range stores {
				if !reflect.DeepEqual(other.Dump(name), e.Dump(name)) {
					t.Fatalf("height %d: store %s of a chain that began from an export differs", e.Height(), name)
				}
			}
			other.check()
		}
		if exported[e.phase()] {
			continue
		}
		exported[e.phase()], blocks = true, 0
		first := Module{e.k}.ExportGenesis(e.Context(), nil)
		if err := (Module{}).ValidateGenesis(nil, nil, first); err != nil {
			t.Fatal(err)
		}
		others = append(others, e.imported(first, stores))
	}
}

// imported is a chain at the height of e, with the state of an export and of other
// modules as they are in e.
func (e *env) imported(export []byte, stores []string) *env {
	e.t.Helper()
	other := newEnv(e.t, quick())
	for other.Height() < e.Height() {
		other.Block()
	}
	ctx := other.Context()
	for _, name := range stores {
		to := ctx.KVStore(other.Key(name))
		for k := range other.Dump(name) {
			to.Delete(unhex(e.t, k))
		}
		if name == ModuleName {
			continue
		}
		for k, v := range e.Dump(name) {
			to.Set(unhex(e.t, k), unhex(e.t, v))
		}
	}
	Module{other.k}.InitGenesis(ctx, nil, export)
	if second := (Module{other.k}).ExportGenesis(ctx, nil); !bytes.Equal(export, second) {
		e.t.Fatalf("height %d: another export", e.Height())
	}
	ctx.MultiStore().(storetypes.CacheMultiStore).Write()
	other.sets = maps.Clone(e.sets)
	for who, list := range e.losses {
		other.losses[who] = slices.Clone(list)
	}
	return other
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGenesisRefused(t *testing.T) {
	good := string(Module{}.DefaultGenesis(nil))
	if err := (Module{}).ValidateGenesis(nil, nil, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"{", good + good, `{"params":{}}`, `{"parms":{}}`} {
		if err := (Module{}).ValidateGenesis(nil, nil, []byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
	// A chain without a candidate does not begin.
	e := newEnv(t, quick())
	if _, err := (GenesisStaking{e.staking, e.k}).ApplyAndReturnValidatorSetUpdates(e.Context()); !errors.Is(err, ErrNoSeat) {
		t.Fatal(err)
	}
	for _, msgs := range [][]sdk.Msg{nil, {&types.MsgChill{}}, {&types.MsgValidate{}, &types.MsgValidate{}}} {
		if ValidateGenesisTx(msgs) == nil {
			t.Errorf("accepted %v", msgs)
		}
	}
	if err := ValidateGenesisTx([]sdk.Msg{&types.MsgValidate{}}); err != nil {
		t.Fatal(err)
	}
}
