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
//	"w"                         version that is wanted, message of which the seats' words must be
//	"e"                         epoch
//	"k/" contract               code hash, image hash, deployer
//	"s/" contract "/" key       a contract's storage: rules that priced it, depositor, value
//	"b/" account                deposits that returned to it and are not paid out yet
//	"n/" hash(from, nonce)      expiry height of a used nonce
//	"x/" expiry hash            index of nonces by expiry
//	"g/" hash(grantor, id)      end of a revoked grant
//	"g/" hash(grantor)          time until which all issued grants are revoked
//	"y/" end hash               index of revocations by when they are forgotten
//
// A command is processed in this order, and the first failure decides its status:
// epoch, envelope, form, expiry, signature, replay, order, contract, gas limit; then
// it runs. A command that fails before it runs does not use up its nonce; one that
// runs does, however it ends. Whatever fails writes nothing else.
//
// Everything runs under one version of the rules ([engine.Rules]), until the message
// [proto.RulesActivated] puts the next into force: that turns the image of each contract
// into what its code is under it. An item of storage binds what it cost under the rules of
// when it was made as large as it is.
//
// A command to [proto.ClusterAddress] is for the cluster itself: it revokes read grants
// of its caller, one ([proto.Revocation]) or all that were issued until its block. It
// costs a fixed gas. Because the revocation is in the state, every replica that processed
// it refuses the grant, restored ones too. It is kept until the grant has ended by its own
// terms, or until every grant that it ends must have; a nonce is forgotten in the same way.
// So a query under a grant is judged by the time of a header that is newer than the state
// it runs on: by that time, what the state has forgotten has ended.
package cluster
