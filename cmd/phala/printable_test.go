package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestVisible: a terminal does nothing that a contract says, and shows what it said.
func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"receipt: ok, ü ☃\n\tnext\n":       "receipt: ok, ü ☃\n\tnext\n",
		"\ruploading 1 of 2":               "\ruploading 1 of 2",
		"refused: no\x1b[2K\x1b[1Gok\a\n":  `refused: no\u001b[2K\u001b[1Gok\u0007` + "\n",
		"refused: no\rreceipt: ok\n":       `refused: no\u000dreceipt: ok` + "\n",
		"\u009b2K and \x7f and \x00":       `\u009b2K and \u007f and \u0000`,
		"\"a\x9bb\"":                       "\"a\ufffdb\"",
		"":                                 "",
		strings.Repeat("long ", 10_000):    strings.Repeat("long ", 10_000),
		"a line\r\nand another of Windows": `a line\u000d` + "\nand another of Windows",
	} {
		var b strings.Builder
		n, err := fmt.Fprint(visible{&b}, in)
		if err != nil || n != len(in) || b.String() != want {
			t.Errorf("%q: got %q, %d, %v, want %q", in, b.String(), n, err, want)
		}
	}
}
