// Token is money that nobody can watch: who holds how much, who pays whom and what is
// known to the two parties alone. The issuer sees totals.
//
// What the network does see of a command is its size, what it used of gas and what storage
// it bound, each rounded up to a power of two. So that these tell nothing either,
//
//   - amounts are stored in a form of fixed length;
//   - Transfer, TransferFrom and Approve do so nearly the same work that one cannot be told
//     from another, whoever the parties are, whatever the amount, refused or not;
//   - they make no new storage, but for the first approval of a spender: accounts are
//     opened beforehand by who owns them, and stay open.
//
// What remains visible is who pushes a command to the chain, unless somebody else pays
// for it, and when.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/phala-go/phala/contract"
)

// Token is the contract.
type Token struct {
	Issuer     contract.Value[contract.Account]
	Symbol     contract.Value[string]
	Total      contract.Value[amount]
	Holders    contract.Value[amount]
	Payments   contract.Value[amount]
	Balances   contract.Map[contract.Account, amount]
	Allowances contract.Map[string, amount] // by pair
}

// Refusals.
const (
	CodeFunds     = 100 // the balance is too small
	CodeClosed    = 101 // the account has not been opened
	CodeAllowance = 102 // the allowance is too small
	CodeSupply    = 103 // more would exist than can be counted
	CodePrivate   = 104 // somebody else's business
)

// An amount is stored as sixteen hexadecimal digits, whatever its value.
type amount uint64

// MarshalJSON writes the digits.
func (a amount) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"%016x"`, uint64(a)), nil }

// UnmarshalJSON reads the digits.
func (a *amount) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	n, err := strconv.ParseUint(s, 16, 64)
	*a = amount(n)
	return err
}

// pair is the key of an allowance. The length keeps two pairs apart whose accounts are
// one string together.
func pair(owner, spender contract.Account) string {
	return string(rune(len(owner))) + string(owner+spender)
}

// An Issue is what the constructor makes.
type Issue struct {
	Symbol string `json:"symbol"`
	Supply uint64 `json:"supply"`
}

// Init makes the deployer the issuer, who gets the first supply.
func (t *Token) Init(ctx *contract.Command, i Issue) error {
	t.Issuer.Set(ctx.Caller())
	t.Symbol.Set(i.Symbol)
	t.Total.Set(amount(i.Supply))
	t.Holders.Set(1)
	t.Payments.Set(0)
	t.Balances.Set(ctx.Caller(), amount(i.Supply))
	return nil
}

// Mint gives the issuer more.
func (t *Token) Mint(ctx *contract.Command, n uint64) error {
	issuer := t.Issuer.Get()
	if err := ctx.RequireOwner(issuer); err != nil {
		return err
	}
	total := t.Total.Get()
	if n > math.MaxUint64-uint64(total) {
		return contract.Errorf(CodeSupply, "there are %d already, and %d more cannot be counted", uint64(total), n)
	}
	t.Total.Set(total + amount(n))
	had, _ := t.Balances.Get(issuer)
	t.Balances.Set(issuer, had+amount(n)) // at most the total
	return nil
}

// Open opens the caller's account. It costs the caller the storage, and nobody who pays
// into it later.
func (t *Token) Open(ctx *contract.Command) error {
	if _, open := t.Balances.Get(ctx.Caller()); open {
		return nil
	}
	t.Balances.Set(ctx.Caller(), 0)
	t.Holders.Set(t.Holders.Get() + 1)
	return nil
}

// A Payment is what Transfer does.
type Payment struct {
	To     contract.Account `json:"to"`
	Amount uint64           `json:"amount"`
}

// Transfer pays from the caller's account.
func (t *Token) Transfer(ctx *contract.Command, p Payment) error {
	return t.pay(ctx.Caller(), p.To, amount(p.Amount), 1, nil)
}

// A Draft is what TransferFrom does.
type Draft struct {
	From   contract.Account `json:"from"`
	To     contract.Account `json:"to"`
	Amount uint64           `json:"amount"`
}

// TransferFrom pays from an account whose owner allowed the caller to.
func (t *Token) TransferFrom(ctx *contract.Command, d Draft) error {
	key, n := pair(d.From, ctx.Caller()), amount(d.Amount)
	left, _ := t.Allowances.Get(key)
	var refusal error
	if n > left {
		refusal = contract.Errorf(CodeAllowance, "the allowance is smaller than that")
		n = left
	}
	t.Allowances.Set(key, left-n)
	return t.pay(d.From, d.To, n, 1, refusal)
}

// pay moves money and counts it. It reads and writes the same whether the payment is
// refused or not: what a refused command wrote does not stay.
func (t *Token) pay(from, to contract.Account, n, count amount, refusal error) error {
	had, opened := t.Balances.Get(from)
	switch {
	case refusal != nil:
	case !opened:
		refusal = contract.Errorf(CodeClosed, "the payer's account is not open: Open opens it")
	case n > had:
		refusal = contract.Errorf(CodeFunds, "the balance is smaller than that")
	}
	n = min(n, had)
	t.Balances.Set(from, had-n)
	got, open := t.Balances.Get(to)
	if !open && refusal == nil {
		refusal = contract.Errorf(CodeClosed, "the receiver's account is not open: its owner opens it with Open")
	}
	t.Balances.Set(to, got+n) // at most the total
	t.Payments.Set(t.Payments.Get() + count)
	return refusal
}

// An Allowance lets somebody spend.
type Allowance struct {
	Spender contract.Account `json:"spender"`
	Amount  uint64           `json:"amount"`
}

// Approve sets how much the spender may take from the caller's account from now on. A
// spender who sees a smaller allowance coming may use up the old one first; who cannot
// trust it with both sets 0 and looks, before setting another.
func (t *Token) Approve(ctx *contract.Command, a Allowance) error {
	t.Allowances.Set(pair(ctx.Caller(), a.Spender), amount(a.Amount))
	return t.pay(ctx.Caller(), ctx.Caller(), 0, 0, nil) // nothing, so that it looks like a payment
}

// Balance is the caller's own.
func (t *Token) Balance(ctx *contract.Query) (uint64, error) {
	n, open := t.Balances.Get(ctx.Caller())
	if !open {
		return 0, contract.Errorf(CodeClosed, "%q has no account here: sign the query, and open an account with Open", ctx.Caller())
	}
	return uint64(n), nil
}

// A Pair names an allowance.
type Pair struct {
	Owner   contract.Account `json:"owner"`
	Spender contract.Account `json:"spender"`
}

// Allowed is what the spender may take. Only the two may ask.
func (t *Token) Allowed(ctx *contract.Query, p Pair) (uint64, error) {
	if who := ctx.Caller(); who == "" || who != p.Owner && who != p.Spender {
		return 0, contract.Errorf(CodePrivate, "only the owner and the spender may ask: sign the query")
	}
	n, _ := t.Allowances.Get(pair(p.Owner, p.Spender))
	return uint64(n), nil
}

// Totals are what the issuer sees.
type Totals struct {
	Symbol   string `json:"symbol"`
	Supply   uint64 `json:"supply"`
	Holders  uint64 `json:"holders"`
	Payments uint64 `json:"payments"`
}

// Totals are for the issuer alone.
func (t *Token) Totals(ctx *contract.Query) (Totals, error) {
	return Totals{t.Symbol.Get(), uint64(t.Total.Get()), uint64(t.Holders.Get()), uint64(t.Payments.Get())}, ctx.RequireOwner(t.Issuer.Get())
}

func init() { contract.Register(&Token{}) }

func main() {}
