package wasmprep

import (
	"maps"
	"slices"
)

// Names in a prepared module. A guest may export nothing that starts with
// ReservedPrefix and import nothing from GasModule, so these are always ours.
const (
	// ReservedPrefix starts every name that the pass adds.
	ReservedPrefix = "__phala_"
	// GasGlobal is the exported mutable i64: gas left in the current slice.
	GasGlobal = ReservedPrefix + "gas"
	// DepthGlobal is the exported mutable i64: call-depth units left. It is
	// negative only inside the refill call that reports an exhausted depth.
	DepthGlobal = ReservedPrefix + "depth"
	// MemoryExport is the memory, exported whether or not the guest did.
	MemoryExport = ReservedPrefix + "memory"
	// StartExport is the guest's start function, which instantiation no longer
	// runs: the engine calls it, metered.
	StartExport = ReservedPrefix + "start"
	// globalPrefix and a decimal index name the guest's mutable globals.
	globalPrefix = ReservedPrefix + "g"
	// GasModule and RefillName name the host function, of type () -> (), that
	// a guest calls when GasGlobal or DepthGlobal has become negative.
	GasModule  = "phala_gas"
	RefillName = "refill"
)

// FuncType is a function signature.
type FuncType struct {
	Params, Results []ValType
}

// Equal reports whether two signatures are the same.
func (t FuncType) Equal(u FuncType) bool {
	return slices.Equal(t.Params, u.Params) && slices.Equal(t.Results, u.Results)
}

// ImportKey names an imported function.
type ImportKey struct {
	Module, Name string
}

// Rules is one version of the consensus rules for contract code: what is
// accepted, what it costs and how it is rewritten. Two enclaves with equal
// Rules turn equal bytes into equal bytes.
type Rules struct {
	// Version identifies the rules on chain.
	Version uint32
	// Imports lists the host functions that a module may import.
	Imports map[ImportKey]FuncType
	Limits  Limits
	Costs   Costs

	// eachOp makes every instruction a segment of its own: the naive metering
	// that tests compare with.
	eachOp bool
}

// Limits bounds a module's sizes; each is checked before anything is
// allocated in proportion to it.
type Limits struct {
	ModuleBytes   int // the module as uploaded, uncompressed
	OutputBytes   int // the module after instrumentation
	Types         int
	Params        int // per function type
	Results       int // per function type
	Imports       int
	Functions     int // defined ones
	Globals       int
	Exports       int
	NameBytes     int // per imported or exported name
	DataSegments  int // as uploaded; the Go linker makes up to 100,000
	Joined        int // data segments after neighbours became one
	Elements      int // element segments, and entries in each
	TableEntries  int
	BodyBytes     int // per function body
	Locals        int // per function, parameters included
	Operands      int // height of a function's operand stack
	Nesting       int // nested blocks in a function
	BrTableLabels int // per br_table
	// CompileWork bounds the estimated work of compiling the module, in units
	// of at most about a microsecond; see walker.compileWork. Go contracts of
	// 4.6 MB with the whole of the standard library's usual packages need a third of
	// version 1's.
	CompileWork int64
	// MemoryPages bounds the memory (64 KiB pages): a larger minimum is
	// refused, a larger maximum is lowered to it.
	MemoryPages uint32
	// CallDepth is the budget of call-depth units; see [Costs.Frame].
	CallDepth int64
}

// Costs is the gas table. One unit is about the time of one integer addition.
type Costs struct {
	// Op is the cost of each single-byte opcode.
	Op [256]uint16
	// Prefixed is the cost of each 0xfc opcode, without its length.
	Prefixed [len(prefixNames)]uint16
	// Call is the fixed cost of entering a function, paid by the callee, and
	// Local is added for each declared local, which must be zeroed.
	Call, Local uint16
	// BulkShift: memory.fill, copy and init cost length >> BulkShift more.
	BulkShift uint8
	// GrowPage: memory.grow costs this for each page asked for.
	GrowPage uint32
	// Frame is the fixed part of a call frame in depth units. A frame takes
	// Frame + locals + highest operand stack + instructions/8 units: an upper
	// estimate of the machine words that any compiler makes of it.
	Frame int64
	// RotateMax, FoldMax and FoldSlack say which charges are joined; see
	// segment.go. With all of them 0, gas is
	// exactly the sum over the instructions executed.
	RotateMax, FoldMax, FoldSlack uint64
	// Unguarded and UnguardedFrame bound, in gas and in depth units, what a
	// function may do without testing for exhaustion on entry.
	Unguarded      uint64
	UnguardedFrame int64
	// Unpaid bounds the gas of all the calls of unguarded functions that stand in one
	// function. No function of a Go contract comes near version 1's.
	Unpaid uint64
}

