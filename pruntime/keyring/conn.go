package keyring

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A frame is the length of what follows (u32) and a request, or the response to it. On one
// lane a request follows the response to the one before; as many are worked on at once as
// there are lanes. Nothing has to find out whose an answer is, and no goroutine stands
// between who asks and the other process, which is half of what a query would pay.
const (
	frameHead = 4
	maxFrame  = 4 << 20
	lanes     = 8
)

// errFrame: the other process does not keep to the protocol.
var errFrame = errors.New("keyring: frame above the limit")

func readFrame(r io.Reader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

func writeFrame(w io.Writer, body []byte) error {
	if len(body) > maxFrame {
		return fmt.Errorf("%w: %d bytes", errFrame, len(body))
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, frameHead+len(body)), uint32(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// patience is how long the TEE may take to give evidence.
const patience = time.Minute

// serve answers the requests of a lane until it ends, or brings what is no request.
func (k *Keeper) serve(lane io.ReadWriter) error {
	in := bufio.NewReader(lane)
	for {
		body, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		answer := k.Handle(ctx, body)
		cancel()
		if err := writeFrame(lane, answer); err != nil {
			return err
		}
	}
}

// A lane is its caller's end.
type lane struct {
	io.Writer
	*bufio.Reader
}

// A caller asks over lanes.
type caller struct {
	free chan lane
	once sync.Once
	gone chan struct{}
}

func newCaller(all []io.ReadWriter) *caller {
	c := &caller{free: make(chan lane, len(all)), gone: make(chan struct{})}
	for _, l := range all {
		c.free <- lane{l, bufio.NewReader(l)}
	}
	return c
}

// lost notes that the other end is gone.
func (c *caller) lost() { c.once.Do(func() { close(c.gone) }) }

// do sends a request and waits for its response. The context ends the wait for a lane; the
// rest takes no longer than the keyring's patience.
func (c *caller) do(ctx context.Context, request []byte) ([]byte, error) {
	select {
	case <-c.gone:
		return nil, ErrGone
	default:
	}
	var l lane
	select {
	case l = <-c.free:
	case <-c.gone:
		return nil, ErrGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err := writeFrame(l.Writer, request)
	if errors.Is(err, errFrame) { // nothing was sent
		c.free <- l
		return nil, err
	}
	var answer []byte
	if err == nil {
		answer, err = readFrame(l.Reader)
	}
	if err != nil {
		c.lost()
		return nil, ErrGone
	}
	c.free <- l
	return answer, nil
}
