package address

import (
	"errors"
	"testing"
)

func TestBech32(t *testing.T) {
	var account [32]byte
	for i := range account {
		account[i] = byte(i)
	}
	s, err := Bech32(HRP, account[:])
	const want = "phala1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s6hljsj"
	if err != nil || s != want {
		t.Fatalf("got %s, %v", s, err)
	}
	got, err := Parse(s)
	if err != nil || [32]byte(got) != account {
		t.Fatalf("got %x, %v", got, err)
	}
	ss58, err := SS58(SS58Prefix, account)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(ss58); err != nil || [32]byte(got) != account {
		t.Fatalf("%s: got %x, %v", ss58, got, err)
	}
	short, err := Bech32(HRP, make([]byte, 20))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(short); err != nil || len(got) != 20 {
		t.Fatalf("got %x, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	cosmos, _ := Bech32("cosmos", make([]byte, 20))
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"empty", "", ErrSS58},
		{"bech32 checksum", "phala1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s6hljsq", ErrBech32},
		{"SS58 checksum", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQZ", ErrSS58},
		{"SS58 character", "0GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", ErrSS58},
		{"SS58 cut", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKut", ErrSS58},
		{"much too long", string(make([]byte, 1<<20)), ErrSS58},
	} {
		if _, err := Parse(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := ParseBech32(HRP, cosmos); !errors.Is(err, ErrPrefix) {
		t.Errorf("another network: got %v", err)
	}
	if _, err := Bech32(HRP, make([]byte, 21)); !errors.Is(err, ErrLength) {
		t.Errorf("21 bytes: got %v", err)
	}
	if _, err := SS58(16384, [32]byte{}); !errors.Is(err, ErrSS58) {
		t.Errorf("prefix 16384: got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
	f.Add("phala1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s6hljsj")
	f.Fuzz(func(t *testing.T, s string) {
		prefix, account, err := ParseSS58(s)
		if err != nil {
			return
		}
		if back, err := SS58(prefix, account); err != nil || back != s {
			t.Fatalf("%q reads as prefix %d account %x, which is %q", s, prefix, account, back)
		}
	})
}
