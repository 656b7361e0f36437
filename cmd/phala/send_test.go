package main

import (
	"strings"
	"testing"

	"github.com/phala-go/phala/contract"
)

func TestBaseUnits(t *testing.T) {
	for s, want := range map[string]string{"1": "1000000000000", "0.05": "50000000000", "12.000000000001": "12000000000001", ".5": "500000000000", "007": "7000000000000",
		"123456789012345678": "123456789012345678000000000000"} {
		if got, err := baseUnits(s); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", ".", "1.", "0", "0.0", "-1", "+1", "1e3", "1,5", "1.0000000000001", "0x10", " 1", "1 ", "1.2.3", "NaN", strings.Repeat("9", 31)} {
		if got, err := baseUnits(s); err == nil {
			t.Errorf("%q is taken as %s base units", s, got)
		}
	}
}

func TestAccountText(t *testing.T) {
	t.Setenv("PHALA_KEYS", t.TempDir())
	t.Setenv("PHALA_PASSPHRASE", "x")
	const bob = "//Bob"
	want, err := accountText(bob)
	if err != nil || !strings.HasPrefix(want, "phala1") {
		t.Fatal(want, err)
	}
	if _, err := saveKey("bob", bob); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{want, "bob", "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"} { // the last is Bob's on Substrate
		if got, err := accountText(s); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", s, got, err, want)
		}
	}
	changed := want[:len(want)-1] + "q"
	if changed == want {
		changed = want[:len(want)-1] + "p"
	}
	for s, says := range map[string]string{"": "", "nobody": "no key of that name", changed: "checksum", "//": "", "0x398f0c28f98885e046333d4a41c19cee4c37368a9832c6502f6cfd182e2aef89": "", "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694tz": ""} {
		if got, err := accountText(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %s, %v, want an error that says %q", s, got, err, says)
		}
	}
	// As an argument it becomes the address, inside an object as well.
	account := &contract.Type{Kind: "account"}
	v, err := plainArgument([]string{bob}, account)
	if err != nil || v != want {
		t.Errorf("got %v, %v", v, err)
	}
	v, err = plainArgument([]string{"to=bob", "note=bob"}, &contract.Type{Kind: "object", Fields: []contract.Field{{Name: "to", Type: account}, {Name: "note", Type: &contract.Type{Kind: "string"}}}})
	if m, ok := v.(map[string]any); err != nil || !ok || m["to"] != want || m["note"] != "bob" {
		t.Errorf("got %v, %v", v, err)
	}
}
