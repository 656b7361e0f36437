//go:build !linux

package keyring

import (
	"context"
	"errors"
)

// Supported: this system keeps two processes of one user apart.
const Supported = false

var errSystem = errors.New("keyring: only Linux can keep its process apart")

// Start fails: see Supported.
func Start(context.Context, Config, TEE, ...string) (*Ring, error) { return nil, errSystem }

// Main fails: see Supported.
func Main() error { return errSystem }

// Confine fails: see Supported.
func Confine(...string) ([]string, error) { return nil, errSystem }
