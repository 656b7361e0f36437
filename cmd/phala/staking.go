package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/staking"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/report"
)

// gasStaking is enough for any of these messages; the chain charges what is asked for.
const gasStaking = 2_000_000

var pha = report.Unit{Symbol: staking.Symbol, Decimals: staking.Decimals}

// amountFlag is a flag of an amount, as the chain takes it: empty is none.
type amountFlag string

func (f *amountFlag) String() string { return string(*f) }

func (f *amountFlag) Set(text string) error {
	v, err := baseUnits(text)
	*f = amountFlag(v)
	return err
}

// parsePart reads a fraction, "5%" or "0.05", in billionths.
func parsePart(text string) (uint32, error) {
	number, percent := strings.CutSuffix(text, "%")
	whole, fraction, _ := strings.Cut(number, ".")
	shift := 9
	if percent {
		shift = 7
	}
	if len(fraction) <= shift && whole != "" {
		v, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", shift-len(fraction)), 10, 64)
		if err == nil && v <= npos.Billion {
			return uint32(v), nil
		}
	}
	return 0, fmt.Errorf("%q is no part of a whole: like 5%% or 0.05", text)
}

func percent(billionths uint32) string {
	s := strings.TrimRight(fmt.Sprintf("%d.%07d", billionths/1e7, billionths%1e7), "0")
	return strings.TrimSuffix(s, ".") + "%"
}

// readStaking opens the network for reading.
func (a *app) readStaking() (*staking.Client, error) {
	s, err := a.network()
	if err != nil {
		return nil, err
	}
	return &staking.Client{Node: rpc.New(s.Node)}, nil
}

func runValidators(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala validators", "Shows the validators of an era, who stands for the next, and how far its election is: as the node says, without proof.")
	era := f.Uint64("era", 0, "an era that is kept; the active one without it")
	watch := f.Bool("watch", false, "go on, with a line for each new era and what changed")
	if _, err := need(f, args, 0, 0); err != nil {
		return ignoreHelp(err)
	}
	c, err := a.readStaking()
	if err != nil {
		return err
	}
	e, list, err := validators(ctx, c, *era)
	if err != nil {
		return err
	}
	if err := a.printValidators(e, list); err != nil || !*watch {
		return err
	}
	return a.watchEras(ctx, c, e, list)
}

func validators(ctx context.Context, c *staking.Client, era uint64) (*staking.Era, []staking.Validator, error) {
	e, err := c.Era(ctx, era)
	if err != nil {
		return nil, nil, err
	}
	list, err := c.Validators(ctx, era)
	return e, list, err
}

func (a *app) printValidators(e *staking.Era, list []staking.Validator) error {
	return a.print(map[string]any{"era": e, "validators": list}, func(w io.Writer) {
		fmt.Fprintf(w, "era %d of %d, blocks %d to %d: %d seats, %s behind them, %s issued, %s of fees, %s paid\n",
			e.Era, e.Active, e.StartHeight, e.EndHeight, e.Seats, pha.Format(e.Staked, 2), pha.Format(e.Issued, 2), pha.Format(e.Fees, 2), pha.Format(e.Paid, 2))
		if e.Era == e.Active {
			progress := ""
			if e.Total > 0 {
				progress = fmt.Sprintf(", %d of %d", e.Done, e.Total)
			}
			fmt.Fprintf(w, "next election: %s%s; %d candidates, %d nominators, %s bonded\n", e.Phase, progress, e.Candidates, e.Nominators, pha.Format(e.TotalBonded, 2))
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "\nvalidator\tseat\tsupport\town\tbackers\tbonded now\tcommission\tpoints\tpaid\t")
		for _, v := range list {
			seat := "-"
			switch {
			case v.Disabled:
				seat = "disabled"
			case v.Elected && !v.Candidate && e.Era == e.Active:
				seat = "leaving"
			case v.Elected:
				seat = "yes"
			}
			note := ""
			if v.Slashed > 0 {
				note = "slashed " + percent(v.Slashed)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%d\t%d/%d\t%s\n", v.Operator, seat, pha.Format(v.Total, 2), pha.Format(v.Own, 2), v.Backers,
				pha.Format(v.Bonded, 2), percent(v.Commission), v.Points, v.PaidPages, v.Pages, note)
		}
		t.Flush()
	})
}

// An eraChange is what a new era brought.
type eraChange struct {
	Era    uint64   `json:"era"`
	Height uint64   `json:"height"`
	Seats  uint32   `json:"seats"`
	Joined []string `json:"joined"`
	Left   []string `json:"left"`
}

