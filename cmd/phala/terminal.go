//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal looks and changes nothing: a process in the background may not.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}

// quiet has a terminal not show what is typed, until restore is called. Of what is no
// terminal it says so.
func quiet(f *os.File) (restore func(), terminal bool) {
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return func() {}, false
	}
	silent := *was
	silent.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(fd, setTermios, &silent) != nil {
		return func() {}, true
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, was) }, true
}
