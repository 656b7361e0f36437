// Package hostile has no code but tests: modules made to harm a worker, each with the
// error that it must get and within what time, through the whole path from upload to
// receipt. What single passes refuse is in their own packages: wasmprep (refuse_test.go),
// pruntime/engine (abuse_test.go, phat_test.go).
package hostile
