package e2e

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/client/staking"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/npos"
)

// TestElections: seven nodes over many eras, of whom five are validators at a time.
// Nominations move seats, one joins, one leaves; one is killed while elections run, one
// signs twice, one goes offline. The chain never stands still, those who misbehave lose
// what they should and nothing else, and in the end every unit of the supply is where
// the records say: on each node the same.
func TestElections(t *testing.T) {
	eras := map[string]any{"seats": 5, "unbonding_eras": 2, "slash_defer_eras": 1}
	for k, v := range shortEras {
		eras[k] = v
	}
	n, opt := startWith(t, devnet.Options{Workers: 1, Bonds: []int64{1_000_000, 990_000, 980_000, 970_000, 960_000, 950_000, 0}, NPoS: eras,
		Slashing: map[string]any{"signed_blocks_window": "40"}})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	vs, err := n.Validators()
	if err != nil {
		t.Fatal(err)
	}
	e := &elections{n: n, opt: opt, vs: vs, chain: &staking.Client{Node: n.Client.Node()}}
	watch := e.watch(ctx, t)
	for _, s := range []struct {
		name string
		run  func(context.Context, *testing.T)
	}{
		{"nominations move seats, and one is killed in elections", e.move},
		{"one signs twice", e.signTwice},
		{"one goes offline", e.offline},
		{"rewards are paid and stakes withdrawn", e.pay},
	} {
		if !t.Run(s.name, func(t *testing.T) { s.run(ctx, t) }) {
			t.FailNow()
		}
	}
	watch()
	t.Run("accounts add up", func(t *testing.T) { e.accounts(ctx, t) })
}

type elections struct {
	n     *devnet.Net
	opt   devnet.Options
	vs    []*devnet.Validator
	chain *staking.Client
}

