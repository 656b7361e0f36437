package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// errInterrupted: Ctrl-C, or another request to stop, while a secret was asked for.
var errInterrupted = errors.New("interrupted")

// ask reads a line that nobody should see, until Ctrl-C ends the wait. A terminal is told
// what is wanted, and does not show what is typed.
func ask(in *os.File, prompt io.Writer, what string) (string, error) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stop)
	restore, terminal := quiet(in)
	defer restore()
	if terminal {
		fmt.Fprintf(prompt, "%s: ", what)
		defer fmt.Fprintln(prompt)
	}
	type typed struct {
		line string
		err  error
	}
	done := make(chan typed, 1)
	go func() {
		line, err := readLine(in)
		done <- typed{line, err}
	}()
	select {
	case t := <-done:
		return t.line, t.err
	case <-stop:
		return "", errInterrupted
	}
}

// readLine reads no further than the line's end: what follows is for others.
func readLine(r io.Reader) (string, error) {
	var b []byte
	one := make([]byte, 1)
	for len(b) < 4096 {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' {
			break
		}
		b = append(b, one[:n]...)
		if err != nil {
			if len(b) > 0 && errors.Is(err, io.EOF) {
				break
			}
			return "", err
		}
	}
	return strings.TrimRight(string(b), "\r"), nil
}

// passphrase comes from PHALA_PASSPHRASE or is asked for.
func passphrase() ([]byte, error) {
	if p, ok := os.LookupEnv("PHALA_PASSPHRASE"); ok {
		return []byte(p), nil
	}
	line, err := ask(os.Stdin, os.Stderr, "passphrase")
	if err != nil {
		return nil, fmt.Errorf("no passphrase: set PHALA_PASSPHRASE or type it: %w", err)
	}
	return []byte(line), nil
}

// newPassphrase is one to seal a key under: a terminal is asked twice, because what is
// typed is not shown.
func newPassphrase() ([]byte, error) {
	pass, err := passphrase()
	if err != nil {
		return nil, err
	}
	if len(pass) == 0 {
		return nil, errors.New("the passphrase is empty, and the key would lie open on this disk: set PHALA_PASSPHRASE or type one")
	}
	if _, given := os.LookupEnv("PHALA_PASSPHRASE"); given {
		return pass, nil
	}
	if !isTerminal(os.Stdin) {
		return pass, nil
	}
	again, err := ask(os.Stdin, os.Stderr, "the same again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(pass, []byte(again)) {
		return nil, errors.New("the two passphrases differ: nothing was kept")
	}
	return pass, nil
}
