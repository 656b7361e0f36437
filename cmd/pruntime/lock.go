package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// errInUse: another pruntime has the folder.
var errInUse = errors.New("another pruntime runs in this folder: stop that one first, or name another folder with --data")

// lockFolder makes the folder of sealed files and locks it until the file is closed. Two
// that were started by mistake would undo each other's files: a new gatekeeper's identity
// and share among them, of which there is no other copy. It is no protection from the host.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	// Not every TEE's file system has locks; there the error is another one.
	if errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("--data %s: %w", dir, errInUse)
	}
	return f, nil
}
