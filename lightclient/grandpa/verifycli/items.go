package verifycli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/phala-go/phala/lightclient/grandpa/reads"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

// shown is how many entries of a list are printed.
const shown = 5

const absent = "proven absent"

// parseItem turns the argument of a read link into the read.
func parseItem(item string) (func(*reads.View) (string, error), error) {
	name, rest, given := strings.Cut(item, ":")
	var args []string
	if given {
		args = strings.Split(rest, ":")
	}
	want := map[string]int{"number": 0, "now": 0, "events": 0, "digest": 0, "session-validators": 0, "staking-validators": 0,
		"grandpa": 0, "available": 0, "account": 1, "balance": 1, "validator": 1, "head": 1, "downward": 1, "key": 1, "prefix": 1, "hrmp": 2}
	n, known := want[name]
	if !known || n != len(args) {
		return nil, fmt.Errorf("read=%s: no such item (see --help)", item)
	}
	switch name {
	case "account", "balance", "validator":
		b, err := parseHex(item, args[0])
		if err != nil || len(b) != 32 {
			return nil, fmt.Errorf("read=%s: expected an account of 32 bytes in hexadecimal", item)
		}
		return accountItem(name, reads.AccountID(b)), nil
	case "key", "prefix":
		b, err := parseHex(item, args[0])
		if err != nil {
			return nil, err
		}
		return rawItem(name, b), nil
	case "head", "downward", "hrmp":
		var ids []uint32
		for _, a := range args {
			id, err := strconv.ParseUint(a, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("read=%s: expected parachain numbers", item)
			}
			ids = append(ids, uint32(id))
		}
		return paraItem(name, ids), nil
	}
	return plainItem(name), nil
}

func plainItem(name string) func(*reads.View) (string, error) {
	return func(v *reads.View) (string, error) {
		switch name {
		case "number":
			n, err := v.Number()
			return fmt.Sprint(n), err
		case "now":
			t, err := v.Now()
			return formatTime(t), err
		case "events":
			raw, digest, err := v.Events()
			return fmt.Sprintf("%d bytes, digest %s", len(raw), digest), err
		case "digest":
			logs, err := v.Digest()
			return fmt.Sprintf("%d logs", len(logs)), err
		case "session-validators":
			list, err := v.SessionValidators()
			return fmt.Sprintf("%d validators", len(list)), err
		case "staking-validators":
			list, err := v.StakingValidators(trie.MaxNodes)
			return fmt.Sprintf("%d validators, the whole map", len(list)), err
		case "grandpa":
			set, err := v.GrandpaAuthorities()
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("set %d of %d authorities", set.ID(), set.Len()), nil
		}
		entries, _, err := v.Proof.Available(trie.Hash(v.Root), trie.MaxNodes)
		return listEntries(entries), err
	}
}

func accountItem(name string, id reads.AccountID) func(*reads.View) (string, error) {
	return func(v *reads.View) (string, error) {
		switch name {
		case "account":
			a, ok, err := v.Account(id)
			if err != nil || !ok {
				return absent, err
			}
			return fmt.Sprintf("nonce %d, free %s, reserved %s, frozen %s", a.Nonce, a.Free, a.Reserved, a.Frozen), nil
		case "balance":
			b, ok, err := v.PalletBalance(id)
			if err != nil || !ok {
				return absent, err
			}
			return fmt.Sprintf("free %s, reserved %s, frozen %s", b.Free, b.Reserved, b.Frozen), nil
		}
		p, ok, err := v.StakingValidator(id)
		if err != nil || !ok {
			return absent, err
		}
		return fmt.Sprintf("commission %d.%07d %%, blocked %v", p.Commission/10_000_000, p.Commission%10_000_000, p.Blocked), nil
	}
}

func paraItem(name string, ids []uint32) func(*reads.View) (string, error) {
	return func(v *reads.View) (string, error) {
		switch name {
		case "head":
			h, ok, err := v.ParaHead(ids[0])
			if err != nil || !ok {
				return absent, err
			}
			return fmt.Sprintf("%s, state root %s", h.ID(), h.StateRoot), nil
		case "downward":
			head, err := v.DownwardHead(ids[0])
			if err != nil {
				return "", err
			}
			list, err := v.DownwardMessages(ids[0])
			return fmt.Sprintf("head %s, %d messages waiting", head, len(list)), err
		}
		c, ok, err := v.HrmpChannel(ids[0], ids[1])
		if err != nil || !ok {
			return absent, err
		}
		list, err := v.HrmpMessages(ids[0], ids[1])
		return fmt.Sprintf("head %s, %d messages waiting", c.Head, len(list)), err
	}
}

func rawItem(name string, key []byte) func(*reads.View) (string, error) {
	return func(v *reads.View) (string, error) {
		if name == "key" {
			value, ok, err := v.Raw(key)
			if err != nil || !ok {
				return absent, err
			}
			return fmt.Sprintf("%d bytes, %s", len(value), shorten(value)), nil
		}
		entries, err := v.Proof.Prefix(trie.Hash(v.Root), key, trie.MaxNodes)
		return listEntries(entries), err
	}
}

func listEntries(entries []trie.Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", len(entries), map[bool]string{true: "entry", false: "entries"}[len(entries) == 1])
	for i, e := range entries {
		if i == shown {
			fmt.Fprintf(&b, "\n         and %d more", len(entries)-shown)
			break
		}
		fmt.Fprintf(&b, "\n         0x%x = %s", e.Key, shorten(e.Value))
	}
	return b.String()
}

// shorten prints the beginning of a value.
func shorten(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("0x%x…", b[:40])
	}
	return fmt.Sprintf("0x%x", b)
}
