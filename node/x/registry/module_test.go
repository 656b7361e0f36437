package registry

import (
	"encoding/json"
	"strings"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

// imported is a chain that began from a genesis of this module.
func imported(t *testing.T, genesis json.RawMessage) *env {
	e := newEnvWith(t, params(t), nil)
	c := testchain.New(t, []string{"mq", ModuleName}, []string{"transient_mq", TransientKey})
	e.Chain = c
	e.k = NewKeeper(c.Store(ModuleName), c.Transient(TransientKey), e.mq, authority)
	e.Start()
	Module{e.k}.InitGenesis(e.Context(), nil, genesis)
	e.Finish()
	return e
}

func TestGenesisRoundTrip(t *testing.T) {
	e := network(t)
	e.Block(e.outbox(1, 1, proto.PublishMasterKey{Public: session(40)}))
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
	// Everything but the hashes of blocks is there.
	want := e.Dump(ModuleName)
	for k := range want {
		if strings.HasPrefix(k, "682f") { // "h/"
			delete(want, k)
		}
	}
	if got := a.Dump(ModuleName); len(got) != len(want) {
		t.Fatalf("%d entries of %d", len(got), len(want))
	}
	// The trust root of the new chain is its own first block.
	a.Begin = append(a.Begin, a.k.BeginBlock)
	a.Block()
	a.Block()
	if err := a.k.trustRoot(a.Context(), a.Height()-1, testchain.HashAt(a.Height()-1)); err != nil {
		t.Fatal(err)
	}
}

func TestDefaultGenesis(t *testing.T) {
	g := Module{}.DefaultGenesis(nil)
	if err := (Module{}).ValidateGenesis(nil, nil, g); err != nil {
		t.Fatal(err)
	}
	e := imported(t, g)
	if roots, err := e.k.store.OpenKVStore(e.Context()).Get(keyRoots); err != nil || roots != nil {
		t.Fatalf("a network is simulated by default: %x, %v", roots, err)
	}
	p, err := e.k.Params(e.Context())
	if err != nil || len(p.GatekeeperOperators) != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestGenesisRefused(t *testing.T) {
	good, err := json.Marshal(Genesis{Params: params(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, genesis string }{
		{"no JSON", `{`},
		{"unknown field", strings.Replace(string(good), `"roots"`, `"root"`, 1)},
		{"bad parameters", strings.Replace(string(good), `"worst_level":4`, `"worst_level":9`, 1)},
		{"key that is no hexadecimal", strings.Replace(string(good), `"state":null`, `"state":[{"key":"zz","value":""}]`, 1)},
		{"trailing brace", string(good) + "}"},
	} {
		if err := (Module{}).ValidateGenesis(nil, nil, []byte(c.genesis)); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
	// Roots that are none stop the chain at its first block, not at the first worker.
	bad := strings.Replace(string(good), `"roots":""`, `"roots":"0102"`, 1)
	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(error).Error(), "roots") {
			t.Fatalf("got %v", r)
		}
	}()
	e := newEnv(t)
	e.Block(func(ctx sdk.Context) error { Module{e.k}.InitGenesis(ctx, nil, []byte(bad)); return nil })
}