// watchEras tells of each new era until the context ends.
func (a *app) watchEras(ctx context.Context, c *staking.Client, e *staking.Era, list []staking.Validator) error {
	seated := func(list []staking.Validator) map[string]bool {
		out := map[string]bool{}
		for _, v := range list {
			if v.Elected {
				out[v.Operator] = true
			}
		}
		return out
	}
	had, last := seated(list), e.Active
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		e, list, err := validators(ctx, c, 0)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if e.Active == last {
			continue
		}
		now := seated(list)
		change := eraChange{Era: e.Active, Height: e.StartHeight, Seats: e.Seats, Joined: []string{}, Left: []string{}}
		for _, v := range slices.Sorted(maps.Keys(now)) {
			if !had[v] {
				change.Joined = append(change.Joined, v)
			}
		}
		for _, v := range slices.Sorted(maps.Keys(had)) {
			if !now[v] {
				change.Left = append(change.Left, v)
			}
		}
		had, last = now, e.Active
		if err := a.print(change, func(w io.Writer) {
			fmt.Fprintf(w, "era %d from block %d: %d seats", change.Era, change.Height, change.Seats)
			for _, v := range change.Joined {
				fmt.Fprintf(w, "; %s joined", v)
			}
			for _, v := range change.Left {
				fmt.Fprintf(w, "; %s left", v)
			}
			fmt.Fprintln(w)
		}); err != nil {
			return err
		}
	}
}

// transact sends a message as the account and tells what became of it.
func (a *app) transact(ctx context.Context, what string, msg func(account []byte) tx.Msg) error {
	c, _, err := a.open()
	if err != nil {
		return err
	}
	return a.sent(what)(c.Sender().Send(ctx, gasStaking, msg(c.Account())))
}

func (a *app) sent(what string) func(*rpc.TxResult, error) error {
	return func(res *rpc.TxResult, err error) error {
		if err != nil {
			return err
		}
		return a.print(map[string]any{"done": what, "tx": res.Hash, "height": res.Height}, func(w io.Writer) {
			fmt.Fprintf(w, "%s, height %d, transaction %s\n", what, res.Height, res.Hash)
		})
	}
}

func runNominate(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala nominate VALIDATOR…", "Puts the account's stake behind up to 16 validators; the elections spread it over those of them that win.\nIt replaces the nominations before, from the next election on.")
	var bond amountFlag
	f.Var(&bond, "bond", "amount to bond in addition, in PHA")
	pos, err := need(f, args, 1, 16)
	if err != nil {
		return ignoreHelp(err)
	}
	var targets [][]byte
	for _, p := range pos {
		b, err := findAccount(p)
		if err != nil {
			return err
		}
		targets = append(targets, b)
	}
	return a.transact(ctx, fmt.Sprintf("nominating %d validators", len(targets)), func(me []byte) tx.Msg { return tx.Nominate(me, targets, string(bond)) })
}

func runValidate(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala validate", "Makes the account a candidate, or changes its candidacy. Run the node with the key before you are elected:\nwho does not sign is disabled.")
	var bond amountFlag
	var commission uint32
	f.Var(&bond, "bond", "amount to bond in addition, in PHA")
	f.Func("commission", "part of the rewards that the validator keeps for itself before they are divided: 5% (default 0)", func(s string) (err error) {
		commission, err = parsePart(s)
		return err
	})
	keyFile := f.String("node-key", "", "the node's priv_validator_key.json, or its public key in hexadecimal; a candidate keeps its own without it")
	if _, err := need(f, args, 0, 0); err != nil {
		return ignoreHelp(err)
	}
	key, err := consensusKey(*keyFile)
	if err != nil {
		return err
	}
	return a.transact(ctx, "standing for election with a commission of "+percent(commission), func(me []byte) tx.Msg { return tx.Validate(me, key, commission, string(bond)) })
}

