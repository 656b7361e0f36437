// Package report judges an elected set: the smallest support and its bound, the
// certificate of proportional justified representation, the stake that an attacker
// needs for one third and for two thirds of the seats, and each validator's support
// with where it comes from. Its forms are a struct for JSON (amounts as decimal
// strings), text for a terminal, and a drawing as SVG.
//
// All functions are pure and use integers only, so a report is the same wherever it
// is made.
package report
