package contractcheck

import "strings"

// A rule is why something has no place in a contract, and what does its work there.
type rule struct{ why, instead string }

var (
	ruleRand    = rule{"its seed is part of the contract's published image, so everybody can compute its numbers, and every call sees the same ones", "use the context's Random or RandomN"}
	ruleCrypto  = rule{"in go test its bytes differ from run to run, so the native and the Wasm run cannot agree (in the enclave it gives the context's bytes, which is what the standard library relies on inside)", "use the context's Random or RandomN, which a test can repeat"}
	ruleHash    = rule{"its seed differs from run to run in go test and is public in the enclave", "use hash/fnv, or crypto/sha256 where somebody may choose the input"}
	ruleNet     = rule{"a contract has no sockets: every replica must reach the same state, whatever a network answers", "in a query, use the context's Fetch; in a command, take the data as an argument and check its signature"}
	ruleProcess = rule{"a contract has no processes, users or signals", "do it in the contract's own code, or outside and pass the result as an argument"}
	ruleCode    = rule{"a contract is one Wasm module and loads no other code", "call another contract instead"}
	ruleOS      = rule{"a contract has no files, environment, arguments or exit code", "keep state in contract.Value and contract.Map, take settings as Init's argument, return an error to refuse"}
	ruleLog     = rule{"nobody reads a contract's standard error", "use the context's Log"}
	ruleRuntime = rule{"what it tells about the machine, the collector and the scheduler differs between go test and the enclave", "leave it out: nothing in a contract's result may depend on it"}
	ruleUnsafe  = rule{"addresses and memory layouts differ between go test and the enclave", "use encoding/binary, or plain conversions"}
	ruleC       = rule{"a contract is built without a C compiler", "use Go, or write the whole contract in C (docs/abi.md)"}
	ruleLink    = rule{"it reaches behind the language into the runtime, past everything that is checked here", "use the exported function, or write it anew"}
	ruleImport  = rule{"the native run has no such function, and a test could not see what it does", "use package contract, which offers every host function"}
	ruleExport  = rule{"package contract exports the entry points", "make it a method of the contract's struct"}
	ruleAsm     = rule{"assembly is neither checked here nor run by go test", "use the portable Go version"}
	ruleClock   = rule{"in go test it is the machine's clock, in the enclave the block's", "use the context's Time, Unix milliseconds: time.UnixMilli(int64(ctx.Time())).UTC()"}
	ruleZone    = rule{"the enclave has no time zones: what go test formats in yours would be UTC there", "use UTC, or time.FixedZone"}
)

// everywhere lists imports that are refused in the contract's own module and in what
// it depends on: there they betray or break the contract just the same.
var everywhere = map[string]rule{
	"math/rand": ruleRand, "math/rand/v2": ruleRand,
	"net": ruleNet, "crypto/tls": ruleNet,
	"os/exec": ruleProcess, "os/signal": ruleProcess, "os/user": ruleProcess, "log/syslog": ruleProcess,
	"plugin": ruleCode,
}

// own lists imports that are refused in the contract's own module only. Libraries use
// them for what does no harm: os for an error value, unsafe for speed.
var own = map[string]rule{
	"crypto/rand":  ruleCrypto,
	"hash/maphash": ruleHash,
	"os":           ruleOS, "io/ioutil": ruleOS, "flag": ruleOS,
	"syscall": ruleProcess, "syscall/js": ruleProcess,
	"log": ruleLog, "log/slog": ruleLog,
	"unsafe": ruleUnsafe, "C": ruleC,
}

// used lists what may be imported, and functions of it that the contract's own module
// must not use.
var used = map[string]map[string]rule{
	"time": {"Now": ruleClock, "Since": ruleClock, "Until": ruleClock, "Local": ruleZone, "LoadLocation": ruleZone},
}

// directives of the compiler. The value tells whether dependencies may use it.
var directives = map[string]struct {
	rule
	dependencies bool
}{
	"//go:linkname":   {ruleLink, true},
	"//go:wasmimport": {ruleImport, false},
	"//go:wasmexport": {ruleExport, false},
}

// refusedImport returns the rule against an import.
func refusedImport(path string, mine bool) (rule, bool) {
	if r, ok := everywhere[path]; ok {
		return r, true
	}
	switch {
	case path == "net/netip" || path == "net/url": // only parse
		return rule{}, false
	case strings.HasPrefix(path, "net/"):
		return ruleNet, true
	case mine && (path == "runtime" || strings.HasPrefix(path, "runtime/")):
		return ruleRuntime, true
	}
	r, ok := own[path]
	return r, ok && mine
}
