// Package transcript makes the bytes that are signed, hashed or authenticated.
//
// There is one function, so that no two purposes can produce the same bytes: a
// domain tag and then every field, each with its length in front:
//
//	u32 len(domain) ‖ domain ‖ { u32 len(field) ‖ field } …
//
// Lengths are big-endian. A signature over one domain can never be taken for one
// over another, and moving a byte from one field to the next changes the result.
// The golden bytes in this package's test are for every implementation.
package transcript
