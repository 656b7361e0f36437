// Package wasmprep validates WebAssembly modules and rewrites them into
// metered, deterministic ones. It is pure: bytes and [Rules] in, bytes out;
// equal input gives equal output. The result runs on any WebAssembly engine.
//
// What a contract may contain, what it costs and how NaNs look is decided
// here and not by an engine, so that engines can be exchanged, and compared,
// without a fork. It is a consensus rule: a cluster runs one version of the
// rules, and a change of anything below is a new version.
//
// # Validation
//
// A module must be valid WebAssembly 2.0 (multiple results, sign extension,
// saturating truncation and bulk memory included) by the specification's own
// algorithm. Refused, each with its own [Kind]: vectors, threads, 64-bit
// memory, several memories or tables, tail calls, exceptions, garbage
// collection, reference values, instructions that change a table or drop a
// data segment, extended constants, imports that the rules do not list with
// the same signature (memories, tables and globals cannot be imported), names
// reserved for the pass, element segments that do not fit their table, and
// anything above [Limits]. An [Error] tells the
// function, the byte and the opcode. Contract code is valid when this package
// and the engine both accept it.
//
// # Gas
//
// Gas is one exported i64 global, [GasGlobal]. Every instruction costs what
// [Costs] says; entering a function costs Costs.Call more; memory.fill, copy
// and init cost one unit for each 2^BulkShift bytes, and memory.grow GrowPage
// units for each page asked for, whether or not the operation succeeds.
//
// Instructions that are always executed together form a segment and are
// charged in one go before the first of them, so an instruction is paid for
// before it runs and a trap loses nothing. Two refinements trade a few units
// for speed, deterministically. A loop's head that costs at most RotateMax is
// paid by the branches that lead to it. An arm of an if, or what follows a
// br_if, is charged with the segment it hangs on, taken or not, when it costs
// at most FoldMax and the arms charged with one segment cost no more than the
// segment itself plus FoldSlack.
//
// When the gas has become negative the guest calls [GasModule].[RefillName],
// of type () -> (). The host adds to the global and yields, or traps: out of
// gas. The guest tests for this on each branch back to a loop, on entering a
// guarded function, on leaving one that is not short, and before a bulk
// operation; between two tests it can overdraw by no more than one body, passed
// once, with Costs.Unpaid for what that calls, and the host settles what is
// owed at the end. A function is unguarded if it and the unguarded functions
// it calls are short, it calls nothing indirectly, it closes no cycle of calls
// and nobody calls it more often in one body than Costs.Unpaid allows.
//
// # Call depth
//
// [DepthGlobal] counts down what is left of the stack. A guarded function
// takes Frame + locals + highest operand stack + instructions/8 units (more
// than the machine words that a compiler needs for it), and those of the
// deepest unguarded functions below it, and returns them on every way out but
// a trap. The host call above finds it negative when it has run out. With it
// the depth of recursion depends on the module alone, not on an engine's stack:
// except in modules made for that, whose frames hold many more values than
// their code is long (a call has up to 16 results). Those may fill an engine's
// stack first, and trap.
//
// # NaNs
//
// The specification leaves open which NaN an arithmetic instruction returns,
// and processors differ. Results of add, sub, mul, div, min, max, sqrt, ceil,
// floor, trunc, nearest, promote and demote are therefore made the canonical
// quiet NaN with a positive sign (0x7fc00000, 0x7ff8000000000000). Where the
// only consumer cannot tell NaNs apart (another such instruction, a
// comparison, a truncation to an integer) this is left out. Loads, stores,
// reinterpretations, neg, abs and copysign only move bits and are untouched.
//
// # Snapshots and the rest
//
// Module.Snapshot names the mutable globals, all exported, that make up an
// instance's state together with its memory. A start section becomes the
// export [StartExport], to be called metered. Custom sections are dropped.
// Data segments that lie next to each other are joined.
//
// The prepared module is not to be prepared again: its reserved names are
// refused.
package wasmprep
