package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/internal/devnet"
)

// TestStakingCommands: with four candidates for three seats, a nomination moves a seat. The
// dry run says beforehand which set the chain will elect, and why; afterwards the rewards
// of the first era are paid, once.
func TestStakingCommands(t *testing.T) {
	_, opt := startWith(t, devnet.Options{Workers: 1, Bonds: []int64{1_000_000, 1_000_000, 1_000_000, 1_000_000},
		NPoS: map[string]any{"seats": 3, "session_blocks": 25, "sessions_per_era": 3, "unbonding_eras": 28}})
	phala := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(opt.Bin, "phala"), append(args, "--devnet", opt.Dir)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("phala %v: %w: %s", args, err, stderr.String())
		}
		return string(out), err
	}
	read := func(into any, args ...string) {
		t.Helper()
		out, err := phala(append(args, "--output", "json")...)
		if err == nil {
			err = json.Unmarshal([]byte(out), into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	type set struct {
		Era        struct{ Era uint64 }
		Validators []struct {
			Operator          string
			Elected           bool
			Pages, Paid_Pages int
		}
	}
	seated := func(s *set) (in, out []string) {
		for _, v := range s.Validators {
			if v.Elected {
				in = append(in, v.Operator)
			} else {
				out = append(out, v.Operator)
			}
		}
		return in, out
	}
	var before set
	read(&before, "validators")
	first, left := seated(&before)
	if len(first) != 3 || len(left) != 1 {
		t.Fatalf("seats %v, without %v", first, left)
	}
	if _, err := phala("nominate", left[0], "--bond", "50000"); err != nil {
		t.Fatal(err)
	}
	var dry struct {
		Validators []struct{ ID string }
		Unelected  []struct{ ID string }
		PJR        struct{ Holds bool }
	}
	saved := filepath.Join(t.TempDir(), "election.json")
	read(&dry, "election", "dry-run", "--save", saved)
	var elected []string
	for _, v := range dry.Validators {
		elected = append(elected, v.ID)
	}
	slices.Sort(elected)
	if len(elected) != 3 || !slices.Contains(elected, left[0]) || len(dry.Unelected) != 1 || !dry.PJR.Holds {
		t.Fatalf("the dry run elects %+v", dry)
	}
	if out, err := phala("election", "dry-run", saved); err != nil || !strings.Contains(out, "equal score; 3 validators in both") {
		t.Errorf("the saved election is not the same: %v\n%s", err, out)
	}

	var now set
	for end := time.Now().Add(15 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		now = set{}
		read(&now, "validators")
		in, _ := seated(&now)
		slices.Sort(in)
		if slices.Equal(in, elected) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the chain has %v in era %d, the dry run elected %v", in, now.Era.Era, elected)
		}
	}
	var stake struct {
		Role    string
		Backing []struct{ Account, Amount string }
	}
	read(&stake, "stake")
	if stake.Role != "nominator" || len(stake.Backing) != 1 || stake.Backing[0].Account != left[0] || stake.Backing[0].Amount != "50000000000000000" {
		t.Errorf("%+v", stake)
	}
	svg := filepath.Join(t.TempDir(), "set.svg")
	out, err := phala("election", "report", "--svg", svg)
	if err != nil || !strings.Contains(out, "3 of 4 candidates") {
		t.Errorf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(svg); err != nil || strings.Count(string(b), `class="bar"`) != 3 {
		t.Errorf("the drawing: %v\n%s", err, b)
	}

	var paid, again []struct{ Era uint64 }
	read(&paid, "payout", first[0], "--era", "1")
	read(&again, "payout", first[0], "--era", "1")
	if len(paid) != 1 || len(again) != 0 {
		t.Errorf("paid %v, then %v", paid, again)
	}
	for _, args := range [][]string{{"chill"}, {"stake", "unbond", "50000"}} {
		if _, err := phala(args...); err != nil {
			t.Error(err)
		}
	}
	if out, err = phala("stake"); err != nil || !strings.Contains(out, ": none, 0.") || !strings.Contains(out, "50,000.000000000000 PHA unbonding until era") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, args := range [][]string{{"stake", "rebond", "20000"}, {"stake", "bond", "0.5"}} {
		if _, err := phala(args...); err != nil {
			t.Error(err)
		}
	}
	if out, err = phala("stake"); err != nil || !strings.Contains(out, ": none, 20,000.500000000000 PHA bonded") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = phala("stake", "withdraw"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("before its era: %v\n%s", err, out)
	}
	// A validator changes its commission.
	spec, err := os.ReadFile(filepath.Join(opt.Dir, "network-spec.json"))
	if err != nil {
		t.Fatal(err)
	}
	var network struct{ Validators []struct{ Seed string } }
	if err := json.Unmarshal(spec, &network); err != nil {
		t.Fatal(err)
	}
	key := "0x" + network.Validators[0].Seed
	if out, err = phala("validate", "--commission", "7.5%", "--key", key); err != nil {
		t.Error(err)
	}
	if out, err = phala("stake", "--key", key, "--output", "json"); err != nil || !strings.Contains(out, `"commission": 75000000`) || !strings.Contains(out, `"role": "candidate"`) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := phala("nominate", "//Bob"); err == nil || !strings.Contains(err.Error(), "is no candidate") {
		t.Errorf("nominating somebody who does not stand: %v", err)
	}
}
