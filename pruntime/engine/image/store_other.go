//go:build !linux

package image

import (
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
)

// store exists on Linux only; elsewhere every image takes the portable way.
type store struct{}

func newStore([]byte) (*store, error) {
	return nil, fmt.Errorf("%w: dirty pages are known on Linux only", ErrState)
}

func (*store) bytes() []byte { return nil }
func (*store) close() error  { return nil }

type view struct{}

func newView(*store, uint64) (*view, error) { return nil, ErrState }

func (*view) Allocate(_, _ uint64) experimental.LinearMemory { return nil }
func (*view) Free()                                          {}
func (*view) reset() error                                   { return nil }
func (*view) private() int                                   { return 0 }
func (*view) restore() error                                 { return nil }
