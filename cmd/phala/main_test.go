package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
)

// TestUsage: arguments that make no sense end with what is wrong and the help, or, for
// programs, with that alone, as JSON on standard output.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"no such command", []string{"frobnicate"}, `no command "frobnicate"`},
		{"too few", []string{"receipt", "1"}, "too few arguments: 1, at least 2 are needed"},
		{"too many", []string{"send", "//Bob", "1", "2"}, "at most 2 are taken"},
		{"no such flag", []string{"call", "hello", "Add", "--gaz", "1"}, "not defined: -gaz"},
		{"no number", []string{"call", "hello", "Add", "1", "--gas", "much"}, `invalid value "much" for flag -gas`},
		{"negative number", []string{"call", "hello", "Add", "-5"}, "behind two dashes: … -- -5"},
		{"keys without a verb's name", []string{"keys", "add"}, "add takes a name"},
		{"no verb of keys", []string{"keys", "steal", "x"}, `"steal" is none of`},
		{"no verb of keys, and no name", []string{"keys", "lst"}, `"lst" is none of`},
		{"list with a name", []string{"keys", "list", "x"}, "list takes no name"},
		{"both of two", []string{"revoke"}, "either a grant or --all"},
		{"no stake's verb", []string{"stake", "burn", "1"}, `"burn" is none of`},
		{"nothing of an election", []string{"election", "win"}, "dry-run or report"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errs, err := phala(t, c.args...)
			if !errors.Is(err, errUsage) || out != "" || !strings.HasPrefix(errs, "phala: ") || !strings.Contains(errs, c.says) || !strings.Contains(errs, "\n\nphala ") {
				t.Errorf("got %v\n%s\n%s", err, out, errs)
			}
			for _, json := range [][]string{{"--output", "json"}, {"-output=json"}} {
				args := append(append([]string{}, c.args[:1]...), append(json, c.args[1:]...)...)
				out, errs, err := phala(t, args...)
				if !errors.Is(err, errUsage) || errs != "" || errorCode(t, out) != "usage" || !strings.Contains(out, strings.Trim(strings.ReplaceAll(c.says, `"`, `\"`), `\"`)) {
					t.Errorf("with %v: got %v\n%s\n%s", json, err, out, errs)
				}
			}
		})
	}
}

// errorCode is the code of an error as JSON.
func errorCode(t *testing.T, out string) string {
	t.Helper()
	var v struct{ Error, Code string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Error == "" {
		t.Errorf("%v: %s", err, out)
	}
	return v.Code
}

// TestHelpShowsNoSecret: the key that the environment names is not in help, and so in no
// log of a build that calls with wrong arguments.
func TestHelpShowsNoSecret(t *testing.T) {
	const phrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk"
	t.Setenv("PHALA_KEY", phrase)
	for _, args := range [][]string{{"call", "--help"}, {"call"}, {"receipt", "1"}, {"query", "x", "y", "--no-such-flag"}, {"help"}, {"nothing"}} {
		out, errs, _ := phala(t, args...)
		if strings.Contains(out+errs, "bottom") {
			t.Errorf("%v prints the key:\n%s%s", args, out, errs)
		}
	}
	// It is the key all the same.
	a := &app{}
	if _, err := need(a.flags("", ""), nil, 0, 0); err != nil || a.key != phrase {
		t.Errorf("key %q, %v", a.key, err)
	}
	if _, err := need(a.flags("", ""), []string{"--key", "//Bob"}, 0, 0); err != nil || a.key != "//Bob" {
		t.Errorf("key %q, %v", a.key, err)
	}
}

// TestNothingListens: who forgot to start the network, or started another one at its port,
// hears how to.
func TestNothingListens(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"result": {"node_info": {"network": "phala-2"}, "sync_info": {"latest_block_height": "7"}}}`)
	}))
	defer other.Close()
	for node, class := range map[string]error{gone.URL: rpc.ErrNotSent, other.URL: client.ErrTrustRoot} {
		dir := t.TempDir()
		network := fmt.Sprintf(`{"chain": "phala-1", "node": %q, "root_height": 5, "root": %q}`, node, strings.Repeat("ab", 32))
		for _, file := range []string{"devnet.json", "network.json"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(network), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := phala(t, "status", "--devnet", dir); !errors.Is(err, class) || !strings.HasSuffix(err.Error(), "; start it with: bin/phala devnet --devnet "+dir) {
			t.Errorf("a devnet: %v", err)
		}
		file := filepath.Join(dir, "network.json")
		if out, _, err := phala(t, "status", "--network", file, "--output", "json"); err == nil || !strings.Contains(out, "see what "+file+" says of the network") {
			t.Errorf("another network: %v: %s", err, out)
		}
	}
}
