package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/internal/devnet"
)

// events are the attributes of each kind of event in the blocks from a height to another,
// with the block's height where an event has none of its own.
func (e *elections) events(ctx context.Context, t *testing.T, from, top int64) map[string][]map[string]string {
	t.Helper()
	type event struct {
		Type       string
		Attributes []struct{ Key, Value string }
	}
	all := map[string][]map[string]string{}
	for h := from; h <= top; h++ {
		var r struct {
			Result struct {
				Txs   []struct{ Events []event } `json:"txs_results"`
				Block []event                    `json:"finalize_block_events"`
			}
		}
		if err := ask(ctx, "GET", fmt.Sprintf("%s/block_results?height=%d", e.n.Client.Node().URL(), h), &r); err != nil {
			t.Fatal(err)
		}
		list := r.Result.Block
		for _, x := range r.Result.Txs {
			list = append(list, x.Events...)
		}
		for _, ev := range list {
			m := map[string]string{"height": fmt.Sprint(h)}
			for _, a := range ev.Attributes {
				m[a.Key] = a.Value
			}
			all[ev.Type] = append(all[ev.Type], m)
		}
	}
	return all
}

// accounts stops everything and adds up what each account has: the supply of the
// genesis, what was issued and what was burnt, to the last unit.
func (e *elections) accounts(ctx context.Context, t *testing.T) {
	top := height(ctx, t, e.n.Client.Node())
	for _, v := range e.vs {
		reaches(ctx, t, v.Node, top+1)
	}
	events := e.events(ctx, t, 1, top)
	var last time.Time
	longest := time.Duration(0) // without a block
	for h := int64(1); h <= top; h++ {
		b, err := e.n.Client.Node().Header(ctx, h)
		if err != nil {
			t.Fatal(err)
		}
		if h > 2 { // the first one's time is the genesis'
			longest = max(longest, b.Time.Sub(last))
		}
		last = b.Time
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(e.opt.Bin, "phala-node"), "audit", "--home", filepath.Join(e.opt.Dir, e.vs[0].Name)).CombinedOutput(); err == nil || !strings.Contains(string(out), "stop the node first") {
		t.Errorf("the audit of a running node: %v: %s", err, out)
	}
	e.n.Stop()
	type bank struct {
		Bank struct {
			Balances []struct {
				Coins []struct{ Denom, Amount string }
			}
			Supply []struct{ Denom, Amount string }
		}
	}
	sum := func(b *bank) (balances, supply *big.Int) {
		balances, supply = new(big.Int), new(big.Int)
		for _, a := range b.Bank.Balances {
			for _, c := range a.Coins {
				if c.Denom == "ppha" {
					balances.Add(balances, number(t, c.Amount))
				}
			}
		}
		for _, c := range b.Bank.Supply {
			if c.Denom == "ppha" {
				supply.Add(supply, number(t, c.Amount))
			}
		}
		return balances, supply
	}
	var genesis, export struct {
		State bank `json:"app_state"`
	}
	b, err := os.ReadFile(filepath.Join(e.opt.Dir, "node", "config", "genesis.json"))
	if err == nil {
		err = json.Unmarshal(b, &genesis)
	}
	if err != nil {
		t.Fatal(err)
	}
	phalaNode := func(v *devnet.Validator, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, filepath.Join(e.opt.Bin, "phala-node"), append(args, "--home", filepath.Join(e.opt.Dir, v.Name), "--height", fmt.Sprint(top))...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v: %s%s", v.Name, args, err, out, stderr.String())
		}
		return string(out)
	}
	file := filepath.Join(t.TempDir(), "export.json")
	exported := func(v *devnet.Validator) []byte {
		t.Helper()
		phalaNode(v, "export", "--output-document", file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := exported(e.vs[0])
	if err := json.Unmarshal(first, &export); err != nil {
		t.Fatal(err)
	}
	_, want := sum(&genesis.State)
	issued, burnt := new(big.Int), new(big.Int)
	for _, ev := range events["npos_issued"] {
		issued.Add(issued, number(t, ev["stakers"])).Add(issued, number(t, ev["treasury"]))
	}
	for _, ev := range events["burn"] {
		for c := range strings.SplitSeq(ev["amount"], ",") {
			if a, ok := strings.CutSuffix(c, "ppha"); ok {
				burnt.Add(burnt, number(t, a))
			}
		}
	}
	want.Add(want, issued).Sub(want, burnt)
	balances, supply := sum(&export.State)
	if balances.Cmp(want) != 0 || supply.Cmp(want) != 0 || issued.Sign() == 0 {
		t.Errorf("accounts have %s, the supply is %s, genesis with %s issued and %s burnt %s", balances, supply, issued, burnt, want)
	}
	audit := phalaNode(e.vs[0], "audit")
	var found struct {
		Supply, Users string
		Modules       map[string]string
		Stakes        map[string]string
	}
	if err := json.Unmarshal([]byte(audit), &found); err != nil {
		t.Fatal(err)
	}
	total := number(t, found.Users)
	for _, a := range found.Modules {
		total.Add(total, number(t, a))
	}
	if total.Cmp(want) != 0 || number(t, found.Supply).Cmp(want) != 0 {
		t.Errorf("the audit counts %s:\n%s", total, audit)
	}
	// Who was killed, who signed twice and who was offline have the same state.
	for _, v := range []*devnet.Validator{e.vs[2], e.vs[3], e.vs[6]} {
		if got := phalaNode(v, "audit"); got != audit {
			t.Errorf("%s has\n%s\n%s has\n%s", v.Name, got, e.vs[0].Name, audit)
		}
		if !bytes.Equal(exported(v), first) {
			t.Errorf("%s exports another state than %s", v.Name, e.vs[0].Name)
		}
	}
	t.Logf("height %d, %d eras, never more than %s without a block: %s issued, %s burnt; %s", top, len(events["npos_era"]), longest, issued, burnt, audit)
}

func number(t *testing.T, s string) *big.Int {
	t.Helper()
	v, ok := new(big.Int).SetString(s, 10)
	if !ok {
		t.Fatalf("%q is no amount", s)
	}
	return v
}
