package npos

import (
	"context"
	"encoding/binary"

	"cosmossdk.io/core/store"
	sdkerrors "cosmossdk.io/errors"
	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	stakingkeeper "github.com/cosmos/cosmos-sdk/x/staking/keeper"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/bags"
)

// ModuleName names the module, its store and the account that holds all stakes;
// RewardsName the account that holds what is issued and not paid out.
const (
	ModuleName  = "npos"
	RewardsName = "npos_rewards"
)

// PowerDenom is what x/staking counts: one unit for each base unit that stands behind
// a validator. Only this module's account ever has any.
const PowerDenom = "power"

// The module's errors. Their codes are on the wire and never change.
var (
	ErrAmount     = sdkerrors.Register(ModuleName, 2, "invalid amount")
	ErrAddress    = sdkerrors.Register(ModuleName, 3, "invalid account")
	ErrMinimum    = sdkerrors.Register(ModuleName, 4, "below the minimum")
	ErrNotBonded  = sdkerrors.Register(ModuleName, 5, "not enough is bonded")
	ErrChunks     = sdkerrors.Register(ModuleName, 6, "too many amounts are unbonding")
	ErrNothing    = sdkerrors.Register(ModuleName, 7, "nothing to do")
	ErrSlashes    = sdkerrors.Register(ModuleName, 8, "slashes are pending")
	ErrRole       = sdkerrors.Register(ModuleName, 9, "not allowed in this role")
	ErrTargets    = sdkerrors.Register(ModuleName, 10, "invalid targets")
	ErrKey        = sdkerrors.Register(ModuleName, 11, "invalid consensus key")
	ErrCommission = sdkerrors.Register(ModuleName, 12, "invalid commission")
	ErrFull       = sdkerrors.Register(ModuleName, 13, "no room for another candidate")
	ErrEra        = sdkerrors.Register(ModuleName, 14, "no such era")
	ErrNoSeat     = sdkerrors.Register(ModuleName, 15, "not a validator of that era")
	ErrPaid       = sdkerrors.Register(ModuleName, 16, "already paid")
	ErrAuthority  = sdkerrors.Register(ModuleName, 17, "only governance may do this")
	ErrParams     = sdkerrors.Register(ModuleName, 18, "invalid parameters")
	ErrSlash      = sdkerrors.Register(ModuleName, 19, "no such slash can be cancelled")
	ErrFunds      = sdkerrors.Register(ModuleName, 20, "not enough money")
)

// Bank is what the module asks of x/bank.
type Bank interface {
	SendCoinsFromAccountToModule(ctx context.Context, from sdk.AccAddress, module string, amt sdk.Coins) error
	SendCoinsFromModuleToAccount(ctx context.Context, module string, to sdk.AccAddress, amt sdk.Coins) error
	SendCoinsFromModuleToModule(ctx context.Context, from, to string, amt sdk.Coins) error
	MintCoins(ctx context.Context, module string, amt sdk.Coins) error
	BurnCoins(ctx context.Context, module string, amt sdk.Coins) error
	GetBalance(ctx context.Context, addr sdk.AccAddress, denom string) sdk.Coin
	GetSupply(ctx context.Context, denom string) sdk.Coin
	SpendableCoin(ctx context.Context, addr sdk.AccAddress, denom string) sdk.Coin
}

// Accounts is what the module asks of x/auth.
type Accounts interface {
	GetModuleAddress(name string) sdk.AccAddress
	GetModuleAccount(ctx context.Context, name string) sdk.ModuleAccountI
}

// Treasury takes what is issued beside the stakers' part, slashed, or never claimed.
type Treasury interface {
	FundCommunityPool(ctx context.Context, amount sdk.Coins, sender sdk.AccAddress) error
}

// A Keeper keeps stakes, eras and elections.
type Keeper struct {
	store      store.KVStoreService
	accounts   Accounts
	bank       Bank
	treasury   Treasury
	staking    *stakingkeeper.Keeper
	fees       string // the module account that collects fees
	denom      string
	authority  string
	thresholds bags.Thresholds
	runs       runCache
}

// NewKeeper returns a keeper of stakes in denom.
func NewKeeper(s store.KVStoreService, a Accounts, b Bank, t Treasury, sk *stakingkeeper.Keeper, fees, denom, authority string) *Keeper {
	// 200 bags from one PHA to a thousand million: neighbours differ by a tenth.
	th, err := bags.New(pha(1), pha(1_000_000_000), 200)
	if err != nil {
		panic(err)
	}
	return &Keeper{store: s, accounts: a, bank: b, treasury: t, staking: sk, fees: fees, denom: denom, authority: authority, thresholds: th}
}

// The keys of the store. Heights, eras, pages and numbers are big-endian.
var (
	keyParams   = []byte("params")
	keyActive   = []byte("active")   // the active era's number
	keySequence = []byte("sequence") // of places in the list
	keySlashSeq = []byte("slashes")  // of slashes
	keyProgress = []byte("progress") // of the next election
	keySnapshot = []byte("y/c")      // its candidates
)

