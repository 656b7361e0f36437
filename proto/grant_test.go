package proto_test

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
)

func TestGrantText(t *testing.T) {
	g := filled(fixGrant)
	text, err := g.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	got := new(proto.Grant)
	if err := got.UnmarshalText(text); err != nil || !reflect.DeepEqual(got, g) {
		t.Fatalf("%s is %+v, %v", text, got, err)
	}
	code := strings.TrimPrefix(string(text), "phala-grant:")
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", code[len(code)-1])
	if len(code)%4 == 0 {
		t.Fatal("the example's last digit has no spare bits: the case below tests nothing")
	}
	spare := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last|1]
	long := base64.RawURLEncoding.EncodeToString(make([]byte, proto.MaxGrant+1))
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"nothing", "", proto.ErrGrantText},
		{"no prefix", code, proto.ErrGrantText},
		{"another prefix", "phala-Grant:" + code, proto.ErrGrantText},
		{"padding", string(text) + "=", proto.ErrGrantText},
		{"another alphabet", "phala-grant:" + code[:8] + "+/" + code[10:], proto.ErrGrantText},
		{"a line break", "phala-grant:" + code[:8] + "\n" + code[8:], proto.ErrGrantText},
		{"a line break behind it", string(text) + "\r\n", proto.ErrGrantText},
		{"spare bits", "phala-grant:" + code[:len(code)-1] + string(spare), proto.ErrGrantText},
		{"too long", "phala-grant:" + long, proto.ErrGrantText},
		{"cut", "phala-grant:" + code[:len(code)/8*4], wire.ErrShort},
		{"empty", "phala-grant:", wire.ErrShort},
	} {
		kept := *g
		if err := kept.UnmarshalText([]byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if !reflect.DeepEqual(&kept, g) {
			t.Errorf("%s: a refused text changed the grant", c.name)
		}
	}
}

// FuzzGrantText: no two texts are one grant.
func FuzzGrantText(f *testing.F) {
	text, _ := filled(fixGrant).MarshalText()
	f.Add(string(text))
	f.Add("phala-grant:")
	f.Add(string(text[:60]))
	f.Fuzz(func(t *testing.T, s string) {
		g := new(proto.Grant)
		if g.UnmarshalText([]byte(s)) != nil {
			return
		}
		if got, err := g.MarshalText(); err != nil || string(got) != s {
			t.Errorf("%q is the grant of %q, %v", s, got, err)
		}
	})
}

func TestGrantCovers(t *testing.T) {
	g := filled(fixGrant)
	for i, id := range g.Contracts {
		if !g.Covers(id) {
			t.Errorf("it does not cover its contract %d", i)
		}
	}
	if g.Covers(proto.ContractID{}) || g.Covers(proto.ContractID{1}) {
		t.Error("it covers a contract that it does not name")
	}
}

// TestSignedFields: whatever is changed in a grant, or in a query under one, changes what
// is signed, and so does another chain or session.
func TestSignedFields(t *testing.T) {
	grants := map[string]func(*proto.Grant){
		"nothing":         func(*proto.Grant) {},
		"grantor":         func(g *proto.Grant) { g.Grantor[0] ^= 1 },
		"reader":          func(g *proto.Grant) { g.Reader[0] ^= 1 },
		"cluster":         func(g *proto.Grant) { g.Cluster++ },
		"a contract":      func(g *proto.Grant) { g.Contracts[1][31] ^= 1 },
		"one contract":    func(g *proto.Grant) { g.Contracts = g.Contracts[:1] },
		"id":              func(g *proto.Grant) { g.ID[15] ^= 1 },
		"issued":          func(g *proto.Grant) { g.Issued++ },
		"not after":       func(g *proto.Grant) { g.NotAfter++ },
		"reader's length": func(g *proto.Grant) { g.Grantor, g.Reader = append(g.Grantor, g.Reader[0]), g.Reader[1:] },
	}
	seen := map[string]string{string(filled(fixGrant).SignedBytes("chain-2")): "another chain"}
	for name, edit := range grants {
		b := string(filled(fixGrant, edit).SignedBytes("chain-1"))
		if old, ok := seen[b]; ok {
			t.Errorf("grant: %s and %s sign the same bytes", name, old)
		}
		seen[b] = name
	}
	seen = map[string]string{string(filled[proto.Query]().SignedBytes("chain-1", [32]byte{1})): "another session"}
	for name, edit := range map[string]func(*proto.Query){
		"nothing":  func(*proto.Query) {},
		"a grant":  func(q *proto.Query) { q.Grant[0] ^= 1 },
		"no grant": func(q *proto.Query) { q.Grant = nil },
	} {
		b := string(filled(edit).SignedBytes("chain-1", [32]byte{}))
		if old, ok := seen[b]; ok {
			t.Errorf("query: %s and %s sign the same bytes", name, old)
		}
		seen[b] = name
	}
}
