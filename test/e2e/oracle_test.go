package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

// oracle builds examples/oracle for sources without TLS. Workers trust public authorities
// only, and no server of a test has their certificate; TestServers of the example asks
// servers with TLS, in one process.
func oracle(t *testing.T) []byte {
	t.Helper()
	dir, err := filepath.Abs("../../examples/oracle")
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "oracle.go")
	text := string(read(t, source))
	plain := strings.ReplaceAll(text, `"https://"`, `"http://"`)
	if plain == text {
		t.Fatal("the example does not ask for https any more")
	}
	tmp := t.TempDir()
	edited, overlay, out := filepath.Join(tmp, "oracle.go"), filepath.Join(tmp, "overlay.json"), filepath.Join(tmp, "oracle.wasm")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: edited}})
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string][]byte{edited: []byte(plain), overlay: list} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, dir)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	return read(t, out)
}

// TestOracle: a contract asks servers for a price, signs their median, and somebody who
// knows its public key and nothing of this network checks the signature.
func TestOracle(t *testing.T) {
	bin(t)
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is needed to build a contract")
	}
	n, _ := startWith(t, devnet.Options{Workers: 1, Flags: []string{"--contract-http", "private"}})
	ctx := t.Context()
	type source struct {
		URL  string `json:"url"`
		Path string `json:"path"`
	}
	var sources []source
	serve := func(path string, f http.HandlerFunc) {
		s := httptest.NewServer(f)
		t.Cleanup(s.Close)
		sources = append(sources, source{s.URL + "/btc", path})
	}
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/btc" {
				t.Errorf("asked for %s", r.URL)
			}
			fmt.Fprint(w, text)
		}
	}
	serve("price", say(`{"price":"63250.10"}`))
	serve("0.last", say(`[{"last":63250.30}]`))
	serve("price", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) })
	d, err := n.Client.Deploy(ctx, 1, oracle(t), []byte("oracle"), map[string]any{"asset": "BTC/USD", "sources": sources, "quorum": 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method string, out any) {
		t.Helper()
		a, err := n.Client.Query(ctx, d.Contract, method, nil, client.QueryOptions{Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != proto.StatusOK {
			t.Fatalf("%s: %s %s", method, a.Status, a.Error)
		}
		if err := json.Unmarshal(a.Return, out); err != nil {
			t.Fatal(err)
		}
	}
	var id struct {
		Contract contract.ID `json:"contract"`
		Public   []byte      `json:"public"`
	}
	var q struct {
		Price              uint64
		Time               uint64
		Message, Signature []byte
		Answers            []struct{ Error string }
	}
	ask("Identity", &id)
	ask("Price", &q)
	const price = 63250_20000000
	if q.Price != price || len(q.Answers) != 3 || q.Answers[2].Error != "status 503" {
		t.Errorf("the price is %d, of %+v", q.Price, q.Answers)
	}
	if at := time.UnixMilli(int64(q.Time)); time.Since(at) > 5*time.Minute || time.Until(at) > time.Minute {
		t.Errorf("the quote is of %s", at)
	}
	// Outside: the message says what the quote says, and the pinned key signed it.
	want := append([]byte("phala-price/v1"), make([]byte, 32)...)
	copy(want[14:], "BTC/USD")
	for _, v := range []uint64{q.Price, q.Time} {
		for shift := 56; shift >= 0; shift -= 8 {
			want = append(want, byte(v>>shift))
		}
	}
	want = append(want, 2)
	if !bytes.Equal(q.Message, want) || len(q.Signature) != 65 {
		t.Fatalf("message %x, want %x; a signature of %d bytes", q.Message, want, len(q.Signature))
	}
	recover := func(msg []byte) string {
		digest := sha256.Sum256(contract.SignedBytes(id.Contract, msg))
		key, _, err := ecdsa.RecoverCompact(append([]byte{27 + 4 + q.Signature[64]}, q.Signature[:64]...), digest[:])
		if err != nil {
			return err.Error()
		}
		return string(key.SerializeCompressed())
	}
	if got := recover(want); got != string(id.Public) || proto.ContractID(id.Contract) != d.Contract {
		t.Errorf("signed by %x, the contract's key is %x", got, id.Public)
	}
	want[14+32+7]++
	if recover(want) == string(id.Public) {
		t.Error("the signature is also one of another price")
	}
}
