package keyring

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/phala-go/phala/proto"
)

// remote is a ring over a connection in memory.
func (w *world) remote() (r *Ring, hangUp func(), served <-chan error) {
	w.t.Helper()
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- w.k.Serve(there) }()
	c := newCaller(here)
	w.t.Cleanup(func() { here.Close() })
	return &Ring{Info: w.k.info, chain: chain, do: c.do, gone: c.gone, stop: here.Close}, func() { here.Close() }, done
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
	for i := range 3 * maxBusy {
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
	if err := <-served; err != nil {
		t.Errorf("the keyring ended with %v", err)
	}
	<-r.Gone()
	_, err = r.NewSession()
	wantError(t, "after the end", err, ErrGone)
}

// TestGone: who waits for an answer when the keyring ends gets ErrGone, and who does not
// want to wait any longer needs not.
func TestGone(t *testing.T) {
	here, there := net.Pipe()
	c := newCaller(here)
	r := &Ring{do: c.do, gone: c.gone}
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan error, 2)
	ask := func(ctx context.Context) {
		_, err := r.ask(ctx, request(opNewSession))
		asked <- err
	}
	go ask(ctx)
	if _, _, err := readFrame(there); err != nil {
		t.Fatal(err)
	}
	cancel()
	wantError(t, "a context that ended", <-asked, context.Canceled)
	go ask(context.Background())
	if _, _, err := readFrame(there); err != nil {
		t.Fatal(err)
	}
	there.Close()
	wantError(t, "a keyring that ended", <-asked, ErrGone)
}

// TestBrokenFrames: what does not keep to the frames ends the connection at either end.
func TestBrokenFrames(t *testing.T) {
	w := newWorld(t)
	long := []byte{0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	here, there := net.Pipe()
	defer here.Close()
	served := make(chan error, 1)
	go func() { served <- w.k.Serve(there) }()
	here.Write(long)
	if err := <-served; !errors.Is(err, errFrame) {
		t.Errorf("the keyring: %v", err)
	}
	for name, frame := range map[string]func(net.Conn){
		"too long":             func(c net.Conn) { c.Write(long) },
		"an answer to nothing": func(c net.Conn) { writeFrame(c, 77, []byte{0}) },
	} {
		here, there := net.Pipe()
		c := newCaller(here)
		frame(there)
		<-c.gone
		if _, err := c.do(context.Background(), nil); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
		there.Close()
	}
}
