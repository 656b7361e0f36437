// Package enginetest has a small contract for the tests of what runs contracts: it does
// what its input says. Nothing but tests imports it.
//
// The first byte of the input is the operation, the rest its argument:
//
//	e DATA      answer DATA
//	p K VALUE   put VALUE under the one-byte key K
//	g KEY       answer the value of KEY, or nothing
//	n           add one to the first byte of the value of "n" and answer it
//	t           put, then trap
//	f           put, then refuse with code 7 and "no!"
//	F           refuse with a message of 4096 bytes
//	l           loop for ever
//	d           recurse for ever
//	m           grow memory as far as it goes, answer the pages
//	r           answer 32 random bytes
//	b SIZE      answer SIZE zero bytes (little-endian, four bytes)
//	s N         loop N times (little-endian, four bytes), then answer nothing
//	c           answer the caller
//	R           answer the reader
//	h           answer height and time
//	x K         delete the one-byte key K
//	k ID INPUT  put, then call a command of contract ID (32 bytes): answer what the host
//	            function returns (eight bytes), then what it staged
//	q ID INPUT  likewise, its query
//	K ID INPUT  put, call a command, then trap
//	v DATA      emit DATA for everybody
//	w KEY DATA  emit DATA for the reader's key (32 bytes)
//	V DATA      emit DATA for everybody, then trap
//	o LINE      log LINE
//	O LINE      log LINE, then trap
//	i LABEL     answer the secret of LABEL
//	H REQUEST   make an HTTP request: answer as k
//	a K VALUE   accept a re-entry, then put as p
//
// Anything else does nothing. deploy, call and query are the same.
package enginetest