// RulesV1 returns the first rules version with the WASI functions as allowed
// imports. The engine adds its own host functions with WithImports.
func RulesV1() Rules {
	return Rules{
		Version: 1,
		Imports: wasiImports(),
		Limits: Limits{
			ModuleBytes: 8 << 20, OutputBytes: 24 << 20,
			Types: 4096, Params: 64, Results: 16, Imports: 256, Functions: 65536,
			Globals: 1024, Exports: 1024, NameBytes: 512, DataSegments: 131072, Joined: 65536,
			Elements: 131072, TableEntries: 131072,
			BodyBytes: 1 << 20, Locals: 4096, Operands: 4096, Nesting: 16384, BrTableLabels: 16384,
			CompileWork: 20_000_000, MemoryPages: 1024, CallDepth: 1 << 21,
		},
		Costs: costsV1(),
	}
}

// WithImports returns a copy of the rules that also allows the given imports.
func (r Rules) WithImports(add map[ImportKey]FuncType) Rules {
	m := make(map[ImportKey]FuncType, len(r.Imports)+len(add))
	maps.Copy(m, r.Imports)
	maps.Copy(m, add)
	r.Imports = m
	return r
}

func costsV1() Costs {
	c := Costs{Call: 5, Local: 0, BulkShift: 3, GrowPage: 8192, Frame: 8,
		RotateMax: 12, FoldMax: 24, FoldSlack: 12, Unguarded: 512, UnguardedFrame: 512, Unpaid: 1 << 16}
	for op := range c.Op {
		switch ops[op].class {
		case clsSimple, clsMemory, clsSpecial:
			c.Op[op] = 1
		}
	}
	set := func(cost uint16, list ...int) {
		for _, op := range list {
			c.Op[op] = cost
		}
	}
	// Structure that leaves no machine code behind.
	set(0, opNop, opBlock, opLoop, opElse, opEnd, opDrop, opUnreachable)
	set(2, opIf, opBr, opBrIf, opReturn, opSelect, opSelectT)
	set(4, opBrTable, opCall)
	set(8, opCallIndirect)
	for op := 0x28; op <= 0x3e; op++ {
		set(2, op) // bounds check and access
	}
	set(30, opMemoryGrow)
	// Division: i32 and i64 div_s, div_u, rem_s, rem_u.
	set(12, 0x6d, 0x6e, 0x6f, 0x70)
	set(16, 0x7f, 0x80, 0x81, 0x82)
	set(2, 0x6c, 0x7e) // mul
	// Floats that compute, with their canonicalisation.
	for op := range c.Op {
		if ops[op].canon {
			c.Op[op] = 5
		}
	}
	set(12, 0x91, 0x95, 0x9f, 0xa3) // sqrt, div
	set(4, 0xa8, 0xa9, 0xaa, 0xab, 0xae, 0xaf, 0xb0, 0xb1)
	for i := range c.Prefixed {
		c.Prefixed[i] = 4
	}
	c.Prefixed[subMemoryInit] = 20
	c.Prefixed[subMemoryCopy] = 20
	c.Prefixed[subMemoryFill] = 20
	return c
}

// wasiImports lists WASI preview 1 as far as a contract can import it: what
// the Go runtime, wasi-libc and AssemblyScript's shim need. (A program that
// opens paths or sockets is not a contract.)
func wasiImports() map[ImportKey]FuncType {
	i := func(params ...ValType) FuncType { return FuncType{Params: params, Results: []ValType{I32}} }
	m := make(map[ImportKey]FuncType)
	add := func(t FuncType, names ...string) {
		for _, n := range names {
			m[ImportKey{"wasi_snapshot_preview1", n}] = t
		}
	}
	add(i(), "sched_yield")
	add(FuncType{Params: []ValType{I32}}, "proc_exit")
	add(i(I32), "fd_close", "fd_datasync", "fd_sync")
	add(i(I32, I32), "args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "random_get", "clock_res_get",
		"fd_fdstat_get", "fd_fdstat_set_flags", "fd_prestat_get", "fd_filestat_get")
	add(i(I32, I64, I32), "clock_time_get")
	add(i(I32, I32, I32), "fd_prestat_dir_name")
	add(i(I32, I32, I32, I32), "fd_write", "fd_read", "poll_oneoff")
	add(i(I32, I64, I32, I32), "fd_seek")
	return m
}
