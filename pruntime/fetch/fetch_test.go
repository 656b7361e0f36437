package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = func() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// server is a TLS server, and a client that trusts it and may reach this machine.
func server(t *testing.T, h http.HandlerFunc, edit func(*Options)) (*httptest.Server, *Client) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	o := Options{Private: true, Roots: pool, Now: now}
	if edit != nil {
		edit(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.http.Timeout = 5 * time.Minute // for machines that are busy
	return s, c
}

func fetch(c *Client, format string, args ...any) (string, error) {
	return fetchAs(c, 0, format, args...)
}

// fetchAs is a request of one of several contracts.
func fetchAs(c *Client, contract byte, format string, args ...any) (string, error) {
	b, err := c.Fetch(context.Background(), [32]byte{contract}, fmt.Appendf(nil, format, args...))
	return string(b), err
}

func TestFetch(t *testing.T) {
	s, c := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", r.Method+" "+r.Header.Get("X-Key")+" "+r.UserAgent())
		w.Header()["Date"] = nil
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s: %s", r.URL.Path, body)
	}, nil)
	got, err := fetch(c, "POST %s/path\nX-Key: secret\n\nthe\n\nbody", s.URL)
	if err != nil {
		t.Fatal(err)
	}
	want := "418\nContent-Length: 16\nContent-Type: text/plain; charset=utf-8\nX-Got: POST secret phala\n\n/path: the\n\nbody"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAddresses: names are judged by what they resolve to, when the connection is made.
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		addr   string
		public bool
	}{
		{"8.8.8.8", true}, {"1.1.1.1", true}, {"172.15.255.255", true}, {"172.32.0.0", true}, {"100.63.255.255", true}, {"2606:4700:4700::1111", true},
		{"127.0.0.1", false}, {"127.255.255.254", false}, {"10.1.2.3", false}, {"172.16.0.1", false}, {"172.31.255.255", false}, {"192.168.1.1", false},
		{"169.254.169.254", false}, {"100.64.0.1", false}, {"0.0.0.0", false}, {"0.1.2.3", false}, {"224.0.0.1", false}, {"255.255.255.255", false}, {"240.0.0.1", false},
		{"192.0.2.1", false}, {"198.18.0.1", false}, {"198.51.100.1", false}, {"203.0.113.1", false}, {"192.0.0.8", false},
		{"::1", false}, {"::", false}, {"::ffff:8.8.8.8", false}, {"::ffff:127.0.0.1", false}, {"::127.0.0.1", false}, {"64:ff9b::7f00:1", false}, {"64:ff9b:1::1", false},
		{"2002:7f00:1::", false}, {"2001::1", false}, {"2001:db8::1", false}, {"fc00::1", false}, {"fd12::1", false}, {"fe80::1", false}, {"fe80::1%lo", false}, {"fec0::1", false},
		{"ff02::1", false}, {"100::1", false}, {"4000::1", false}, {"3fff::1", false},
	} {
		if got := public(netip.MustParseAddr(c.addr)); got != c.public {
			t.Errorf("%s is public: %t", c.addr, got)
		}
	}
	s, c := server(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }, func(o *Options) { o.Private = false })
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	// What is no address for Go is looked up, and fails as it does where the test runs; so do
	// addresses that this machine has not.
	looked := map[string]bool{"2130706433": true, "0x7f.1": true, "127.1": true}
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		looked["[::1]"] = true
	} else {
		l.Close()
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"} {
		for _, scheme := range []string{"http", "https"} {
			_, err := fetch(c, "GET %s://%s%s/\n\n", scheme, host, port)
			if err == nil || !errors.Is(err, ErrPrivate) && !looked[host] {
				t.Errorf("%s://%s: %v", scheme, host, err)
			}
		}
	}
}

