package wasmprep

// Module is a prepared module: validated, instrumented, ready for any
// WebAssembly engine that offers its imports and GasModule.
type Module struct {
	// Code is the instrumented binary. Equal input and Rules give equal Code.
	Code []byte
	// RulesVersion is the Version of the Rules that made it.
	RulesVersion uint32
	// Snapshot lists the exported mutable globals which, with the memory, are
	// the whole state of an instance between calls. GasGlobal is not among
	// them: it is set before every call.
	Snapshot []Global
	// Imports lists the host functions that the guest uses, in its order,
	// without GasModule.
	Imports []Import
	// Exports lists the functions that the guest itself exports.
	Exports []Export
	// HasStart tells that the guest had a start section: call StartExport
	// once after instantiating.
	HasStart bool
	// HasMemory, MemoryMin and MemoryMax (64 KiB pages) describe the memory.
	HasMemory            bool
	MemoryMin, MemoryMax uint32
	Stats                Stats
}

// Global is an exported mutable global.
type Global struct {
	Name string
	Type ValType
}

// Import is an imported function.
type Import struct {
	ImportKey
	Type FuncType
}

// Export is an exported function.
type Export struct {
	Name string
	Type FuncType
}

// Stats are sizes that users and operators ask about.
type Stats struct {
	Functions    int // defined by the guest
	Instructions int
	Charges      int // places where gas is taken
	Canonical    int // float results canonicalised
	LargestBody  int // bytes
	MostLocals   int
	MostOperands int
	MostNesting  int
	MostLabels   int // in one br_table
	MostFrame    int64
	CompileWork  int64 // estimate, about microseconds
	Guarded      int   // functions that count their depth
	Elements     int   // what instantiating writes into the table
	DataSegments int   // what instantiating writes into memory, joined ones counted once
	DataBytes    int
}
