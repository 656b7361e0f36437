package storage_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/phala-go/phala/lightclient/grandpa/storage"
)

func Example() {
	fmt.Printf("%x\n", storage.Value("System", "Number"))
	fmt.Printf("%x\n", storage.Map("Paras", "Heads", storage.Twox64Concat, []byte{0xe8, 0x03, 0, 0})) // ParaId 1000
	// Output:
	// 26aa394eea5630e07c48ae0c9558cef702a5c1b19ab7a04f536c519aca4983ac
	// cd710b30bd2eab0352ddcc26417aa1941b3c252fcb29d88eff4f3de5de4476c3b6ff6f7d467b87a9e8030000
}

// Keys that every Substrate tool agrees on.
func TestWellKnownKeys(t *testing.T) {
	for _, c := range []struct{ pallet, item, want string }{
		{"System", "Number", "26aa394eea5630e07c48ae0c9558cef702a5c1b19ab7a04f536c519aca4983ac"},
		{"System", "Account", "26aa394eea5630e07c48ae0c9558cef7b99d880ec681799c0cf30e8886371da9"},
		{"System", "Events", "26aa394eea5630e07c48ae0c9558cef780d41e5e16056765bc8461851072c9d7"},
		{"Timestamp", "Now", "f0c365c3cf59d671eb72da0e7a4113c49f1f0515f462cdcf84e0f1d6045dfcbb"},
		{"Paras", "Heads", "cd710b30bd2eab0352ddcc26417aa1941b3c252fcb29d88eff4f3de5de4476c3"},
		{"Staking", "Validators", "5f3e4907f716ac89b6347d15ececedca88dcde934c658227ee1dfafcd6e16903"},
		{"Grandpa", "CurrentSetId", "5f9cc45b7a00c5899361e1c6099678dc8a2d09463effcc78a22d75b9cb87dffc"},
	} {
		if got := hex.EncodeToString(storage.Value(c.pallet, c.item)); got != c.want {
			t.Errorf("%s::%s = %s, want %s", c.pallet, c.item, got, c.want)
		}
	}
}

func TestPlainKeys(t *testing.T) {
	if got := string(storage.ChildRoot([]byte("abc"))); got != ":child_storage:default:abc" {
		t.Errorf("child root %q", got)
	}
	// As Polkadot's genesis storage has it.
	if got := hex.EncodeToString(storage.GrandpaAuthorities()); got != "3a6772616e6470615f617574686f726974696573" {
		t.Errorf("grandpa authorities %s", got)
	}
}

// The hashes and keys that @polkadot/util-crypto computes, for inputs of every length around the block sizes.
func TestOracleVectors(t *testing.T) {
	raw, err := os.ReadFile("../testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Input, Twox64, Twox128, Blake2_128, Twox64Concat, Blake2_128Concat string }
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 100 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		in, err := hex.DecodeString(v.Input)
		if err != nil {
			t.Fatal(err)
		}
		t64, t128, b128 := storage.Twox64(in), storage.Twox128(in), storage.Blake2_128(in)
		for _, c := range []struct {
			name, want string
			got        []byte
		}{
			{"twox64", v.Twox64, t64[:]},
			{"twox128", v.Twox128, t128[:]},
			{"blake2_128", v.Blake2_128, b128[:]},
			{"twox64concat", v.Twox64Concat, storage.Twox64Concat(in)},
			{"blake2_128concat", v.Blake2_128Concat, storage.Blake2_128Concat(in)},
		} {
			if hex.EncodeToString(c.got) != c.want {
				t.Errorf("%s(%s) = %x, want %s", c.name, v.Input, c.got, c.want)
			}
		}
	}
}

func TestConcat(t *testing.T) {
	account := bytes.Repeat([]byte{7}, 32)
	enc := append(storage.Blake2_128Concat(account), 1, 2)
	key, rest, ok := storage.Concat(enc, storage.Blake2_128Concat, 16, 32)
	if !ok || !bytes.Equal(key, account) || !bytes.Equal(rest, []byte{1, 2}) {
		t.Errorf("got %x, %x, %v", key, rest, ok)
	}
	for name, bad := range map[string][]byte{
		"short":      enc[:47],
		"other hash": append([]byte{enc[0] ^ 1}, enc[1:]...),
		"other key":  append(append([]byte(nil), enc[:47]...), enc[47]^1),
		"empty":      nil,
	} {
		if _, _, ok := storage.Concat(bad, storage.Blake2_128Concat, 16, 32); ok {
			t.Errorf("%s accepted", name)
		}
	}
	if id := storage.Identity(account); !bytes.Equal(id, account) {
		t.Errorf("identity %x", id)
	}
}
