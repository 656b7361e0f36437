package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/staking"
	"github.com/phala-go/phala/internal/devnet"
)

func TestParsePart(t *testing.T) {
	for _, c := range []struct {
		text string
		want uint32
		ok   bool
		show string
	}{
		{"5%", 50_000_000, true, "5%"}, {"0.05", 50_000_000, true, "5%"}, {"0%", 0, true, "0%"}, {"100%", 1e9, true, "100%"}, {"1", 1e9, true, "100%"},
		{"12.3456789%", 123_456_789, true, "12.3456789%"}, {"0.000000001", 1, true, "0.0000001%"},
		{"101%", 0, false, ""}, {"1.1", 0, false, ""}, {"", 0, false, ""}, {"%", 0, false, ""}, {"-5%", 0, false, ""}, {"5 %", 0, false, ""}, {"0.00000001%", 0, false, ""},
	} {
		v, err := parsePart(c.text)
		if (err == nil) != c.ok || v != c.want || c.ok && percent(v) != c.show {
			t.Errorf("%q is %d (%s), %v", c.text, v, percent(v), err)
		}
	}
}

func TestConsensusKey(t *testing.T) {
	dir := t.TempDir()
	key := bytes.Repeat([]byte{7}, 32)
	file := func(text string) string {
		path := filepath.Join(dir, "key.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public := func(kind string, b []byte) string {
		return `{"address":"00","pub_key":{"type":"` + kind + `","value":"` + base64.StdEncoding.EncodeToString(b) + `"},"priv_key":{}}`
	}
	for _, c := range []struct {
		name, from string
		ok         bool
	}{
		{"hexadecimal", hex.EncodeToString(key), true},
		{"file", file(public("tendermint/PubKeyEd25519", key)), true},
		{"missing file", filepath.Join(dir, "none"), false},
	} {
		got, err := consensusKey(c.from)
		if (err == nil) != c.ok || c.ok && !bytes.Equal(got, key) {
			t.Errorf("%s: %x, %v", c.name, got, err)
		}
	}
	for _, bad := range []string{"{", public("tendermint/PubKeySecp256k1", key), public("tendermint/PubKeyEd25519", key[1:]), "{}"} {
		if got, err := consensusKey(file(bad)); err == nil {
			t.Errorf("%s gives %x", bad, got)
		}
	}
	if got, err := consensusKey(""); got != nil || err != nil {
		t.Errorf("none: %x, %v", got, err)
	}
}

// chainNode is a node that answers the staking queries of two eras: the second begins when
// era is raised.
type chainNode struct {
	era atomic.Int64
	t   *testing.T
}

func field(b []byte, n protowire.Number, v any) []byte {
	switch v := v.(type) {
	case int:
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
	case []byte:
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	default:
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v.(string))
	}
}

func (n *chainNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Params struct{ Path string }
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		n.t.Error(err)
	}
	era := int(n.era.Load())
	validator := func(name string, elected int) []byte {
		return field(field(field(field(field(nil, 1, name), 3, 50_000_000), 4, elected), 6, 1), 9, "2000000000000")
	}
	var answer []byte
	switch req.Params.Path {
	case "/phala.npos.v1.Query/Era":
		answer = field(field(field(field(field(nil, 1, era), 2, era), 3, 100*era), 6, 1), 12, "idle")
	case "/phala.npos.v1.Query/Validators":
		answer = field(field(field(nil, 1, era), 2, validator("phala1first", map[bool]int{true: 1}[era == 1])), 2, validator("phala1second", map[bool]int{true: 1}[era == 2]))
	default:
		n.t.Errorf("asked for %s", req.Params.Path)
	}
	json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{"response": map[string]any{"value": answer}}})
}

// use makes a folder whose network is the node's.
func (n *chainNode) use(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	b, err := json.Marshal(devnet.State{Network: client.Network{Chain: "c", Node: server.URL}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "devnet.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestValidators(t *testing.T) {
	n := &chainNode{t: t}
	n.era.Store(1)
	dir := n.use(t)
	out, _, err := phala(t, "validators", "--devnet", dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"era 1 of 1", "next election: idle", "phala1first   yes   2.00 PHA", "phala1second  -  "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, _, err = phala(t, "validators", "--devnet", dir, "--output", "json")
	var v struct {
		Era        struct{ Era uint64 }
		Validators []struct {
			Operator string
			Elected  bool
			Total    string
		}
	}
	if err != nil || json.Unmarshal([]byte(out), &v) != nil || v.Era.Era != 1 || len(v.Validators) != 2 || !v.Validators[0].Elected || v.Validators[0].Total != "2000000000000" {
		t.Errorf("%v\n%s", err, out)
	}
}

// notify passes on what is written, and tells.
type notify struct {
	bytes.Buffer
	wrote chan string
}

func (n *notify) Write(b []byte) (int, error) {
	n.wrote <- string(b)
	return n.Buffer.Write(b)
}

// With --watch each new era is told, with who came and who went.
func TestWatch(t *testing.T) {
	n := &chainNode{t: t}
	n.era.Store(1)
	dir := n.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out := &notify{wrote: make(chan string, 64)}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"validators", "--devnet", dir, "--watch"}, out, &bytes.Buffer{}) }()
	told := ""
	for !strings.Contains(told, "phala1first left\n") {
		select {
		case s := <-out.wrote:
			if told += s; strings.Contains(told, "phala1second") {
				n.era.Store(2)
			}
		case err := <-ended:
			t.Fatalf("%v after\n%s", err, told)
		}
	}
	if !strings.Contains(told, "era 2 from block 200: 1 seats; phala1second joined; phala1first left") {
		t.Error(told)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Eras in which a validator earned nothing are passed over, and what was paid before an
// error is told.
func TestPayEras(t *testing.T) {
	list := func(era uint64) ([]staking.Validator, error) {
		a := staking.Validator{Operator: "a", Points: 5, Pages: 2}
		switch era {
		case 2:
			a.Points = 0
		case 3:
			a.PaidPages = 1
		case 5:
			return nil, errors.New("no answer")
		}
		return []staking.Validator{{Operator: "b", Points: 1, Pages: 1}, a}, nil
	}
	wanted := map[string][]byte{"a": {1}}
	for _, c := range []struct {
		name      string
		end, lost uint64 // lost: the second page of this era
		want      string
		ok        bool
	}{
		{"good", 5, 0, "[{a 1 2 1/1} {a 3 1 3/1} {a 4 2 4/1}]", true},
		{"a page fails", 5, 4, "[{a 1 2 1/1} {a 3 1 3/1} {a 4 1 4/0}]", false},
		{"an era is not answered", 6, 0, "[{a 1 2 1/1} {a 3 1 3/1} {a 4 2 4/1}]", false},
	} {
		got, err := payEras(1, c.end, wanted, list, func(v staking.Validator, era uint64) (string, error) {
			if v.Points == 0 || era == c.lost && v.PaidPages == 1 {
				return "", errors.New("refused")
			}
			return fmt.Sprintf("%d/%d", era, v.PaidPages), nil
		})
		if fmt.Sprint(got) != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestStakingUsage(t *testing.T) {
	for _, args := range [][]string{{"nominate"}, {"nominate", "nobody"}, {"chill", "x"}, {"validate", "--commission", "200%"}, {"validate", "--bond", "x"}, {"payout"}, {"stake", "bond", "x"}, {"stake", "lend", "1"}} {
		if _, _, err := phala(t, append(args, "--devnet", t.TempDir())...); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
