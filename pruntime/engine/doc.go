// Package engine runs contracts: Wasm modules behind a small interface, metered and
// deterministic.
//
// [Engine.Prepare] checks and instruments a module (package wasmprep), compiles it,
// initialises one instance, lets it warm up and keeps an image of its memory. A
// [Program] then runs calls on instances that start from that image, so a call finds
// the same memory on every machine and every time. The programs that ran last are kept
// in memory, up to [MaxMemory]; others are made ready again, from their [Source], when
// they run. State is outside: a contract
// reads and writes it through host functions, which the [Host] of a call serves.
//
// A module is a WASI reactor: it exports memory and _initialize, and deploy, call and
// query without parameters. It imports module "phat" (docs/abi.md) and WASI preview 1,
// which is this package's own: the clock is the block's, randomness comes from the
// Host, there are no files, no environment and no arguments.
//
// What all of it costs, and what a module may contain, is in [Rules], of which an engine
// knows several versions: a module is prepared under one of them, and under another it is
// another program.
//
// Gas is the only clock. It does not depend on the machine, and running out of it
// ends a call like any other failure: nothing that the call wrote stays.
package engine
