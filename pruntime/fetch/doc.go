// Package fetch makes the HTTP requests of queries. A contract's request is bounded in
// size, time, number and redirects, and reaches public addresses only, unless the
// worker's operator allows others.
//
// The host carries the enclave's packets and answers its name lookups, so neither is
// trusted. Addresses are checked when a connection is dialled, after the lookup, and for
// every redirect. https is verified against roots that are compiled in ([Roots]), and
// certificates' dates against the newest verified header's time: the host's own root
// store and clock would let it read and forge every answer. What remains to the host
// with https is to see the addresses and sizes and to let a request fail. http:// is
// what it always is, readable and changeable by all who carry it.
package fetch
