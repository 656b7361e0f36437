// Package snapshot reads and writes the input and the result of an election as
// files, by name: the native format of this project, and the result files of two
// public tools that ran Kusama's and Polkadot's elections.
//
// Parse is strict: unknown fields, trailing data, contradictions and (in the native
// format) any form but the canonical one are refused with a typed Error; the input
// is bounded by MaxBytes. It does no I/O and does not decompress.
//
// The native format is the JSON form of Snapshot:
//
//	{"phala_election":1,"symbol":"PHA","decimals":12,"seats":1,
//	 "candidates":["alice"],
//	 "voters":[{"id":"bob","stake":"5","approvals":["alice"]}]}
package snapshot
