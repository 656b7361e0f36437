// Package verifycli is the command "phala verify substrate": it checks a chain of proofs about a Substrate chain, link
// by link, offline, and prints each as verified or the first that breaks, and why.
//
// Trust comes from the flags alone: a checkpoint, an authority set, a state root. The links are checked in the order in
// which they are given, each on what those before it have proven:
//
//	update=FILE         headers and justification, advances the trusted block
//	headers=FILE        headers for the next justification or finality link
//	justification=FILE  justification of the last such header; without headers, of a block by the trusted set alone
//	finality=FILE       answer of grandpa_proveFinality, behind the headers before it
//	commit=FILE         gossip commit message
//	warp=FILE           warp-sync proof
//	state=FILE          read proof under the trusted block's state root (or --root)
//	para=ID             go on in the state of a parachain, whose head is read from the present state
//	read=ITEM           read an item from the present state
//
// Files may be raw SCALE, hexadecimal, or the JSON in which an RPC answered. [Run] is the whole command.
package verifycli
