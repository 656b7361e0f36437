package engine

import "github.com/phala-go/phala/wasmprep"

// Rules is one version of the rules: what a contract may contain, how it is instrumented,
// and what everything costs. All replicas of a cluster run under one version, and change to
// the next at one height, so a change of anything here is a new version: another entry of
// [Known]. What is a constant elsewhere in this package (limits, words of errors, what a
// function does) is of all versions; whoever changes it for one makes it a field first.
type Rules struct {
	Module   wasmprep.Rules // with the host functions that a module may import
	Host     HostGas
	Instance InstanceGas
	Command  CommandGas
	Deposit  DepositPrice
	// Initialise and Warmup are the gas of what runs before a code's image is taken:
	// bounded, because it is paid for by nobody, and used again whenever the code comes back
	// to memory. A module that does not initialise within it cannot run at all; a Go contract
	// takes some 3 million to initialise and 10 to 20 million to warm up.
	Initialise, Warmup uint64
}

// Version identifies the rules on chain.
func (r *Rules) Version() uint32 { return r.Module.Version }

// HostGas is the gas of the host functions: a fixed part and one for each byte moved. One
// unit is about one simple instruction; a storage access is a tree walk and, for a write,
// hashes up to the root.
type HostGas struct {
	Call, Byte, Read, Write, Random uint64
	// Of the cryptographic functions, measured beside instructions: one unit is about a
	// third of a nanosecond.
	Derive, Hash, Recover uint64
	HashByte              uint64 // SHA-512, BLAKE2b and Keccak on a machine without help
	Verify, Sign, Public  map[SignatureScheme]uint64
	// Of what reaches beyond the contract.
	Contract  uint64 // an instance is taken and restored
	Event     uint64
	EventByte uint64 // sealed, posted and kept
	Sealed    uint64 // a key agreement in addition
	HTTP      uint64
}

// InstanceGas is the gas of a new instance of a module: wazero fills its table and memory
// before the image covers them.
type InstanceGas struct {
	Base, Element, Segment uint64
	TwoBytes               uint64 // of data
	Fault                  uint64 // for each 4 KiB that are touched
	Page                   uint64
	// Written is for each 64 KiB of the image that a call may write and that are then
	// faulted in anew: in an instance that is thrown away all of them, up to Kept, and in
	// every call those beyond Kept. Nothing tells which ones a call wrote that would be the
	// same on every machine, so it pays for all that there are.
	Written, Kept uint64
}

// CommandGas is the gas of a command beside its contract's.
type CommandGas struct {
	Open   uint64 // opening, decoding, one signature
	Revoke uint64 // a revocation: as much as two reads, two small writes and a deletion cost a contract
}

// DepositPrice is what stored items bind, in base units.
type DepositPrice struct{ Item, Byte, Step uint64 }

// StorageDeposit is what a stored item binds of its payer's money until it is removed: a
// part for the item, and one for its bytes, in steps that keep the length of small values
// out of it.
func (r *Rules) StorageDeposit(key, value int) uint64 {
	d := &r.Deposit
	return d.Item + d.Byte*d.Step*((uint64(key+value)+d.Step-1)/d.Step)
}

// Known lists the versions that this build knows, from 1 on without a gap: clusters that
// have not come to a newer one yet run under the older, and what was stored under those
// binds what it cost then.
func Known() []Rules { return []Rules{RulesV1()} }

// RulesV1 returns version 1.
func RulesV1() Rules {
	return Rules{
		Module: wasmprep.RulesV1().WithImports(imports()),
		Host: HostGas{Call: 300, Byte: 1, Read: 5_000, Write: 25_000, Random: 5_000,
			Derive: 10_000, Hash: 1_500, HashByte: 12, Recover: 700_000,
			Verify:   map[SignatureScheme]uint64{Sr25519: 250_000, Ed25519: 200_000, Secp256k1: 600_000},
			Sign:     map[SignatureScheme]uint64{Sr25519: 300_000, Ed25519: 200_000, Secp256k1: 450_000},
			Public:   map[SignatureScheme]uint64{Sr25519: 120_000, Ed25519: 120_000, Secp256k1: 250_000},
			Contract: 50_000, Event: 5_000, EventByte: 8, Sealed: 250_000, HTTP: 1_000_000},
		Instance:   InstanceGas{Base: 30_000, Element: 60, Segment: 40, TwoBytes: 1, Fault: 1_500, Page: 100, Written: 8_192, Kept: 128},
		Command:    CommandGas{Open: 150_000, Revoke: 100_000},
		Deposit:    DepositPrice{Item: 100_000, Byte: 1_000, Step: 64},
		Initialise: 1 << 26, Warmup: 1 << 27,
	}
}

// instance is what a new instance of a module costs.
func (r *Rules) instance(s *wasmprep.Stats, imageBytes int) uint64 {
	c := &r.Instance
	pages := uint64(imageBytes >> 16)
	touched := min(uint64(s.DataSegments+s.DataBytes>>12), 16*pages) // of 4 KiB, each faulted in
	return c.Base + c.Element*uint64(s.Elements) + c.Segment*uint64(s.DataSegments) + c.TwoBytes*uint64(s.DataBytes)/2 + c.Fault*touched + c.Page*pages + c.Written*min(pages, c.Kept)
}

// written is what every call of a module with a large image costs.
func (r *Rules) written(imageBytes int) uint64 {
	c := &r.Instance
	return c.Written * (max(uint64(imageBytes>>16), c.Kept) - c.Kept)
}
