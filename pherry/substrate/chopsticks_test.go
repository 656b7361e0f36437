package substrate_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
	"github.com/phala-go/phala/lightclient/grandpa/reads"
	"github.com/phala-go/phala/lightclient/grandpa/storage"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
	"github.com/phala-go/phala/pherry/substrate"
)

// TestChopsticks runs against a real runtime that testdata/chopsticks/run.mjs has started.
func TestChopsticks(t *testing.T) {
	host := os.Getenv("PHALA_CHOPSTICKS")
	if host == "" {
		t.Skip("PHALA_CHOPSTICKS is not set: run npm test in testdata/chopsticks")
	}
	raw, err := os.ReadFile(os.Getenv("PHALA_CHOPSTICKS_SPEC"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Genesis struct {
			Raw struct{ Top map[string]string }
		}
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, scheme := range []string{"http://", "ws://"} {
		c := open(t, scheme+host, substrate.Options{})
		ctx := deadline(t)
		name, err := c.ChainName(ctx)
		if err != nil {
			t.Fatal(err)
		}
		head, err := c.FinalizedHead(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// Chopsticks makes block hashes up; a client that checks them must notice.
		if _, err := c.Header(ctx, head); !errors.Is(err, substrate.ErrProtocol) {
			t.Errorf("header that does not have its hash: %v", err)
		}
		var rpc *substrate.RPCError
		if _, err := c.ReadProof(ctx, head, []byte{0}); !errors.Is(err, substrate.ErrRPC) || !errors.As(err, &rpc) {
			t.Errorf("method that chopsticks does not have: %v", err)
		}
		// The whole state, value by value, makes the trie whose root the node's own header names. The keys are those of
		// the chain specification, since chopsticks lists but a part of a genesis state's keys.
		var header struct{ StateRoot string }
		if err := c.Call(ctx, &header, "chain_getHeader"); err != nil {
			t.Fatal(err)
		}
		var entries []trie.Entry
		for k := range spec.Genesis.Raw.Top {
			var value string
			if err := c.Call(ctx, &value, "state_getStorage", k, head.String()); err != nil {
				t.Fatalf("%s: %v", k, err)
			}
			entries = append(entries, trie.Entry{Key: unhex(k), Value: unhex(value)})
		}
		built := grandpatest.BuildTrie(entries, grandpatest.Version1)
		if got := hex.EncodeToString(built.Root[:]); got != strings.TrimPrefix(header.StateRoot, "0x") {
			t.Errorf("%d entries make root %s, the node says %s", len(entries), got, header.StateRoot)
		}
		// What the typed reads take out of a proof is what the runtime answers when it runs.
		view, err := reads.NewView(reads.Hash(built.Root), built.Prove([][]byte{storage.GrandpaAuthorities(), storage.Value("Grandpa", "Authorities"),
			storage.Value("Grandpa", "CurrentSetId"), storage.Value("Session", "Validators")}, nil))
		if err != nil {
			t.Fatal(err)
		}
		var answer string
		if err := c.Call(ctx, &answer, "state_call", "GrandpaApi_grandpa_authorities", "0x", head.String()); err != nil {
			t.Fatal(err)
		}
		list, err := grandpa.DecodeAuthorities(unhex(answer), false)
		if err != nil || len(list) == 0 {
			t.Fatalf("the runtime's authorities %s: %v", answer, err)
		}
		value, ok, err := view.Raw(storage.GrandpaAuthorities())
		versioned := ok
		if err == nil && !ok {
			value, ok, err = view.Raw(storage.Value("Grandpa", "Authorities"))
		}
		if err != nil || !ok {
			t.Fatalf("authorities in the proof: %v, %v", ok, err)
		}
		proven, err := grandpa.DecodeAuthorities(value, versioned)
		if err != nil || !slices.Equal(proven, list) {
			t.Errorf("proven authorities %v, the runtime's %v, %v", proven, list, err)
		}
		validators, err := view.SessionValidators()
		if err != nil || len(validators) != len(list) {
			t.Errorf("%d session validators, %d authorities, %v", len(validators), len(list), err)
		}
		if scheme == "ws://" {
			sub, err := c.Subscribe(ctx, "chain_subscribeFinalizedHeads", "chain_unsubscribeFinalizedHeads")
			if err != nil {
				t.Fatal(err)
			}
			select {
			case e := <-sub.Events:
				var h struct{ ParentHash, StateRoot string }
				if err := json.Unmarshal(e.Data, &h); err != nil || h.StateRoot == "" {
					t.Errorf("event %s: %v", e.Data, err)
				}
			case <-time.After(time.Minute):
				t.Error("no event of the finalized head")
			}
		}
		t.Logf("%s%s: %d keys, %d authorities", scheme, name, len(entries), len(list))
	}
}
