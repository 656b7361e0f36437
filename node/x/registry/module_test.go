package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/phala-go/phala/attest"
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
	roots, err := simulated(t).Network.Roots()
	if err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(Genesis{Params: params(t), Class: attest.ClassSimulated, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	if err := (Module{}).ValidateGenesis(nil, nil, good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new string }{
		{"no JSON", string(good), `{`},
		{"trailing brace", string(good), string(good) + "}"},
		{"unknown field", `"roots"`, `"root"`},
		{"bad parameters", `"worst_level":4`, `"worst_level":9`},
		{"key that is no hexadecimal", `"state":null`, `"state":[{"key":"zz","value":""}]`},
		{"roots of a real network", `"class":"simulated"`, `"class":"real"`},
		{"roots of a network of an unknown class", `"class":"simulated"`, `"class":"Simulated"`},
		{"simulated without roots", fmt.Sprintf(`"roots":"%x"`, roots), `"roots":""`},
		{"roots that are none", fmt.Sprintf(`"roots":"%x"`, roots), `"roots":"0102"`},
		{"roots in the raw state", `"state":null`, fmt.Sprintf(`"state":[{"key":"%x","value":"%x"}]`, keyRoots, roots)},
		{"parameters in the raw state", `"state":null`, fmt.Sprintf(`"state":[{"key":"%x","value":"7b7d"}]`, keyParams)},
	} {
		bad := []byte(strings.Replace(string(good), c.old, c.new, 1))
		if string(bad) == string(good) {
			t.Fatalf("%s: nothing is replaced", c.name)
		}
		if err := (Module{}).ValidateGenesis(nil, nil, bad); err == nil {
			t.Errorf("%s: validated", c.name)
		}
		// Nor does a chain begin with it that nobody validated.
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: a chain begins with it", c.name)
				}
			}()
			e := newEnv(t)
			e.Start()
			Module{e.k}.InitGenesis(e.Context(), nil, bad)
		}()
	}
	// A class that nobody knows is real, as none is.
	for _, class := range []string{"", "real", "devnet", "Simulated"} {
		g, err := json.Marshal(Genesis{Params: params(t), Class: class})
		if err != nil {
			t.Fatal(err)
		}
		e := imported(t, g)
		if r, err := e.k.attestationRoots(e.Context()); err != nil || r.Simulated() {
			t.Errorf("class %q: %v", class, err)
		}
	}
	e := imported(t, good)
	if r, err := e.k.attestationRoots(e.Context()); err != nil || !r.Simulated() {
		t.Errorf("simulated: %v", err)
	}
}
