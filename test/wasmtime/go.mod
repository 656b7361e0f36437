module github.com/phala-go/phala/test/wasmtime

go 1.26.5

require (
	github.com/bytecodealliance/wasmtime-go/v39 v39.0.1
	github.com/phala-go/phala v0.0.0
	github.com/tetratelabs/wazero v1.12.0
)

require golang.org/x/sys v0.44.0 // indirect

replace github.com/phala-go/phala => ../..