// TestRedirects: bounded, checked at each step, and never from https to http.
func TestRedirects(t *testing.T) {
	secret, _ := server(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect led to a refused address") }, nil)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect led from https to http") }))
	defer plain.Close()
	var s *httptest.Server
	hops := 0
	s, c := server(t, func(w http.ResponseWriter, r *http.Request) {
		hops++
		switch {
		case r.URL.Path == "/private":
			http.Redirect(w, r, secret.URL, http.StatusFound)
		case r.URL.Path == "/plain":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		case r.URL.Path == "/user":
			http.Redirect(w, r, strings.Replace(s.URL, "//", "//name:word@", 1), http.StatusFound)
		case r.URL.Path == "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/5":
			fmt.Fprint(w, "there")
		default:
			n := 0
			fmt.Sscan(r.URL.Path[1:], &n)
			http.Redirect(w, r, fmt.Sprintf("/%d", n+1), http.StatusFound)
		}
	}, func(o *Options) {
		bad := secret.Listener.Addr().String()
		o.allowed = func(a netip.AddrPort) bool { return a.String() != bad }
	})
	if got, err := fetch(c, "GET %s/0\n\n", s.URL); err != nil || !strings.HasSuffix(got, "\n\nthere") {
		t.Errorf("five redirects: %q, %v", got, err)
	}
	hops = 0
	if _, err := fetch(c, "GET %s/6\n\n", s.URL); err == nil || !strings.Contains(err.Error(), "redirects") || hops != maxRedirects+1 {
		t.Errorf("redirects without end: %v after %d", err, hops)
	}
	if _, err := fetch(c, "GET %s/private\n\n", s.URL); !errors.Is(err, ErrPrivate) {
		t.Errorf("to a refused address: %v", err)
	}
	for path, want := range map[string]string{"plain": "from https to http", "user": "user name", "file": "from https"} {
		if _, err := fetch(c, "GET %s/%s\n\n", s.URL, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestLimits: sizes and the number at once.
func TestLimits(t *testing.T) {
	s, c := server(t, func(w http.ResponseWriter, r *http.Request) {
		n := 0
		if r.URL.Path == "/header" {
			w.Header().Set("X", strings.Repeat("x", 60<<10))
			return
		}
		fmt.Sscan(r.URL.Path[1:], &n)
		w.Write(make([]byte, n))
	}, nil)
	if got, err := fetch(c, "GET %s/200000\n\n", s.URL); err != nil || len(got) < 200_000 || len(got) > MaxResponse {
		t.Errorf("a large answer: %d bytes, %v", len(got), err)
	}
	for _, n := range []int{MaxResponse, 10 * MaxResponse} {
		if _, err := fetch(c, "GET %s/%d\n\n", s.URL, n); !errors.Is(err, ErrLarge) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := fetch(c, "GET %s/header\n\n", s.URL); err == nil {
		t.Error("a huge header")
	}
}

// TestShares: however slow the servers that some contracts ask, others still reach theirs.
func TestShares(t *testing.T) {
	wait := make(chan struct{})
	arrived := make(chan struct{}, 2*maxAtOnce)
	s, c := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-wait
		}
	}, nil)
	var wg sync.WaitGroup
	hold := func(contract byte, n int) {
		for range n {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if _, err := fetchAs(c, contract, "GET %s/wait\n\n", s.URL); err != nil {
					t.Error(err)
				}
			}()
		}
		for range n {
			<-arrived
		}
	}
	try := func(what string, contract byte, want error) {
		t.Helper()
		if _, err := fetchAs(c, contract, "GET %s/\n\n", s.URL); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	hold(1, maxEach)
	try("more than one contract's share", 1, ErrBusy)
	hold(2, maxEach)
	hold(3, maxEach)
	try("a contract that makes none", 4, nil)
	hold(4, 1)
	try("its second, when the rest is for first ones", 4, ErrBusy)
	for i := range byte(forFirst - 1) {
		hold(5+i, 1)
	}
	try("more than the worker's", 100, ErrBusy)
	close(wait)
	wg.Wait()
	for i := range byte(5) {
		try("afterwards", i, nil)
	}
	if c.total != 0 || len(c.each) != 0 {
		t.Errorf("%d places are still taken, of %d contracts", c.total, len(c.each))
	}
}

