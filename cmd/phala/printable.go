package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode"
	"unicode/utf8"
)

// printable is where to write what people read. A terminal gets no control characters but
// line ends and tabs: answers and errors are the contract's words, and could make it show a
// receipt that there is not. What goes elsewhere is not changed.
func printable(f *os.File) io.Writer {
	if isTerminal(f) {
		return visible{f}
	}
	return f
}

// visible writes control characters as JSON does, \u001b.
type visible struct{ io.Writer }

func (v visible) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		switch {
		case r == '\n', r == '\t', r == '\r' && i == 0: // it begins a line of progress
			b.WriteRune(r)
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	if _, err := v.Writer.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