// consensusKey reads the public part of a node's key.
func consensusKey(from string) ([]byte, error) {
	if from == "" {
		return nil, nil
	}
	if b, err := hex.DecodeString(from); err == nil && len(b) == 32 {
		return b, nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return nil, err
	}
	var file struct {
		Public struct{ Type, Value string } `json:"pub_key"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	b, err := base64.StdEncoding.DecodeString(file.Public.Value)
	if err != nil || len(b) != 32 || file.Public.Type != "tendermint/PubKeyEd25519" {
		return nil, fmt.Errorf("%s: no ed25519 public key of a node in it", from)
	}
	return b, nil
}

func runChill(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala chill", "Ends the account's candidacy or nomination from the next election on. The stake stays bonded.")
	if _, err := need(f, args, 0, 0); err != nil {
		return ignoreHelp(err)
	}
	return a.transact(ctx, "chilled", tx.Chill)
}

func runStake(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala stake [ACCOUNT] | bond AMOUNT | unbond AMOUNT | rebond AMOUNT | withdraw", "Shows an account's stake, or changes one's own. What is unbonded can be slashed, and not withdrawn, until its era.")
	pos, err := need(f, args, 0, 2)
	if err != nil {
		return ignoreHelp(err)
	}
	moves := map[string]func([]byte, string) tx.Msg{"bond": tx.Bond, "unbond": tx.Unbond, "rebond": tx.Rebond}
	switch {
	case len(pos) == 1 && pos[0] == "withdraw":
		return a.transact(ctx, "withdrawn", tx.Withdraw)
	case len(pos) == 2 && moves[pos[0]] != nil:
		amount, err := baseUnits(pos[1])
		if err != nil {
			return err
		}
		return a.transact(ctx, pos[0]+" "+pos[1]+" PHA", func(me []byte) tx.Msg { return moves[pos[0]](me, amount) })
	case len(pos) == 2:
		return misused(f, "%q is none of bond, unbond and rebond", pos[0])
	}
	c, s, err := a.open()
	if err != nil {
		return err
	}
	account := ""
	if len(pos) == 1 {
		account, err = accountText(pos[0])
	} else {
		account, err = address.Bech32(address.HRP, c.Account())
	}
	if err != nil {
		return err
	}
	st, err := (&staking.Client{Node: rpc.New(s.Node)}).Staker(ctx, account)
	if err != nil {
		return err
	}
	return a.print(st, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %s bonded\n", st.Account, st.Role, pha.Format(st.Bonded, staking.Decimals))
		for _, t := range st.Targets {
			fmt.Fprintf(w, "  nominates %s\n", t)
		}
		for _, b := range st.Backing {
			fmt.Fprintf(w, "  %s behind %s\n", pha.Format(b.Amount, staking.Decimals), b.Account)
		}
		for _, u := range st.Unbonding {
			fmt.Fprintf(w, "  %s unbonding until era %d\n", pha.Format(u.Amount, staking.Decimals), u.Era)
		}
		if st.Slashes > 0 {
			fmt.Fprintf(w, "  %d deferred slashes name it: nothing can be withdrawn until they are applied or cancelled\n", st.Slashes)
		}
	})
}

func runPayout(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala payout VALIDATOR…", "Pays the rewards of validators and of who stands behind them, for all eras that are kept and not paid. Anyone may.")
	only := f.Uint64("era", 0, "this era alone")
	pos, err := need(f, args, 1, 64)
	if err != nil {
		return ignoreHelp(err)
	}
	c, s, err := a.open()
	if err != nil {
		return err
	}
	read := &staking.Client{Node: rpc.New(s.Node)}
	wanted := map[string][]byte{}
	for _, p := range pos {
		b, err := findAccount(p)
		if err != nil {
			return err
		}
		name, err := address.Bech32(address.HRP, b)
		if err != nil {
			return err
		}
		wanted[name] = b
	}
	e, err := read.Era(ctx, 0)
	if err != nil {
		return err
	}
	params, err := read.Params(ctx)
	if err != nil {
		return err
	}
	first, end := uint64(1), e.Active // an era is paid for when it is over
	if e.Active > params.HistoryEras {
		first = e.Active - params.HistoryEras
	}
	if *only > 0 {
		first, end = *only, *only+1
		if *only >= e.Active {
			return fmt.Errorf("era %d is not over: era %d runs", *only, e.Active)
		}
	}
	done, failed := payEras(first, end, wanted, func(era uint64) ([]staking.Validator, error) {
		return read.Validators(ctx, era)
	}, func(v staking.Validator, era uint64) (string, error) {
		fmt.Fprintf(a.err, "era %d, %s: page %d of %d\n", era, v.Operator, v.PaidPages+1, v.Pages)
		// Each page in a transaction of its own: it has as many payments as a block should take.
		res, err := c.Sender().Send(ctx, gasPayout, tx.Payout(c.Account(), wanted[v.Operator], era))
		if err != nil {
			return "", err
		}
		return res.Hash, nil
	})
	// What was paid is told even when the rest fails.
	return errors.Join(failed, a.print(done, func(w io.Writer) {
		if len(done) == 0 && failed == nil {
			fmt.Fprintln(w, "nothing to pay")
		}
		for _, p := range done {
			fmt.Fprintf(w, "paid %d pages of %s for era %d\n", p.Pages, p.Validator, p.Era)
		}
	}))
}

// A payment is what was paid of a validator's rewards for an era.
type payment struct {
	Validator string `json:"validator"`
	Era       uint64 `json:"era"`
	Pages     uint32 `json:"pages"`
	Tx        string `json:"tx"` // the last one
}

// payEras pays the pages of eras that are not paid, one after the other. It returns what
// it paid with an error, too.
func payEras(first, end uint64, wanted map[string][]byte, list func(era uint64) ([]staking.Validator, error), pay func(v staking.Validator, era uint64) (hash string, err error)) ([]payment, error) {
	done := []payment{}
	for era := first; era < end; era++ {
		validators, err := list(era)
		if err != nil {
			return done, fmt.Errorf("era %d: %w", era, err)
		}
		for _, v := range validators {
			if wanted[v.Operator] == nil || v.PaidPages >= v.Pages || v.Points == 0 {
				continue // who signed nothing earned nothing
			}
			p := payment{Validator: v.Operator, Era: era}
			for ; v.PaidPages < v.Pages && err == nil; v.PaidPages++ {
				var hash string
				if hash, err = pay(v, era); err == nil {
					p.Pages, p.Tx = p.Pages+1, hash
				}
			}
			if p.Pages > 0 {
				done = append(done, p)
			}
			if err != nil {
				return done, fmt.Errorf("era %d of %s: %w", era, v.Operator, err)
			}
		}
	}
	return done, nil
}

// gasPayout is for a page of payments.
const gasPayout = 20_000_000
