package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/contract/contracttest"
	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/fetch"
)

func code(err error) uint32 {
	var e *contract.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// web answers a host's requests with a text; a host that is not there fails.
type web map[string]string

func (w web) answer(r *contract.HTTPRequest) (*contract.HTTPResponse, error) {
	host, _, _ := strings.Cut(strings.TrimPrefix(r.URL, "https://"), "/")
	text, ok := w[host]
	switch {
	case !ok:
		return nil, errors.New("no route to " + host)
	case strings.HasPrefix(text, "503"):
		return &contract.HTTPResponse{Status: 503}, nil
	}
	return &contract.HTTPResponse{Status: 200, Body: []byte(text)}, nil
}

func terms(quorum int, hosts ...string) Terms {
	t := Terms{Asset: "BTC/USD", Quorum: quorum}
	for _, h := range hosts {
		t.Sources = append(t.Sources, Source{"https://" + h + "/btc", "price"})
	}
	return t
}

func TestMedian(t *testing.T) {
	k := contracttest.New(t)
	owner := k.Account("owner")
	price := func(s string) string { return `{"price":` + s + `}` }
	for _, c := range []struct {
		name  string
		web   web
		want  uint64 // 0: refused
		valid int
	}{
		{"three agree", web{"a": price("5"), "b": price("5"), "c": price("5")}, 5e8, 3},
		{"the middle one", web{"a": price("100.5"), "b": price(`"99"`), "c": price("101")}, 100_50000000, 3},
		{"one lies high", web{"a": price("99999999"), "b": price("99"), "c": price("101")}, 101e8, 3},
		{"one lies low", web{"a": price("0.00000001"), "b": price("99"), "c": price("101")}, 99e8, 3},
		{"one is silent: the mean of two", web{"b": price("99"), "c": price("102")}, 100_50000000, 2},
		{"one is broken", web{"a": "503", "b": price("99"), "c": price("99")}, 99e8, 2},
		{"one says nothing sensible", web{"a": "<html>", "b": price("99"), "c": price("99")}, 99e8, 2},
		{"one has no such field", web{"a": `{"prize":1}`, "b": price("99"), "c": price("99")}, 99e8, 2},
		{"a price of nothing", web{"a": price("0"), "b": price("99"), "c": price("99")}, 99e8, 2},
		{"a negative price", web{"a": price("-5"), "b": price("99"), "c": price("99")}, 99e8, 2},
		{"a price with an exponent", web{"a": price("1e5"), "b": price("99"), "c": price("99")}, 99e8, 2},
		{"a price beyond counting", web{"a": price("999999999999"), "b": price("99"), "c": price("99")}, 99e8, 2},
		{"more digits than are kept", web{"a": price("1.123456789"), "b": price("1.123456789"), "c": price("1")}, 1_12345678, 3},
		{"two are silent", web{"c": price("99")}, 0, 0},
		{"all are", web{}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			restore := k.Snapshot()
			defer restore()
			k.HTTP(c.web.answer)
			k.Deploy(owner, terms(2, "a", "b", "c"))
			var q Quote
			err := k.TryQuery("", "Price", nil, &q)
			if c.want == 0 {
				if code(err) != CodeQuorum || !strings.Contains(err.Error(), "no route to a") {
					t.Fatalf("got %+v, %v", q, err)
				}
				return
			}
			if err != nil || q.Price != c.want || q.Decimals != 8 || string(q.Message) != string(Message("BTC/USD", c.want, q.Time, c.valid)) {
				t.Errorf("got %+v, %v, want %d from %d sources", q, err, c.want, c.valid)
			}
			failed := 0
			for _, a := range q.Answers {
				if a.Error != "" {
					failed++
				}
			}
			if len(q.Answers) != 3 || failed != 3-c.valid {
				t.Errorf("the answers are %+v", q.Answers)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	k := contracttest.New(t)
	owner := k.Account("owner")
	with := func(change func(*Terms)) Terms {
		x := terms(2, "a", "b", "c")
		change(&x)
		return x
	}
	for name, x := range map[string]Terms{
		"no asset":             with(func(t *Terms) { t.Asset = "" }),
		"a long asset":         with(func(t *Terms) { t.Asset = strings.Repeat("x", 33) }),
		"an asset with a zero": with(func(t *Terms) { t.Asset = "BTC\x00" }),
		"no sources":           with(func(t *Terms) { t.Sources = nil }),
		"nine sources":         terms(5, "a", "b", "c", "d", "e", "f", "g", "h", "i"),
		"a minority decides":   with(func(t *Terms) { t.Quorum = 1 }),
		"half decides":         terms(2, "a", "b", "c", "d"),
		"more than there are":  with(func(t *Terms) { t.Quorum = 4 }),
		"http":                 with(func(t *Terms) { t.Sources[1].URL = "http://b/btc" }),
		"one host twice":       with(func(t *Terms) { t.Sources[1].URL = "https://a/other" }),
		"no path":              with(func(t *Terms) { t.Sources[1].Path = "" }),
	} {
		if err := k.TryDeploy(owner, x); code(err) != CodeTerms {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// A command cannot ask: each replica would hear something else.
	k.Deploy(owner, terms(2, "a", "b", "c"))
	if err := k.TryCall(owner, "Price", nil, nil); code(err) != contract.CodeNoMethod {
		t.Errorf("as a command: %v", err)
	}
}

func TestPaths(t *testing.T) {
	const body = `{"data":{"amount":"63250.15","list":[{"p":1},{"p":2.5}]},"5":7,"null":null}`
	for path, want := range map[string]uint64{"data.amount": 63250_15000000, "data.list.1.p": 2_50000000, "5": 7e8,
		"": 0, "data": 0, "data.list": 0, "data.list.2.p": 0, "data.list.-1.p": 0, "data.amount.0": 0, "null": 0, "data..amount": 0} {
		got, err := find([]byte(body), path)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %d, %v, want %d", path, got, err, want)
		}
	}
}

// verify is what another chain does: it knows the oracle's identity, and gets a quote.
func verify(id Identity, q Quote) error {
	if len(q.Message) != 63 || len(q.Signature) != 65 {
		return errors.New("lengths")
	}
	digest := sha256.Sum256(contract.SignedBytes(id.Contract, q.Message))
	// As a recovery, ecrecover on an EVM …
	key, _, err := ecdsa.RecoverCompact(append([]byte{27 + 4 + q.Signature[64]}, q.Signature[:64]...), digest[:])
	if err != nil {
		return err
	}
	if string(key.SerializeCompressed()) != string(id.Public) {
		return errors.New("signed by another key")
	}
	// … and as a verification.
	public, err := secp256k1.ParsePubKey(id.Public)
	if err != nil {
		return err
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(q.Signature[:32]) || s.SetByteSlice(q.Signature[32:64]) || s.IsOverHalfOrder() {
		return errors.New("not in the canonical form")
	}
	if !ecdsa.NewSignature(&r, &s).Verify(digest[:], public) {
		return errors.New("the signature does not verify")
	}
	return nil
}

func TestAnotherChainVerifies(t *testing.T) {
	k := contracttest.New(t)
	k.HTTP(web{"a": `{"price":5}`}.answer)
	k.Deploy(k.Account("owner"), terms(1, "a"))
	var id Identity
	var q Quote
	k.Query("", "Identity", nil, &id)
	k.Query("", "Price", nil, &q)
	if err := verify(id, q); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Identity, *Quote){
		"another price":     func(_ *Identity, q *Quote) { q.Message[14+32+7]++ },
		"another time":      func(_ *Identity, q *Quote) { q.Message[14+32+8]++ },
		"another asset":     func(_ *Identity, q *Quote) { q.Message[14] = 'E' },
		"another contract":  func(id *Identity, _ *Quote) { id.Contract[0]++ },
		"another signature": func(_ *Identity, q *Quote) { q.Signature[40]++ },
	} {
		i, c := id, q
		c.Message, c.Signature = slices.Clone(q.Message), slices.Clone(q.Signature)
		change(&i, &c)
		if err := verify(i, c); err == nil {
			t.Errorf("%s is believed", name)
		}
	}
}

// selfSigned is a certificate that nobody vouches for.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: secret}
}

// TestServers asks real servers over TLS, through the worker's own client and the enclave's
// engine, and verifies what comes out.
func TestServers(t *testing.T) {
	roots := x509.NewCertPool()
	serve := func(f http.HandlerFunc) string {
		s := httptest.NewTLSServer(f)
		t.Cleanup(s.Close)
		roots.AddCert(s.Certificate())
		return s.URL
	}
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) }
	}
	one := serve(say(`{"price":"100.10"}`))
	two := serve(say(`[{"last":100.30}]`))
	down := serve(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) })
	stranger := httptest.NewUnstartedServer(say(`{"price":1}`))
	stranger.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	stranger.StartTLS()
	t.Cleanup(stranger.Close)

	client, err := fetch.New(fetch.Options{Private: true, Roots: roots, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	w := clustertest.New(t, clustertest.Prepare(t, clustertest.Module(t, "."), ""))
	w.AllowHTTP(client.Fetch)
	if s := w.Deploy("owner", Terms{"BTC/USD", []Source{{one, "price"}, {two, "0.last"}, {down, "price"}}, 2}); s.Status != proto.StatusOK {
		t.Fatal(s.Status, s.Error)
	}
	ask := func(method string, out any) error {
		b, err := w.Query("", method, nil)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, out)
	}
	var id Identity
	var q Quote
	if err := errors.Join(ask("Identity", &id), ask("Price", &q)); err != nil {
		t.Fatal(err)
	}
	if err := verify(id, q); err != nil || q.Price != 100_20000000 || q.Answers[2].Error != "status 503" {
		t.Errorf("got %+v, %v", q, err)
	}

	// Another deployment of the same code has another key.
	if s := w.Deploy("owner", Terms{"BTC/USD", []Source{{one, "price"}, {stranger.URL, "price"}}, 2}); s.Status != proto.StatusOK {
		t.Fatal(s.Status, s.Error)
	}
	var other Identity
	if err := ask("Identity", &other); err != nil || string(other.Public) == string(id.Public) {
		t.Errorf("two contracts have one key %x, %v", other.Public, err)
	}
	if err := ask("Price", &q); err == nil || !strings.Contains(err.Error(), "1 of 2 sources answered") || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server without a good certificate: %v", err)
	}
	// Without the operator's leave for private addresses none of them is reached.
	strict, err := fetch.New(fetch.Options{Roots: roots, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	w.AllowHTTP(strict.Fetch)
	if err := ask("Price", &q); err == nil || !strings.Contains(err.Error(), "0 of 2 sources answered") || !strings.Contains(err.Error(), "not a public address") {
		t.Errorf("private addresses: %v", err)
	}
}
