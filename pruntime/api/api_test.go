package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
	"github.com/phala-go/phala/pruntime/inbox"
)

// request does one request and returns the status, the code of an error and the body.
func request(t *testing.T, method, url string, body []byte) (int, string, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Error api.Error }
	if json.Unmarshal(b, &e) == nil && e.Error.Code != "" && e.Error.Message == "" {
		t.Errorf("%s %s: a code without a message", method, url)
	}
	return res.StatusCode, e.Error.Code, b
}

// TestRequests: what each request answers to bad input, from an enclave that serves. None
// of it changes anything.
func TestRequests(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	hash := strings.Repeat("ab", 32)
	h := w.RT.Status().TrustedHeight
	fork := s.Chain.C.Fork("x")
	for fork.Height() < h+20 {
		fork.Next()
	}
	blocks := func(b ...*comet.LightBlock) []byte { return (&inbox.Advance{Blocks: b}).Marshal() }
	for _, c := range []struct {
		name, method, path string
		body               []byte
		status             int
		code               string
	}{
		{"nonsense query", "POST", "/v1/query", []byte("nonsense"), 503, "not_serving"},
		{"empty query", "POST", "/v1/query", nil, 503, "not_serving"},
		{"longest query", "POST", "/v1/query", make([]byte, 1<<20+4096), 503, "not_serving"},
		{"query too long", "POST", "/v1/query", make([]byte, 1<<20+4097), 400, "request"},
		{"trust header again", "POST", "/v1/trust-header", []byte("whatever"), 200, ""},
		{"trust header too long", "POST", "/v1/trust-header", make([]byte, 1<<20+1), 400, "request"},
		{"nonsense advance", "POST", "/v1/advance", []byte("nonsense"), 400, "malformed"},
		{"empty advance", "POST", "/v1/advance", nil, 400, "malformed"},
		{"advance without topics", "POST", "/v1/advance", blocks(), 409, "topics"},
		{"advance of too few signatures", "POST", "/v1/advance", blocks(fork.Block(h + 9).Signed(comettest.FirstN(2))), 409, "block_too_few_signed"},
		{"nonsense headers", "POST", "/v1/headers", []byte("nonsense"), 400, "malformed"},
		{"header of long ago", "POST", "/v1/headers", blocks(fork.Light(1)), 200, ""},
		{"header signed by another set", "POST", "/v1/headers", blocks(comettest.Sign(fork.Header(h+9), comettest.NewSet("other", 4), comettest.Signing{})), 400, "block_malformed"},
		{"code under no hash", "PUT", "/v1/code/xyz", []byte{1}, 400, "request"},
		{"code that nobody wants", "PUT", "/v1/code/" + hash, []byte{1}, 200, ""},
		{"code too long", "PUT", "/v1/code/" + hash, make([]byte, proto.MaxCode+1), 400, "request"},
		{"acknowledgement that is not JSON", "POST", "/v1/acknowledge", []byte("{"), 400, "request"},
		{"acknowledgement of no position", "POST", "/v1/acknowledge", []byte("{}"), 400, "request"},
		{"acknowledgement without a proof", "POST", "/v1/acknowledge", fmt.Appendf(nil, `{"position":%q}`, "AAAAAAAAAAkAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="), 409, "proof"},
		{"blocks that are not JSON", "POST", "/v1/blocks", []byte("{}"), 400, "request"},
		{"blocks for a worker", "POST", "/v1/blocks", []byte("[]"), 400, "role"},
		{"acknowledgement too long", "POST", "/v1/acknowledge", make([]byte, 1<<20+1), 400, "request"},
		{"no conflict", "GET", "/v1/conflict", nil, 404, "none"},
		{"no such path", "GET", "/v2/info", nil, 404, ""},
		{"wrong method", "GET", "/v1/advance", nil, 405, ""},
	} {
		before := w.RT.Status()
		status, code, body := request(t, c.method, w.Private.URL+c.path, c.body)
		if c.name == "no conflict" && code != "" && status == c.status {
			code = c.code
		}
		if status != c.status || code != c.code {
			t.Errorf("%s: HTTP %d %q %.200s, want %d %q", c.name, status, code, body, c.status, c.code)
		}
		if after := w.RT.Status(); after.TrustedHeight != before.TrustedHeight || after.Outbox != before.Outbox || after.Fatal != "" {
			t.Fatalf("%s: it changed to %+v", c.name, after)
		}
	}
	g := s.List[0]
	if status, code, _ := request(t, "PUT", g.Private.URL+"/v1/code/"+hash, []byte{1}); status != 400 || code != "role" {
		t.Errorf("a code for a gatekeeper: %d %s", status, code)
	}
	// Before the trust header, nothing is ready.
	young := s.Add("young", proto.RoleWorker)
	young.Off = true
	for _, r := range [][2]string{{"POST", "/v1/headers"}, {"GET", "/v1/registration"}, {"GET", "/v1/outbox"}} {
		if status, code, b := request(t, r[0], young.Private.URL+r[1], blocks()); status != 503 || code != "not_ready" {
			t.Errorf("%s before the trust header: %d %s %s", r[1], status, code, b)
		}
	}
	if status, code, _ := request(t, "POST", young.Private.URL+"/v1/trust-header", []byte("nonsense")); status != 400 || code != "block_malformed" {
		t.Errorf("a nonsense trust header: %d %s", status, code)
	}
	second := s.Chain.C.Header(2)
	if status, code, _ := request(t, "POST", young.Private.URL+"/v1/trust-header", second.Marshal()); status != 409 || code != "trust_root" {
		t.Errorf("another trust header: %d %s", status, code)
	}
}

