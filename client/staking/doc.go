// Package staking reads the chain's nominated proof of stake: eras, validators, stakes,
// and the input of the next election.
//
// What it returns is the word of the node that was asked: these are queries without
// proofs. Whoever must be sure asks several nodes, or computes the election again from
// [Client.Election], whose result the chain's next era shows.
package staking
