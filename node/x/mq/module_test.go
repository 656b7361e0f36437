package mq

import (
	"encoding/json"
	"strings"
	"testing"

	dbm "github.com/cosmos/cosmos-db"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

// imported is an empty chain that began from a genesis.
func imported(t *testing.T, genesis json.RawMessage) *env {
	e := &env{Chain: testchain.New(t, []string{ModuleName}, []string{TransientKey}), t: t, db: dbm.NewMemDB()}
	e.k = NewKeeper(e.Store(ModuleName), e.Transient(TransientKey), NewBodies(e.db))
	e.Block(func(ctx sdk.Context) error { Module{e.k}.InitGenesis(ctx, nil, genesis); return nil })
	return e
}

func TestGenesisRoundTrip(t *testing.T) {
	e := newEnv(t)
	e.Block(e.submit(run(1, 1, 1, 2, 3), nil), e.submit(run(2, 1, 1), nil))
	e.fill()
	first := Module{e.k}.ExportGenesis(e.Context(), nil)
	if err := (Module{}).ValidateGenesis(nil, nil, first); err != nil {
		t.Fatal(err)
	}
	a, b := imported(t, first), imported(t, first)
	if second := (Module{a.k}).ExportGenesis(a.Context(), nil); string(second) != string(first) {
		t.Fatalf("exported again:\n%s\nwant\n%s", second, first)
	}
	if string(a.MS.LastCommitID().Hash) != string(b.MS.LastCommitID().Hash) {
		t.Fatal("two imports have different app hashes")
	}
	if a.next(1) != 4 || a.next(2) != 2 || a.next(3) != 1 || a.cursor(proto.TopicCluster(1)) != e.cursor(proto.TopicCluster(1)) {
		t.Fatal("the imported chain goes on elsewhere")
	}
}

func TestDefaultGenesis(t *testing.T) {
	g := Module{}.DefaultGenesis(nil)
	if err := (Module{}).ValidateGenesis(nil, nil, g); err != nil {
		t.Fatal(err)
	}
	e := imported(t, g)
	for _, topic := range []string{proto.TopicSystem, proto.TopicGatekeeper} {
		if got := e.cursor(topic); got != proto.CreatedCursor(testchain.ID, topic) {
			t.Errorf("%s begins at %v", topic, got)
		}
	}
}

func TestGenesisRefused(t *testing.T) {
	head := strings.Repeat("ab", 32)
	for _, c := range []struct{ name, genesis, want string }{
		{"no JSON", `[`, "unexpected EOF"},
		{"head too short", `{"topics":[{"topic":"system","seq":"1","head":"ab"}]}`, "malformed"},
		{"head no hexadecimal", `{"topics":[{"topic":"system","seq":"1","head":"xyz"}]}`, "malformed"},
		{"topic without a name", `{"topics":[{"topic":"","seq":"1","head":"` + head + `"}]}`, "malformed"},
		{"name too long", `{"topics":[{"topic":"` + strings.Repeat("x", proto.MaxTopic+1) + `","seq":"1","head":"` + head + `"}]}`, "malformed"},
		{"topic twice", `{"topics":[{"topic":"a","seq":"1","head":"` + head + `"},{"topic":"a","seq":"1","head":"` + head + `"}]}`, "twice"},
		{"outbox of no worker", `{"outbox":[{"worker":"ab","next":"1"}]}`, "malformed"},
		{"outbox at zero", `{"outbox":[{"worker":"` + head + `","head":"` + head + `","next":"0"}]}`, "malformed"},
		{"outbox twice", `{"outbox":[{"worker":"` + head + `","head":"` + head + `","next":"1"},{"worker":"` + head + `","head":"` + head + `","next":"2"}]}`, "twice"},
		{"unknown field", `{"topic":[]}`, "unknown field"},
		{"two values", `{"topics":[]} {}`, "more than one"},
		{"a closing brace too many", `{"topics":[]}}`, "more than one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := (Module{}).ValidateGenesis(nil, nil, []byte(c.genesis)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q in it", err, c.want)
			}
			defer func() {
				if recover() == nil {
					t.Fatal("the chain begins from it")
				}
			}()
			imported(t, []byte(c.genesis))
		})
	}
}
