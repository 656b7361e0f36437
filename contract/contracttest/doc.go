// Package contracttest runs contracts in tests, in the process of the test and as
// Wasm in the enclave's own engine, side by side.
//
//	func TestCounter(t *testing.T) {
//		k := contracttest.New(t)
//		alice := k.Account("alice")
//		k.Deploy(alice, nil)
//		k.Call(alice, "Add", 40, nil)
//		var n uint64
//		k.Query(alice, "Current", nil, &n)
//	}
//
// Each call runs natively first; then, where the go command is there to build the
// package under test, as Wasm. A difference in the answer, the error, the events or the
// storage fails the test. Native runs alone, without the engine, come with [Native].
//
// What the contract sees of the world is the test's: accounts by name, blocks
// ([Kit.NextBlock]), HTTP ([Kit.HTTP]), other contracts, real ones ([Kit.Add]) or doubles
// ([Kit.Double]). [Kit.Snapshot] brings a state back. With -v a test ends with a report
// of the gas that each method used.
//
// For a fuzz test make the kit inside the function, so that each input starts afresh:
//
//	contracttest.Build(f)
//	f.Fuzz(func(t *testing.T, n uint64) {
//		k := contracttest.New(t)
//		…
//	})
package contracttest
