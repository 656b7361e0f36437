package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/phala-go/phala/pruntime"
)

// long is more than any of this takes: it ends a test that would hang.
const long = 2 * time.Minute

// serveOn starts a server whose patience is short, with at most conns connections, and
// returns its address.
func serveOn(t *testing.T, conns int, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := server(h, 50*time.Millisecond)
	go srv.Serve(Limit(l, conns))
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

func dial(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(long))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSlowClients: who does not send what he announced, or does not take his answer, loses
// the connection.
func TestSlowClients(t *testing.T) {
	wrote := make(chan error, 1000)
	addr := serveOn(t, 10, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, err := w.Write(make([]byte, 256<<20)) // more than buffers on the way hold
			wrote <- err
			return
		}
		if _, err := make(desk, 1).query(w, r); err != nil {
			fail(w, err)
		}
	})
	for _, c := range []struct{ name, text string }{
		{"nothing", ""},
		{"half a header", "POST / HTTP/1.1\r\nHost: a\r\n"},
		{"half a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"},
		{"half of a body without a length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"},
		{"half a body that nobody reads", "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"},
	} {
		if _, err := io.Copy(io.Discard, dial(t, addr, c.text)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the server waits on", c.name)
		}
	}
	// On a busy machine the server's patience may end before the request is there: once more.
	for end := time.Now().Add(long); ; {
		dial(t, addr, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
		select {
		case err := <-wrote:
			if err == nil {
				t.Error("the whole answer went to somebody who does not read")
			}
			return
		case <-time.After(time.Second):
		}
		if time.Now().After(end) {
			t.Fatal("an answer that nobody takes is written on")
		}
	}
}

// A clock is a response whose deadlines are seen.
type clock struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (c *clock) SetReadDeadline(t time.Time) error  { c.read = append(c.read, t); return nil }
func (c *clock) SetWriteDeadline(t time.Time) error { c.write = append(c.write, t); return nil }

// TestLongAnswers: once a query is here, it may take its time, and so may its answer after
// that.
func TestLongAnswers(t *testing.T) {
	w := &clock{ResponseRecorder: httptest.NewRecorder()}
	b, err := make(desk, 1).query(w, httptest.NewRequest("POST", "/", bytes.NewReader([]byte("q"))))
	if err != nil || string(b) != "q" || len(w.read) != 1 || !w.read[0].IsZero() {
		t.Fatalf("%q, %v, deadlines %v", b, err, w.read)
	}
	before := time.Now()
	answered(w)
	if len(w.write) != 1 || w.write[0].Before(before.Add(patience)) {
		t.Fatalf("deadlines %v at %v", w.write, before)
	}
}

// TestLongQueriesAtOnce: clients that are slow with long queries fill neither the memory nor
// keep short ones out.
func TestLongQueriesAtOnce(t *testing.T) {
	d := make(desk, 2)
	request := func(r io.Reader, length int64) error {
		req := httptest.NewRequest("POST", "/", r)
		req.ContentLength = length
		_, err := d.query(httptest.NewRecorder(), req)
		return err
	}
	var slow []*io.PipeWriter
	ended := make(chan error, 2)
	for _, length := range []int64{smallBody + 1, -1} {
		r, w := io.Pipe()
		slow = append(slow, w)
		go func() { ended <- request(r, length) }()
		if _, err := w.Write([]byte("x")); err != nil { // it is being read
			t.Fatal(err)
		}
	}
	for _, length := range []int64{smallBody + 1, -1} {
		if err := request(bytes.NewReader(nil), length); !errors.Is(err, pruntime.ErrBusy) {
			t.Errorf("a third long query of %d bytes: %v", length, err)
		}
	}
	if err := request(bytes.NewReader(make([]byte, smallBody)), smallBody); err != nil {
		t.Errorf("a short one: %v", err)
	}
	for _, w := range slow {
		w.Close()
		if err := <-ended; err != nil {
			t.Errorf("a long one that came to its end: %v", err)
		}
	}
	if err := request(bytes.NewReader(nil), -1); err != nil {
		t.Errorf("a long one afterwards: %v", err)
	}
}

// TestConnections: there are so many at once and no more; the others wait for a place.
func TestConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lim := Limit(l, 2)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok")) })}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lim) }()
	ask := func(c net.Conn) error {
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		return err
	}
	answered := func(c net.Conn) error {
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(res.Body)
		return err
	}
	addr := l.Addr().String()
	one, two, three := dial(t, addr, ""), dial(t, addr, ""), dial(t, addr, "")
	for _, c := range []net.Conn{one, two} {
		if err := errors.Join(ask(c), answered(c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(three); err != nil {
		t.Fatal(err)
	}
	three.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if err := answered(three); err == nil {
		t.Fatal("a third connection was served")
	}
	three.SetDeadline(time.Now().Add(long))
	one.Close()
	if res, err := http.ReadResponse(bufio.NewReader(three), nil); err != nil || res.StatusCode != 200 {
		t.Fatalf("the third, when a place was free: %v, %v", res, err)
	}
	// All places are taken, and the one that waits for the next ends with the server.
	srv.Close()
	select {
	case err := <-served:
		if !errors.Is(err, http.ErrServerClosed) {
			t.Fatal(err)
		}
	case <-time.After(long):
		t.Fatal("the server waits for a place")
	}
}