func named(t *testing.T, s *tx.Sender) string {
	t.Helper()
	text, err := address.Bech32(address.HRP, account(s.Key))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// seats are the validators of the active era, by their places in e.vs.
func (e *elections) seats(ctx context.Context, t *testing.T) (out []int, list []staking.Validator) {
	t.Helper()
	list, err := e.chain.Validators(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range e.vs {
		if s := e.find(list, v); s != nil && s.Elected {
			out = append(out, i)
		}
	}
	return out, list
}

func (e *elections) find(list []staking.Validator, v *devnet.Validator) *staking.Validator {
	i := slices.IndexFunc(list, func(s staking.Validator) bool {
		return slices.Equal(s.ConsensusKey, []byte(v.Consensus.Public().(ed25519.PublicKey)))
	})
	if i < 0 {
		return nil
	}
	return &list[i]
}

func (e *elections) send(ctx context.Context, t *testing.T, by *tx.Sender, msgs ...tx.Msg) {
	t.Helper()
	for _, m := range msgs {
		res, err := by.Send(ctx, 2_000_000, m)
		if err != nil {
			t.Fatalf("%s of %s: %v", m.Type, named(t, by), err)
		}
		// A validator sends by its own node. The first one, which is asked for what came of
		// it, may execute the block later.
		reaches(ctx, t, e.n.Client.Node(), res.Height+1)
	}
}

// move: Alice's stake seats one, then another; one joins and one leaves. Meanwhile a
// validator is killed in each election and started again: one that elected others than
// the rest would stop at the first block of another state.
func (e *elections) move(ctx context.Context, t *testing.T) {
	if got, _ := e.seats(ctx, t); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Fatalf("the first era has %v", got)
	}
	victim, last, killed := e.vs[2], uint64(0), 0
	elects := func(want ...int) {
		t.Helper()
		before := killed
		until(ctx, t, fmt.Sprintf("seats of %v", want), func() error {
			era, err := e.chain.Era(ctx, 0)
			if err != nil {
				return err
			}
			if era.Phase != "idle" && era.Active != last {
				if err := e.n.Kill(victim.Name); err != nil {
					t.Fatal(err)
				}
				grows(ctx, t, e.n.Client.Node(), 2) // without it
				if err := e.n.Run(victim.Name); err != nil {
					t.Fatal(err)
				}
				last, killed = era.Active, killed+1
				reaches(ctx, t, victim.Node, height(ctx, t, e.n.Client.Node()))
			}
			if got, _ := e.seats(ctx, t); !slices.Equal(got, want) {
				return fmt.Errorf("era %d has %v", era.Active, got)
			}
			if killed == before {
				return errors.New("none was killed in an election")
			}
			return nil
		})
	}
	alice := e.n.Client.Sender()
	nominate := func(v int, bond string) tx.Msg {
		return tx.Nominate(account(alice.Key), [][]byte{account(e.vs[v].Operator.Key)}, bond)
	}
	e.send(ctx, t, alice, nominate(5, units(100_000)))
	join(ctx, t, e.vs[6], 985_000)
	leave(ctx, t, e.vs[1])
	e.send(ctx, t, e.vs[1].Operator, tx.Unbond(account(e.vs[1].Operator.Key), units(500_000)))
	elects(0, 2, 3, 5, 6)
	e.send(ctx, t, alice, nominate(4, ""))
	elects(0, 2, 3, 4, 6)
	top := height(ctx, t, e.n.Client.Node())
	for _, v := range e.vs {
		reaches(ctx, t, v.Node, top)
	}
}

// signTwice runs a second process with a validator's key, that knows nothing of what
// the first one signed: what becomes of an operator who starts a copy.
func (e *elections) signTwice(ctx context.Context, t *testing.T) {
	twin, node := e.vs[3], e.n.Client.Node()
	home, original := filepath.Join(e.opt.Dir, "twin"), filepath.Join(e.opt.Dir, twin.Name)
	for name, data := range map[string]string{"config/config.toml": "", "config/app.toml": "", "config/genesis.json": "", "config/priv_validator_key.json": "",
		"data/priv_validator_state.json": `{"height":"0","round":0,"step":0}`} {
		b, err := []byte(data), error(nil)
		if data == "" {
			b, err = os.ReadFile(filepath.Join(original, name))
		}
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700), os.WriteFile(filepath.Join(home, name), b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	_, list := e.seats(ctx, t)
	before, from := *e.find(list, twin), height(ctx, t, node)
	if err := e.n.Also("twin", twin.Name, "--home="+home, fmt.Sprintf("--rpc.laddr=tcp://127.0.0.1:%d", freePort(t)), fmt.Sprintf("--p2p.laddr=tcp://127.0.0.1:%d", freePort(t))); err != nil {
		t.Fatal(err)
	}
	var reports []map[string]string
	until(ctx, t, "its double signature is found", func() error {
		top := height(ctx, t, node) - 1 // the newest block may not be executed yet
		if reports = e.events(ctx, t, from, top)["npos_equivocation"]; len(reports) > 0 {
			return nil
		}
		begin := from
		from = max(from, top+1)
		return fmt.Errorf("not in blocks %d to %d", begin, top)
	})
	if err := e.n.Kill("twin"); err != nil {
		t.Fatal(err)
	}
	// What it signed until then is found soon, too.
	top := height(ctx, t, node) + 5
	reaches(ctx, t, node, top+1)
	events := e.events(ctx, t, from, top)
	reports = events["npos_equivocation"]
	if reports[0]["validator"] != named(t, twin.Operator) {
		t.Fatalf("reports %v", reports)
	}
	era, err := strconv.ParseUint(reports[0]["era"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	// (3 * 1/5)^2 of what stood behind it then: its own, and nobody else's. It may be
	// found out in the era after.
	list, err = e.chain.Validators(ctx, era)
	if err != nil {
		t.Fatal(err)
	}
	if v := e.find(list, twin); v == nil || v.Slashed != 360_000_000 || v.Total != v.Own || v.Own != before.Bonded {
		t.Fatalf("in era %d it has\n%+v, had\n%+v", era, v, before)
	}
	e.outOfTheSet(ctx, t, twin, events)
	lost, _ := npos.MulDiv(before.Bonded, npos.U64(360_000_000), npos.U64(npos.Billion))
	until(ctx, t, "the slash is applied", func() error {
		s, err := e.chain.Staker(ctx, named(t, twin.Operator))
		if err == nil && s.Bonded == before.Bonded {
			err = errors.New("not yet")
		}
		return err
	})
	// An era that ended before the twin did made it two offences, and what both cost is
	// taken at different times.
	if last := reports[len(reports)-1]["era"]; last != reports[0]["era"] {
		t.Logf("it signed twice in era %d, and again in era %s", era, last)
		return
	}
	s, err := e.chain.Staker(ctx, named(t, twin.Operator))
	if err != nil || s.Bonded != before.Bonded.SaturatingSub(lost) {
		t.Fatalf("%+v, %v: of %v %v should be lost", s, err, before.Bonded, lost)
	}
	taken := new(big.Int)
	for _, ev := range e.events(ctx, t, from, height(ctx, t, node))["npos_slashed"] {
		taken.Add(taken, number(t, ev["amount"]))
	}
	if taken.Cmp(lost.Big()) != 0 {
		t.Errorf("slashes took %s, %v should be lost", taken, lost)
	}
}

// outOfTheSet checks that a validator signs no more from two blocks after the one that
// disables it, unless an era ends with that block.
func (e *elections) outOfTheSet(ctx context.Context, t *testing.T, v *devnet.Validator, events map[string][]map[string]string) {
	t.Helper()
	i := slices.IndexFunc(events["npos_disabled"], func(ev map[string]string) bool { return ev["validator"] == named(t, v.Operator) })
	if i < 0 {
		// Where another one of five is disabled already it stays.
		if len(events["npos_not_disabled"]) == 0 {
			t.Errorf("it is not disabled: %v", events)
		}
		return
	}
	at := events["npos_disabled"][i]["height"]
	if slices.ContainsFunc(events["npos_era"], func(ev map[string]string) bool { return ev["height"] == at }) {
		t.Logf("its era ended with block %s, which disabled it", at)
		return
	}
	b, err := e.n.Client.Node().LightBlock(ctx, number(t, at).Int64()+2)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(b.Validators.Validators, func(s comet.Validator) bool {
		return slices.Equal(s.PublicKey[:], v.Consensus.Public().(ed25519.PublicKey))
	}) {
		t.Errorf("disabled in block %s, it still signs block %d", at, b.Header.Height)
	}
}

// offline: a validator stops. It loses its vote until the era ends, and no stake.
func (e *elections) offline(ctx context.Context, t *testing.T) {
	who := e.vs[6]
	_, list := e.seats(ctx, t)
	before := *e.find(list, who)
	if err := e.n.End(who.Name); err != nil {
		t.Fatal(err)
	}
	var now staking.Validator
	until(ctx, t, "its silence is noticed", func() error {
		_, list := e.seats(ctx, t)
		if now = *e.find(list, who); !now.Disabled {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	if now.Slashed != 0 || now.Bonded != before.Bonded {
		t.Errorf("it has\n%+v, had\n%+v", now, before)
	}
	if err := e.n.Run(who.Name); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "it signs again", func() error {
		_, list := e.seats(ctx, t)
		if now = *e.find(list, who); !now.Elected || now.Disabled || now.Points == 0 {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
}

// pay pays what validators and those behind them earned, and lets who left have what
// is no longer bonded.
func (e *elections) pay(ctx context.Context, t *testing.T) {
	alice := e.n.Client.Sender()
	paid := 0
	now, err := e.chain.Era(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for era := uint64(1); era < now.Active; era++ {
		list, err := e.chain.Validators(ctx, era)
		if err != nil {
			t.Fatal(err)
		}
		if v := e.find(list, e.vs[4]); v != nil && v.Points > 0 {
			if _, err := alice.Send(ctx, 20_000_000, tx.Payout(account(alice.Key), account(e.vs[4].Operator.Key), era)); err != nil {
				t.Fatalf("era %d: %v", era, err)
			}
			paid++
		}
	}
	if paid < 3 {
		t.Errorf("%d eras paid", paid)
	}
	until(ctx, t, "what is not bonded any more to come free", func() error {
		now, err := e.chain.Era(ctx, 0)
		if err != nil {
			return err
		}
		s, err := e.chain.Staker(ctx, named(t, e.vs[1].Operator))
		if err != nil {
			return err
		}
		for _, u := range s.Unbonding {
			if u.Era > now.Active {
				return fmt.Errorf("in era %d of %d", now.Active, u.Era)
			}
		}
		return nil
	})
	e.send(ctx, t, e.vs[1].Operator, tx.Withdraw(account(e.vs[1].Operator.Key)))
	s, err := e.chain.Staker(ctx, named(t, e.vs[1].Operator))
	if err != nil || s.Bonded.String() != units(490_000) || len(s.Unbonding) > 0 {
		t.Errorf("%+v, %v", s, err)
	}
	e.send(ctx, t, alice, tx.Unbond(account(alice.Key), units(40_000)))
}

// watch runs "phala validators --watch" and returns how to end it, once it has told of
// the active era: it told of each era and of the seats that changed.
func (e *elections) watch(ctx context.Context, t *testing.T) (end func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "watch.json")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(e.opt.Bin, "phala"), "validators", "--watch", "--output", "json", "--devnet", e.opt.Dir)
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = out, &stderr
	if err := errors.Join(cmd.Start(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		var told string
		until(ctx, t, "the watch to tell of the active era", func() error {
			era, err := e.chain.Era(ctx, 0)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(file)
			if told = string(b); err == nil && !(strings.Contains(told, fmt.Sprintf("\"era\": %d,", era.Active)) && strings.HasSuffix(told, "}\n")) {
				err = fmt.Errorf("era %d is not in\n%s", era.Active, told)
			}
			return err
		})
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		d := json.NewDecoder(strings.NewReader(told))
		var first struct{ Validators []json.RawMessage }
		if err := d.Decode(&first); err != nil || len(first.Validators) != 6 {
			t.Fatalf("%d candidates at first, %v", len(first.Validators), err)
		}
		eras, joined, left := 0, map[string]bool{}, map[string]bool{}
		for d.More() {
			var c struct {
				Era, Seats   uint64
				Joined, Left []string
			}
			if err := d.Decode(&c); err != nil || c.Seats != 5 || len(c.Joined) != len(c.Left) {
				t.Fatalf("%+v, %v", c, err)
			}
			eras++
			for _, v := range c.Joined {
				joined[v] = true
			}
			for _, v := range c.Left {
				left[v] = true
			}
		}
		if eras < 5 {
			t.Errorf("it told of %d eras", eras)
		}
		for i, v := range e.vs {
			name := named(t, v.Operator)
			if in, gone := i == 4 || i == 5 || i == 6, i == 1 || i == 3 || i == 4 || i == 5; joined[name] != in || left[name] != gone {
				t.Errorf("%s: joined %v, left %v:\n%s", v.Name, joined[name], left[name], told)
			}
		}
	}
}
