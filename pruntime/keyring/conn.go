package keyring

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A frame is the length of what follows (u32), the number of the request (u64), and a
// request or the response to it. Requests are answered as they get ready, many at a time.
const (
	frameHead = 4 + 8
	maxFrame  = 4 << 20
)

// errFrame: the other process does not keep to the protocol.
var errFrame = errors.New("keyring: frame above the limit")

func readFrame(r io.Reader) (id uint64, body []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	body = make([]byte, n-8)
	_, err = io.ReadFull(r, body)
	return binary.BigEndian.Uint64(head[4:]), body, err
}

// writeFrame writes a frame with one call, so that frames of several goroutines do not mix.
func writeFrame(w io.Writer, id uint64, body []byte) error {
	if len(body) > maxFrame-8 {
		return fmt.Errorf("%w: %d bytes", errFrame, len(body)+8)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, frameHead+len(body)), uint32(len(body)+8))
	_, err := w.Write(append(binary.BigEndian.AppendUint64(b, id), body...))
	return err
}

// maxBusy is how many requests a keyring works on at once.
const maxBusy = 64

// Serve answers the requests of a connection until it ends, or brings what is no request.
func (k *Keeper) Serve(conn net.Conn) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	in := bufio.NewReader(conn)
	busy := make(chan struct{}, maxBusy)
	for {
		id, body, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		busy <- struct{}{}
		wg.Go(func() {
			defer func() { <-busy }()
			if writeFrame(conn, id, k.Handle(ctx, body)) != nil {
				conn.Close() // nobody can wait for an answer any more
			}
		})
	}
}

// A caller asks over a connection.
type caller struct {
	conn net.Conn
	gone chan struct{}

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan []byte
}

// newCaller reads responses until the connection ends.
func newCaller(conn net.Conn) *caller {
	c := &caller{conn: conn, gone: make(chan struct{}), waiting: map[uint64]chan []byte{}}
	go c.receive()
	return c
}

func (c *caller) receive() {
	defer close(c.gone)
	defer c.conn.Close()
	in := bufio.NewReader(c.conn)
	for {
		id, body, err := readFrame(in)
		if err != nil {
			return
		}
		c.mu.Lock()
		answer, ok := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if !ok {
			return // an answer to nothing
		}
		answer <- body
	}
}

// do sends a request and waits for its response. When the context ends first, the response
// is dropped when it comes.
func (c *caller) do(ctx context.Context, request []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = answer
	c.mu.Unlock()
	if err := writeFrame(c.conn, id, request); err != nil {
		if errors.Is(err, errFrame) {
			return nil, err
		}
		return nil, ErrGone
	}
	select {
	case b := <-answer:
		return b, nil
	case <-c.gone:
		select {
		case b := <-answer: // it came just before the end
			return b, nil
		default:
			return nil, ErrGone
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