// TestPublic: the public port has the public paths only, for web pages too.
func TestPublic(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	for _, p := range []string{"POST /v1/advance", "POST /v1/headers", "POST /v1/trust-header", "GET /v1/registration", "GET /v1/outbox", "POST /v1/acknowledge", "POST /v1/blocks",
		"PUT /v1/code/" + strings.Repeat("ab", 32), "GET /metrics", "GET /v1/status"} {
		method, path, _ := strings.Cut(p, " ")
		if status, _, _ := request(t, method, w.Public.URL+path, nil); status != 404 {
			t.Errorf("%s on the public port: HTTP %d", p, status)
		}
		if status, _, _ := request(t, method, w.Private.URL+path, nil); status == 404 {
			t.Errorf("%s is not on the private port", p)
		}
	}
	res, err := http.Get(w.Public.URL + "/v1/info")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var st pruntime.Status
	if err := json.NewDecoder(res.Body).Decode(&st); err != nil || st.Worker != w.RT.Self() || !st.Serving || res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("info %+v, %v", st, err)
	}
	if status, _, _ := request(t, "OPTIONS", w.Public.URL+"/v1/query", nil); status != http.StatusNoContent {
		t.Errorf("a web page's question before the request: HTTP %d", status)
	}
}

// TestHealth: health, readiness and metrics say the truth of an enclave that serves, waits
// and has stopped.
func TestHealth(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	check := func(what string, health, ready int, serving string) {
		t.Helper()
		for path, want := range map[string]int{"/healthz": health, "/readyz": ready} {
			if status, _, b := request(t, "GET", w.Private.URL+path, nil); status != want || len(b) == 0 {
				t.Errorf("%s: %s is HTTP %d %s, want %d", what, path, status, b, want)
			}
		}
		_, _, b := request(t, "GET", w.Private.URL+"/metrics", nil)
		for _, line := range []string{"pruntime_serving " + serving, fmt.Sprintf("pruntime_trusted_height %d", w.RT.Status().TrustedHeight), "pruntime_simulated 1", fmt.Sprintf("pruntime_known_rules %d", w.RT.Status().KnownRules), "# TYPE pruntime_outbox gauge"} {
			if !strings.Contains(string(b), line+"\n") {
				t.Errorf("%s: metrics lack %q in\n%s", what, line, b)
			}
		}
	}
	check("serving", 200, 200, "1")
	w.Off = true
	for range 80 {
		s.Step()
	}
	check("cut off", 200, 503, "0")
	w.Off = false
	s.Chain.SendRaw(proto.TopicSystem, []byte{99})
	s.Step()
	s.Step()
	check("stopped", 503, 503, "0")
	if status, code, _ := request(t, "POST", w.Public.URL+"/v1/query", []byte("x")); status != 503 || code != "stopped" {
		t.Errorf("a query to a stopped enclave: %d %s", status, code)
	}
}

// TestOutboxLimit: a relayer may ask for fewer entries.
func TestOutboxLimit(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	w.Off = true
	for range 5 {
		if _, err := s.Chain.Push(s.Cluster, proto.PushedCommand{Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		s.Chain.Next(1)
	}
	s.Chain.Next(1)
	if err := w.RT.Advance(s.Chain.Advance(w.RT.Status()).Marshal()); err != nil {
		t.Fatal(err)
	}
	count := w.RT.Status().Outbox.Count
	for query, want := range map[string]int{"": count, "?limit=2": 2, "?limit=0": count, "?limit=-1": count, "?limit=x": count, "?limit=1000000": count} {
		_, _, b := request(t, "GET", w.Private.URL+"/v1/outbox"+query, nil)
		var out api.Outbox
		if err := json.Unmarshal(b, &out); err != nil || len(out.Entries) != want || out.First == 0 {
			t.Errorf("%q: %d entries from %d, %v; want %d", query, len(out.Entries), out.First, err, want)
		}
	}
}
