package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
)

// TestNetworkFile: a file that describes a network is enough to use one, keeps the names
// that deploy gives, and says what it lacks.
func TestNetworkFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "network.json")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := strings.Repeat("ab", 32)
	good := `{"chain": "phala-1", "node": "http://node:26657", "root_height": 5, "root": "` + root + `"}`
	a := &app{out: io.Discard, err: io.Discard, file: file}
	write(good)
	s, err := a.network()
	if err != nil || s.Chain != "phala-1" || s.RootHeight != 5 || s.Root.String() != root || s.Cluster != 1 || s.Simulated {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := a.remember("mine", proto.ContractID{7}); err != nil {
		t.Fatal(err)
	}
	if s, err = a.network(); err != nil || s.Contracts["mine"] != (proto.ContractID{7}) || s.Root.String() != root {
		t.Fatalf("%+v, %v", s, err)
	}
	a.root = "9:" + strings.Repeat("cd", 32)
	if s, err = a.network(); err != nil || s.RootHeight != 9 {
		t.Errorf("with --trust-root: %+v, %v", s, err)
	}
	a.root = ""
	for name, text := range map[string]string{
		"no root": `{"chain": "phala-1", "node": "http://node:26657"}`, "no chain": strings.Replace(good, "phala-1", "", 1),
		"unknown field": strings.Replace(good, `"root_height"`, `"hight": 1, "root_height"`, 1), "no JSON": "chain: phala-1",
	} {
		write(text)
		if _, err := a.network(); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.file = file + ".not"
	if _, err := a.network(); err == nil {
		t.Error("a file that is not there")
	}
}
