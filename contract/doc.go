// Package contract is what a confidential contract in Go imports. It has no
// dependencies.
//
// A contract is an ordinary package main with a struct. The struct's fields are its
// storage, its exported methods what callers may do: a method whose first parameter
// is *Command changes state and goes through the chain; one whose first parameter is
// *Query reads and is answered by a worker at once.
//
//	type Counter struct {
//		Count contract.Value[uint64]
//	}
//
//	func (c *Counter) Add(ctx *contract.Command, n uint64) (uint64, error) {
//		v := c.Count.Get() + n
//		c.Count.Set(v)
//		return v, nil
//	}
//
//	func (c *Counter) Current(ctx *contract.Query) (uint64, error) { return c.Count.Get(), nil }
//
//	func init() { contract.Register(&Counter{}) }
//	func main() {}
//
// After the context a method may take one argument of any type that encoding/json
// reads, and it returns an error, or a value and an error. A method Init(*Command, …)
// is the constructor; it runs once, when the contract is deployed.
//
// Everything that a method sees is confidential: arguments and answers are encrypted
// between the caller and the enclaves, and storage exists only there. What a command
// does is decided by its arguments, its storage and its context alone, so that every
// replica reaches the same state; there is no clock but the block's and no randomness
// but the context's. Goroutines may be used, and have ended or stay blocked when the
// method returns.
//
// A caller may let other accounts query in its name, by a read grant (phala grant). The
// contract need not know: Caller is the one who gave the grant, and [Query.Reader] says
// who asks.
//
// An error that a method returns reaches the caller with its code (see [Errorf]), and
// nothing that the method wrote stays. The same holds for a panic, and for running out
// of gas.
//
// Contracts of a cluster call each other with [Call] and [Ask]. What a command emits
// ([Emit], [EmitTo]) is bound in its receipt. A contract has keys of its own
// ([Command.Signer], [Command.Secret]), and hashes and signatures in the host, where they
// are many times faster than Go in Wasm. Queries may ask servers ([Query.Fetch]).
//
// Package contracttest runs contracts in tests, natively and as Wasm.
package contract
