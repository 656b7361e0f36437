//go:build !cgo

package wasmtime

import "testing"

func TestAgainstWasmtime(t *testing.T) {
	t.Skip("wasmtime needs cgo: build with CGO_ENABLED=1 and a C compiler")
}
