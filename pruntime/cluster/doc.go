// Package cluster is the state machine that every worker of a cluster runs: it
// opens commands, runs contracts, keeps state, and says in receipts what came out.
//
// The state is one ordered map with a keyed Merkle root (package mtreap). Beside the
// contracts' storage it holds what decides how later messages are processed: the
// position in the cluster's topic, the rules version, the contracts and the nonces
// that were used. Two replicas with one root therefore behave alike from there on.
//
//	"c"                         position in the topic, 40 bytes
//	"r"                         rules version
//	"e"                         epoch
//	"k/" contract               code hash, deployer
//	"s/" contract "/" key       a contract's storage
//	"n/" hash(from, nonce)      expiry height of a used nonce
//	"x/" expiry hash            index of nonces by expiry
//
// A command is processed in this order, and the first failure decides its status:
// epoch, envelope, form, expiry, signature, replay, order, contract, gas limit; then
// it runs. A command that fails before it runs does not use up its nonce; one that
// runs does, however it ends. Whatever fails writes nothing else.
package cluster
