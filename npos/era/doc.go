// Package era holds the money side of an era of nominated proof of stake as pure
// functions: how much is issued (Curve), how it is divided by points and by exposure
// (Divide, Exposure.Split), what an offence costs (EquivocationFraction,
// Exposure.Slash) and how repeated slashes add up (Spans).
//
// Everything is integer arithmetic; every part is rounded down, so that the parts
// never sum to more than the whole. Fractions are in billionths (npos.Billion), rates
// in units of 10^-18 (Rate). Times are milliseconds. Errors are of type *Error with a
// Code for errors.Is.
package era
