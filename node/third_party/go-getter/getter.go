// Package getter takes the place of hashicorp/go-getter in the node's build.
//
// x/upgrade links go-getter to download a new binary when a plan's info holds a
// URL. A validator that fetches and runs code because the chain said so is not
// what this network wants, and the real package brings two cloud SDKs (about
// 380 packages) into the node. Every download here is refused with ErrDisabled:
// operators install a new phala-node themselves, before the upgrade height.
package getter

import (
	"context"
	"errors"
	"net/http"
)

// ErrDisabled is what every download returns.
var ErrDisabled = errors.New("automatic upgrade downloads are disabled: install the new phala-node binary by hand")

// A ChecksumError is never returned; x/upgrade tests for it.
type ChecksumError struct{}

func (*ChecksumError) Error() string { return "checksum mismatch" }

// A Getter fetches one URL scheme.
type Getter interface{}

// HttpGetter has the fields that x/upgrade sets.
type HttpGetter struct {
	Client                *http.Client
	XTerraformGetDisabled bool
}

// Getters is the table that x/upgrade extends.
var Getters = map[string]Getter{}

// Client has the fields that x/upgrade sets.
type Client struct {
	Ctx             context.Context
	DisableSymlinks bool
	Src, Dst, Pwd   string
	Getters         map[string]Getter
}

// Get refuses.
func (*Client) Get() error { return ErrDisabled }

// Get refuses.
func Get(dst, src string) error { return ErrDisabled }
