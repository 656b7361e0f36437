package substrate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

type duplex struct {
	io.Reader
	io.Writer
}

func (duplex) Close() error { return nil }

// Any bytes from the network end in messages within the limit or a typed error.
func FuzzWebSocket(f *testing.F) {
	f.Add([]byte{0x81, 1, '1', 0x89, 0, 0x01, 1, 'a', 0x80, 1, 'b', 0x88, 0})
	f.Add([]byte{0x81, 126, 0, 2, 'h', 'i'})
	f.Add([]byte{0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, in []byte) {
		w := &webSocket{conn: duplex{nil, io.Discard}, in: bufio.NewReader(bytes.NewReader(in)), limit: 100}
		for {
			m, err := w.read(func() {})
			if len(m) > 100 {
				t.Fatalf("message of %d bytes", len(m))
			}
			var e *Error
			if err != nil {
				if !errors.As(err, &e) {
					t.Errorf("untyped error %v", err)
				}
				return
			}
		}
	})
}

// What writes, reads, once the mask is off: the frame sizes at the borders of RFC 6455's three length forms.
func TestWriteFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 70000} {
		var out bytes.Buffer
		w := &webSocket{conn: duplex{nil, &out}}
		payload := bytes.Repeat([]byte{7}, n)
		if err := w.write(opText, payload); err != nil {
			t.Fatal(err)
		}
		b := out.Bytes()
		head := 2
		switch {
		case n >= 65536:
			head = 10
		case n >= 126:
			head = 4
		}
		if b[1]&0x80 == 0 || len(b) != head+4+n {
			t.Fatalf("%d bytes: head %x, %d in all", n, b[:2], len(b))
		}
		mask := b[head : head+4]
		unmasked := append([]byte(nil), b[:head]...)
		unmasked[1] &^= 0x80
		for i, c := range b[head+4:] {
			unmasked = append(unmasked, c^mask[i%4])
		}
		r := &webSocket{conn: duplex{nil, io.Discard}, in: bufio.NewReader(bytes.NewReader(unmasked)), limit: n}
		if got, err := r.read(func() {}); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
	}
}

// A header in JSON becomes a header that encodes and decodes, or a typed error.
func FuzzJSON(f *testing.F) {
	hash := `"0x` + string(bytes.Repeat([]byte("ab"), 32)) + `"`
	f.Add([]byte(`{"parentHash":` + hash + `,"number":"0x1a","stateRoot":` + hash + `,"extrinsicsRoot":` + hash + `,"digest":{"logs":["0x08","0x000411"]}}`))
	f.Add([]byte(`{"number":"26"}`))
	f.Add([]byte(`[70,82,78,75]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var n numbers
		json.Unmarshal(in, &n)
		var j jsonHeader
		if json.Unmarshal(in, &j) != nil {
			return
		}
		var e *Error
		if h, err := j.header(); err == nil {
			h.Hash()
		} else if !errors.As(err, &e) {
			t.Errorf("untyped error %v", err)
		}
	})
}
