// Package scale implements the part of SCALE (Simple Concatenated Aggregate Little-Endian encoding, Polkadot
// specification, appendix "SCALE Codec Format") that the GRANDPA light client and its state reads need.
//
// # Reading
//
// A [Decoder] reads a byte slice front to back and is sticky: after the first error every read returns the zero
// value, and [Decoder.Err] tells what went wrong and at which byte. Code that decodes a structure therefore reads
// all fields in a row and asks for the error once, at the end, with [Decoder.Finish], which also refuses trailing
// bytes. Nothing is allocated before its length has been held against both the caller's limit and the bytes that
// are really there, so hostile lengths cost nothing.
//
// The decoder accepts exactly one encoding per value: compact integers must use their shortest mode, booleans and
// option tags must be 0 or 1.
//
// # Writing
//
// The Append functions write the same encodings; they extend a slice and return it, like those of encoding/binary
// and strconv. Fixed-width integers are little-endian: use [encoding/binary.LittleEndian] for them.
//
// # Units and limits
//
// All lengths are in elements or bytes as named. Compact integers are read up to 2^64-1 ([Decoder.Compact]) or
// 2^128-1 ([Decoder.CompactU128]); larger ones, which SCALE would allow up to 2^536-1, are refused, since no
// structure of this light client holds one.
package scale
