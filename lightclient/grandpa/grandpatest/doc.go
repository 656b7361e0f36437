// Package grandpatest makes what tests of the GRANDPA light client and of its relayer need: a synthetic network with
// its own voters, forks, faulty voters and set changes ([Network]), and state tries with proofs in every form
// ([Trie]). It is for tests only. Everything follows from the seed.
package grandpatest
