package substrate

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// The frame opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// webSocket is the client side of a WebSocket connection that carries text messages. One goroutine may read while
// others write.
type webSocket struct {
	conn  io.ReadWriteCloser
	in    *bufio.Reader
	limit int // bytes of a message

	mu  sync.Mutex // guards writing
	out []byte
}

// dialWebSocket opens a connection by the handshake of RFC 6455, section 4. The transport must not speak HTTP/2.
func dialWebSocket(ctx context.Context, transport *http.Transport, address string, limit int) (*webSocket, error) {
	httpAddress := "http" + strings.TrimPrefix(address, "ws") // ws becomes http, wss https
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, httpAddress, nil)
	if err != nil {
		return nil, fail(ErrAddress, err, "%s", address)
	}
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", key)
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fail(ErrConnect, err, "%s", address)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body.Close()
		return nil, fail(ErrConnect, nil, "%s answers the WebSocket handshake with %s", address, res.Status)
	}
	conn, ok := res.Body.(io.ReadWriteCloser)
	if !ok || !strings.EqualFold(res.Header.Get("Upgrade"), "websocket") ||
		!strings.EqualFold(res.Header.Get("Connection"), "upgrade") || res.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) ||
		res.Header.Get("Sec-WebSocket-Extensions") != "" || res.Header.Get("Sec-WebSocket-Protocol") != "" {
		res.Body.Close()
		return nil, fail(ErrProtocol, nil, "%s: handshake does not agree with RFC 6455", address)
	}
	return &webSocket{conn: conn, in: bufio.NewReaderSize(conn, 1<<16), limit: limit}, nil
}

// acceptKey is the server's answer to a handshake key.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// newTransport returns a transport for one client: HTTP/1.1 only, as the handshake needs.
func newTransport(tlsConfig *tls.Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = tlsConfig
	t.ForceAttemptHTTP2 = false
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	return t
}

// write sends one frame.
func (w *webSocket) write(opcode byte, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := append(w.out[:0], 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	var mask [4]byte
	rand.Read(mask[:])
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	if w.out = b; cap(b) > 1<<16 {
		w.out = nil
	}
	_, err := w.conn.Write(b)
	return err
}

// read returns the next text message. It answers pings itself and calls alive for every frame.
func (w *webSocket) read(alive func()) ([]byte, error) {
	var message []byte
	started := false
	for {
		final, opcode, payload, err := w.readFrame(w.limit - len(message))
		if err != nil {
			return nil, err
		}
		alive()
		switch opcode {
		case opPing:
			if err := w.write(opPong, payload); err != nil {
				return nil, fail(ErrConnect, err, "answering a ping")
			}
		case opPong:
		case opClose:
			w.write(opClose, payload) // the connection ends either way
			return nil, fail(ErrConnect, nil, "closed by the node")
		case opText, opContinuation:
			if started != (opcode == opContinuation) {
				return nil, fail(ErrProtocol, nil, "WebSocket fragments out of order")
			}
			started = true
			message = append(message, payload...)
			if final {
				return message, nil
			}
		default:
			return nil, fail(ErrProtocol, nil, "WebSocket frame with opcode %d", opcode)
		}
	}
}

func (w *webSocket) readFrame(limit int) (final bool, opcode byte, payload []byte, err error) {
	lost := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fail(ErrConnect, err, "reading")
	}
	var head [8]byte
	if _, err := io.ReadFull(w.in, head[:2]); err != nil {
		return false, 0, nil, lost(err)
	}
	final, opcode = head[0]&0x80 != 0, head[0]&0x0f
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 {
		return false, 0, nil, fail(ErrProtocol, nil, "WebSocket frame with reserved bits or a mask")
	}
	size := uint64(head[1] & 0x7f)
	if opcode >= opClose && (size > 125 || !final) {
		return false, 0, nil, fail(ErrProtocol, nil, "WebSocket control frame of %d bytes, final %v", size, final)
	}
	switch size {
	case 126:
		if _, err := io.ReadFull(w.in, head[:2]); err != nil {
			return false, 0, nil, lost(err)
		}
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		if _, err := io.ReadFull(w.in, head[:8]); err != nil {
			return false, 0, nil, lost(err)
		}
		size = binary.BigEndian.Uint64(head[:8])
	}
	if opcode < opClose && size > uint64(max(limit, 0)) {
		return false, 0, nil, fail(ErrTooLarge, nil, "WebSocket frame of %d bytes, %d left of the limit", size, limit)
	}
	// Grow with what arrives, not with what is announced.
	payload, err = io.ReadAll(io.LimitReader(w.in, int64(size)))
	if err == nil && uint64(len(payload)) < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return false, 0, nil, lost(err)
	}
	return final, opcode, payload, nil
}

func (w *webSocket) close() { w.conn.Close() }
