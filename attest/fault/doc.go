// Package fault names every reason for which attestation evidence is refused.
//
// A [Code] is both a stable string, fit for logs, events and the wire, and an
// error, so that callers test for it with errors.Is:
//
//	if errors.Is(err, fault.PCKRevoked) { … }
//
// The part before the dot is the step of the verification that failed, the
// part after it is what was wrong. Codes are never renamed or reused.
package fault