// TestCertificates: only the given roots count, at the given time.
func TestCertificates(t *testing.T) {
	hello := func(w http.ResponseWriter, r *http.Request) {}
	for name, edit := range map[string]func(*Options){
		"unknown root":     func(o *Options) { o.Roots = x509.NewCertPool() },
		"compiled-in ones": func(o *Options) { o.Roots = nil },
		"expired":          func(o *Options) { o.Now = func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) } },
		"not yet valid":    func(o *Options) { o.Now = func() time.Time { return time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC) } },
	} {
		s, c := server(t, hello, edit)
		if _, err := fetch(c, "GET %s/\n\n", s.URL); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("SSL_CERT_FILE", "/nonexistent")
	s, c := server(t, hello, nil)
	if _, err := fetch(c, "GET %s/\n\n", s.URL); err != nil {
		t.Errorf("the host's environment matters: %v", err)
	}
}

// TestRoots: the bundle parses and has what most of the web hangs on.
func TestRoots(t *testing.T) {
	pool, err := Roots()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(pool.Subjects()); n < 80 || n > 400 {
		t.Errorf("%d roots", n)
	}
}

func TestParseRequest(t *testing.T) {
	r, err := ParseRequest([]byte("PUT https://a.example:8443/x?y=z\nA: b\nA:c \n\nbody\n"))
	if err != nil || r.Method != "PUT" || r.URL != "https://a.example:8443/x?y=z" || fmt.Sprint(r.Header) != "[{A b} {A c}]" || string(r.Body) != "body\n" {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, bad := range []string{
		"", "\n\n", "GET", "GET https://a.example/", "GET https://a.example/\n", "get https://a.example/\n\n", "CONNECT https://a.example/\n\n", "TRACE https://a.example/\n\n",
		"GET  https://a.example/\n\n", "GET ftp://a.example/\n\n", "GET file:///etc/passwd\n\n", "GET https:///x\n\n", "GET //a.example/\n\n", "GET a.example\n\n", "GET https:a.example\n\n",
		"GET https://name@a.example/\n\n", "GET https://name:word@a.example/\n\n", "GET https://a.example/ HTTP/1.1\n\n", "GET https://a.example/\x00\n\n", "GET https://[::1\n\n",
		"GET https://a.example/" + strings.Repeat("x", maxURL) + "\n\n",
		"GET https://a.example/\nA\n\n", "GET https://a.example/\n: b\n\n", "GET https://a.example/\nA b: c\n\n", "GET https://a.example/\nA: b\r\n\n", "GET https://a.example/\nA: \x00\n\n",
		"GET https://a.example/\nHost: b\n\n", "GET https://a.example/\ncontent-length: 5\n\n", "GET https://a.example/\nTransfer-Encoding: chunked\n\n", "GET https://a.example/\nConnection: x\n\n",
		"GET https://a.example/\n" + strings.Repeat("A: b\n", maxFields+1) + "\n",
	} {
		if r, err := ParseRequest([]byte(bad)); !errors.Is(err, ErrRequest) {
			t.Errorf("%.60q is read as %+v, %v", bad, r, err)
		}
	}
}

// FuzzParseRequest: what is accepted is bounded and has no line breaks where they would
// end a line.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("GET https://a.example/\nA: b\n\nbody"))
	f.Add([]byte("POST http://[2606::1]:80/?\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		if !methods[r.Method] || len(r.URL) > maxURL || strings.ContainsAny(r.URL, "\r\n ") || len(r.Header) > maxFields {
			t.Fatalf("%+v", r)
		}
		for _, h := range r.Header {
			if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") {
				t.Fatalf("%+v", h)
			}
		}
	})
}
