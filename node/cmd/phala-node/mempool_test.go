package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/app"
)

// TestTakenBeforeTheFirstBlock: what a node takes between its start and its first block, it
// has. The test's waits an hour with that block.
func TestTakenBeforeTheFirstBlock(t *testing.T) {
	first, err := identity.FromURI("//First")
	if err != nil {
		t.Fatal(err)
	}
	seed, err := hex.DecodeString(operator)
	if err != nil {
		t.Fatal(err)
	}
	second, err := identity.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	pub := first.Public()
	bech, err := address.Bech32(address.HRP, pub[:])
	if err != nil {
		t.Fatal(err)
	}
	home := newHome(t, app.AccountSpec{Address: bech, PHA: 1000})
	n := startNode(t, home)
	n.until("the second block", func() bool { return strings.Count(n.output(), "committed state") >= 2 })
	n.cmd.Process.Signal(syscall.SIGTERM)
	<-n.done

	config := filepath.Join(home, "config", "config.toml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	edited := regexp.MustCompile(`(?m)^timeout_commit = .*$`).ReplaceAll(b, []byte(`timeout_commit = "1h"`))
	if string(edited) == string(b) {
		t.Fatal("config.toml has no timeout_commit")
	}
	if err := os.WriteFile(config, edited, 0o600); err != nil {
		t.Fatal(err)
	}
	// What it had begun of the next block is in this log, from which it would go on with that
	// block at once.
	if err := os.RemoveAll(filepath.Join(home, "data", "cs.wal")); err != nil {
		t.Fatal(err)
	}
	n = startNode(t, home)
	serves := regexp.MustCompile(`Starting RPC HTTP server on (127\.0\.0\.1:\d+)`)
	n.until("its RPC", func() bool { return serves.MatchString(n.output()) })
	url := "http://" + serves.FindStringSubmatch(n.output())[1]

	node := rpc.New(url)
	ctx := context.Background()
	for _, key := range []*identity.KeyPair{first, second} {
		from := key.Public()
		s := tx.Sender{Node: node, Chain: chain, Key: key}
		if _, err := s.Broadcast(ctx, 200_000, false, tx.Send(from[:], pub[:], "5")); err != nil {
			t.Errorf("it does not take a transaction: %v", err)
		}
	}
	res, err := http.Get(url + "/num_unconfirmed_txs")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var out struct {
		Result struct {
			Total string `json:"n_txs"`
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	if out.Result.Total != "2" {
		t.Errorf("of two transactions that it took it has %s", out.Result.Total)
	}
	// A block that was stored and not executed yet when it stopped comes before its RPC.
	if _, after, _ := strings.Cut(n.output(), "Starting RPC HTTP server"); strings.Contains(after, "committed state") {
		t.Error("it made a block")
	}
}
