// Package gas has no code but tests: it pins what whole commands cost under the first
// rules version. The contracts in testdata are committed as they were compiled and never
// built again, so a number that changes is a change of the rules, which splits the
// network unless it comes with a new version. What instructions cost by themselves is
// pinned in wasmprep, each host function in pruntime/engine.
//
//	tally-c.wasm.gz   examples/tally-c, clang 14.0.6
//	tally-as.wasm.gz  examples/tally-as, AssemblyScript 0.28.20
//	tally-go.wasm.gz  what phala new makes, Go 1.26.8
//	script.wasm.gz    pruntime/engine/enginetest's, hand-written
package gas
