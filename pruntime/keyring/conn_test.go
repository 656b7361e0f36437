package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/phala-go/phala/proto"
)

// remote is a ring over lanes in memory.
func (w *world) remote() (r *Ring, hangUp func(), served <-chan error) {
	w.t.Helper()
	done := make(chan error, lanes)
	var here []io.ReadWriter
	hangUp = func() {
		for _, l := range here {
			l.(net.Conn).Close()
		}
	}
	for range lanes {
		a, b := net.Pipe()
		here = append(here, a)
		go func() { done <- w.k.serve(b) }()
	}
	w.t.Cleanup(hangUp)
	c := newCaller(here)
	return &Ring{Info: w.k.info, chain: chain, do: c.do, gone: c.gone}, hangUp, done
}

// TestManyAtOnce: every answer comes to who asked.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	r, hangUp, served := w.remote()
	s, err := r.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 * lanes {
		q := seal(t, proto.QueryContext(chain), s, []byte(fmt.Sprint("question ", i)))
		wg.Go(func() {
			plain, reply, _, err := r.OpenQuery(context.Background(), q.Envelope)
			if err != nil || string(plain) != fmt.Sprint("question ", i) {
				t.Errorf("question %d: %q, %v", i, plain, err)
				return
			}
			answers(t, "answer", reply, proto.QueryContext(chain), q.key, s)
		})
	}
	wg.Wait()
	hangUp()
	for range lanes {
		if err := <-served; err != nil {
			t.Errorf("a lane ended with %v", err)
		}
	}
	_, err = r.NewSession()
	wantError(t, "after the end", err, ErrGone)
	<-r.Gone()
}

// TestGone: who waits for an answer when the keyring ends gets ErrGone, and so does who
// waits for a lane, unless he does not want to any more.
func TestGone(t *testing.T) {
	here, there := net.Pipe()
	c := newCaller([]io.ReadWriter{here})
	r := &Ring{do: c.do, gone: c.gone}
	first, second := make(chan error, 1), make(chan error, 1)
	ask := func(ctx context.Context, end chan error) {
		_, err := r.ask(ctx, request(opNewSession))
		end <- err
	}
	go ask(context.Background(), first)
	if _, err := readFrame(there); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	ask(ended, second)
	wantError(t, "a context that ended", <-second, context.Canceled)
	go ask(context.Background(), second)
	there.Close()
	wantError(t, "waiting for an answer", <-first, ErrGone)
	wantError(t, "waiting for a lane", <-second, ErrGone)
}

// TestBrokenFrames: what does not keep to the frames ends the lane at either end; what is
// too long to be sent ends nothing.
func TestBrokenFrames(t *testing.T) {
	w := newWorld(t)
	long := []byte{0xff, 0, 0, 0}
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- w.k.serve(there) }()
	here.Write(long)
	if err := <-served; !errors.Is(err, errFrame) {
		t.Errorf("the keyring: %v", err)
	}
	here, there = net.Pipe()
	c := newCaller([]io.ReadWriter{here})
	if _, err := c.do(context.Background(), make([]byte, maxFrame+1)); !errors.Is(err, errFrame) {
		t.Errorf("too long to be sent: %v", err)
	}
	go func() {
		readFrame(there)
		there.Write(long)
	}()
	if _, err := c.do(context.Background(), nil); !errors.Is(err, ErrGone) {
		t.Errorf("the worker: %v", err)
	}
	<-c.gone
}