const (
	prefixLedger    = "l/" // account
	prefixCandidate = "c/" // account; empty: it is a candidate
	prefixKey       = "k/" // consensus address: operator
	prefixOperator  = "o/" // operator: consensus key
	prefixList      = "b/" // bag from the last, sequence: nominator
	prefixVoters    = "y/p/"
	prefixExtra     = "y/x/"
	prefixMoved     = "y/m/" // nominator who was read and left its place
	prefixEra       = "e/"   // era: period
	prefixSeats     = "s/"   // era
	prefixPoints    = "p/"   // era
	prefixExposure  = "v/"   // era, operator
	prefixPage      = "g/"   // era, operator, page
	prefixSlash     = "w/"   // number
	prefixSlashPage = "z/"   // number, page
	prefixOffender  = "f/"   // era, session, operator
	prefixForgiven  = "n/"   // era, height, operator: an offence whose slash was cancelled
	prefixTaken     = "t/"   // era, staker: reported slashes of the era
	prefixSpans     = "h/"   // staker
)

func key(prefix string, parts ...[]byte) []byte {
	k := []byte(prefix)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// sized is an account before something else in a key.
func sized(a sdk.AccAddress) []byte { return append([]byte{byte(len(a))}, a...) }

func (k *Keeper) kv(ctx context.Context) store.KVStore { return k.store.OpenKVStore(ctx) }

// read parses the value of a key; the zero value when there is none.
func read[T any](s store.KVStore, key []byte, parse func([]byte) (T, error)) (v T, err error) {
	b, err := s.Get(key)
	if err != nil || b == nil {
		return v, err
	}
	return parse(b)
}

func parseU64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, ErrEra.Wrapf("a number of %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// Params returns the parameters.
func (k *Keeper) Params(ctx context.Context) (Params, error) {
	var p Params
	err := kv.GetJSON(k.kv(ctx), keyParams, &p)
	return p, err
}

// SetParams replaces the parameters.
func (k *Keeper) SetParams(ctx context.Context, p Params) error {
	if err := p.Validate(); err != nil {
		return ErrParams.Wrap(err.Error())
	}
	return kv.SetJSON(k.kv(ctx), keyParams, p)
}

// Active is the number of the era that runs; 0 before the first.
func (k *Keeper) Active(ctx context.Context) (uint64, error) {
	return read(k.kv(ctx), keyActive, parseU64)
}

// ledger returns an account's stake, nil for none.
func (k *Keeper) ledger(ctx context.Context, who sdk.AccAddress) (*ledger, error) {
	return read(k.kv(ctx), key(prefixLedger, who), parseLedger)
}

// setLedger writes a stake; one of nothing is forgotten.
func (k *Keeper) setLedger(ctx context.Context, who sdk.AccAddress, l *ledger) error {
	if l.Active.IsZero() && len(l.Chunks) == 0 && l.Role == roleNone && l.Slashes == 0 {
		return k.kv(ctx).Delete(key(prefixLedger, who))
	}
	return k.kv(ctx).Set(key(prefixLedger, who), l.marshal())
}

// next counts a sequence up from 1.
func (k *Keeper) next(ctx context.Context, key []byte) (uint64, error) {
	n, err := read(k.kv(ctx), key, parseU64)
	if err != nil {
		return 0, err
	}
	return n + 1, k.kv(ctx).Set(key, u64(n+1))
}

func (k *Keeper) account(s string) (sdk.AccAddress, error) {
	a, err := address.ParseBech32(address.HRP, s)
	if err != nil {
		return nil, ErrAddress.Wrapf("%q: %v", clip(s), err)
	}
	return a, nil
}

// clip keeps hostile input out of error texts.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80]
	}
	return s
}

// amount reads a positive amount.
func amount(s string) (npos.U128, error) {
	a, err := npos.ParseU128(s)
	if err != nil {
		return a, ErrAmount.Wrap(err.Error())
	}
	if a.IsZero() || npos.MaxTotalStake.Less(a) {
		return a, ErrAmount.Wrapf("%v is not between 1 and %v", a, npos.MaxTotalStake)
	}
	return a, nil
}

func integer(a npos.U128) math.Int { return math.NewIntFromBigInt(a.Big()) }

// natural is the inverse of integer, for amounts that x/bank holds.
func natural(i math.Int) (npos.U128, error) {
	a, err := npos.FromBig(i.BigInt())
	if err != nil {
		return a, ErrAmount.Wrap(err.Error())
	}
	return a, nil
}

func (k *Keeper) coins(a npos.U128) sdk.Coins { return coinsOf(k.denom, a) }

func coinsOf(denom string, a npos.U128) sdk.Coins {
	return sdk.NewCoins(sdk.NewCoin(denom, integer(a)))
}

func emit(ctx context.Context, kind string, attributes ...string) {
	e := sdk.NewEvent("npos_" + kind)
	for i := 0; i+1 < len(attributes); i += 2 {
		e = e.AppendAttributes(sdk.NewAttribute(attributes[i], attributes[i+1]))
	}
	sdk.UnwrapSDKContext(ctx).EventManager().EmitEvent(e)
}
