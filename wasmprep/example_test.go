package wasmprep_test

import (
	"errors"
	"fmt"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// Prepare takes the bytes of a module and says what it found.
func Example() {
	var b wasmtest.Builder
	b.Memory(1, 2)
	b.Global(wasmtest.I32, true, 7)
	b.Func("twice", []byte{wasmtest.I32}, []byte{wasmtest.I32}, nil, 0x20, 0, 0x20, 0, 0x6a)

	m, err := wasmprep.Prepare(b.Bytes(), wasmprep.RulesV1())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("rules", m.RulesVersion, "exports", m.Exports[0].Name, m.Exports[0].Type)
	for _, g := range m.Snapshot {
		fmt.Println("state", g.Name, g.Type)
	}

	var simd wasmtest.Builder
	simd.Func("f", nil, nil, nil, 0xfd, 12, make([]byte, 16), 0x1a)
	_, err = wasmprep.Prepare(simd.Bytes(), wasmprep.RulesV1())
	fmt.Println(errors.Is(err, wasmprep.ErrSIMD))
	fmt.Println(err)
	// Output:
	// rules 1 exports twice (i32) -> (i32)
	// state __phala_g0 i32
	// state __phala_depth i64
	// true
	// wasmprep: simd: function 0 at byte 0x1e, opcode 0xfd (simd prefix): not part of the rules
}
