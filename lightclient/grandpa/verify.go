package grandpa

import (
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"golang.org/x/crypto/blake2b"
)

// messagePrecommit is the variant index of a precommit in finality-grandpa's Message.
const messagePrecommit = 1

// zip215 are the verification rules of the chain (sp-core uses ed25519-zebra). An implementation with other rules
// would disagree with the chain about some signatures, which an attacker may choose.
var zip215 = &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}

// SigningPayload returns the 53 bytes that a voter signs for a precommit: the variant byte 1, the block's hash and
// number, the round and the set id.
func SigningPayload(target BlockID, round, setID uint64) []byte {
	b := make([]byte, 0, 1+36+16)
	b = appendBlockID(append(b, messagePrecommit), target)
	return appendU64(appendU64(b, round), setID)
}

// Verify checks that j proves its commit target final under set. In order:
//
//   - each vote is by a distinct member of the set: no unknown voter, no repeated one, whatever the votes are for
//     (finality-grandpa lets an equivocator's weight count for every block, and reports commits with unknown voters
//     and duplicates as valid; here both are errors);
//   - the weight of the votes reaches the threshold (more votes than needed are fine: real justifications may have
//     some);
//   - each vote is for the commit target or for a descendant that the ancestry headers link to it, hashes and
//     numbers both, and each ancestry header is needed for some vote and present once;
//   - no child of the target has the threshold behind it, that is, the target is the precommit GHOST, as
//     full nodes require it;
//   - all signatures are valid by ZIP-215, verified in one batch.
//
// It accepts a subset of what a full node accepts.
func (j *Justification) Verify(set *AuthoritySet) error {
	votes := j.Commit.Votes
	if len(votes) > set.Len() {
		return fail(ErrDuplicate, "%d votes from a set of %d", len(votes), set.Len())
	}
	voted := make([]bool, set.Len())
	var weight uint64
	for i := range votes {
		at, known := set.index[votes[i].Authority]
		if !known {
			return fail(ErrVoter, "vote %d: %s is not in set %d", i, votes[i].Authority, set.id)
		}
		if voted[at] {
			return fail(ErrDuplicate, "vote %d: second vote of %s", i, votes[i].Authority)
		}
		voted[at] = true
		weight += set.list[at].Weight // at most the total, which fits
	}
	if weight < set.Threshold() {
		return fail(ErrThreshold, "%d of %d, threshold %d (set %d)", weight, set.total, set.Threshold(), set.id)
	}
	if err := j.checkAncestry(set); err != nil {
		return err
	}
	return j.VerifySignatures(set.id)
}

// checkAncestry checks that every vote reaches the commit target through the ancestry headers, that each of these is
// used, and that the target is the highest block with a supermajority. The cost is linear in votes plus headers:
// a walk stops at the first block that an earlier one has passed.
func (j *Justification) checkAncestry(set *AuthoritySet) error {
	target := j.Commit.Target
	byHash := make(map[Hash]int, len(j.Ancestries))
	for i, h := range j.Ancestries {
		hash := h.Hash()
		if _, twice := byHash[hash]; twice {
			return fail(ErrUnused, "ancestry header %s is there twice", BlockID{h.Number, hash})
		}
		if hash == target.Hash {
			return fail(ErrUnused, "ancestry contains the commit target %s", target)
		}
		byHash[hash] = i
	}
	// branch[i] is the child of the target through which ancestry header i descends; -1 when not yet walked.
	branch := make([]int, len(j.Ancestries))
	for i := range branch {
		branch[i] = -1
	}
	subtree := make(map[int]uint64) // weight of the votes at or above each child of the target
	var path []int
	used := 0
	for i := range j.Commit.Votes {
		v := &j.Commit.Votes[i]
		if v.Target.Hash == target.Hash {
			if v.Target.Number != target.Number {
				return fail(ErrTarget, "vote %d gives the commit target %s the number %d", i, target, v.Target.Number)
			}
			continue
		}
		path = path[:0]
		hash, number, child := v.Target.Hash, v.Target.Number, -1
		for hash != target.Hash {
			at, known := byHash[hash]
			if !known {
				return fail(ErrAncestry, "vote %d for %s: no ancestry header for %s", i, v.Target, hash)
			}
			h := j.Ancestries[at]
			if h.Number != number || number <= target.Number {
				return fail(ErrAncestry, "vote %d for %s: ancestor %s has number %d, expected %d above %d",
					i, v.Target, hash, h.Number, number, target.Number)
			}
			path, child = append(path, at), at
			if branch[at] >= 0 {
				child = branch[at]
				break
			}
			hash, number = h.ParentHash, number-1
		}
		if hash == target.Hash && number != target.Number {
			return fail(ErrAncestry, "vote %d for %s reaches the commit target %s at number %d", i, v.Target, target, number)
		}
		for _, at := range path {
			if branch[at] < 0 {
				branch[at] = child
				used++
			}
		}
		subtree[child] += set.list[set.index[v.Authority]].Weight
		if subtree[child] >= set.Threshold() {
			return fail(ErrNotGHOST, "%s has a supermajority above the commit target %s", j.Ancestries[child].ID(), target)
		}
	}
	if used != len(j.Ancestries) {
		return fail(ErrUnused, "%d of %d ancestry headers lead to no vote", len(j.Ancestries)-used, len(j.Ancestries))
	}
	return nil
}

// VerifySignatures checks that every vote's signature is valid for the given set id by the key that the vote names.
// By itself it proves nothing about finality: who the voters are is for [Justification.Verify]. It exists for tools
// that look at justifications of sets they do not know.
func (j *Justification) VerifySignatures(setID uint64) error {
	votes := j.Commit.Votes
	if len(votes) == 0 {
		return fail(ErrThreshold, "no votes")
	}
	batch := ed25519.NewBatchVerifierWithCapacity(len(votes)).ForceNoPublicKeyExpansion()
	// The batch coefficients must be unpredictable to whoever chose the signatures. They come from a hash over all
	// inputs, so that verification stays a function of its arguments (the construction of Fiat and Shamir).
	seed, _ := blake2b.NewXOF(64, nil) // fails for over-long keys only
	seed.Write([]byte("phala/grandpa/batch/v1"))
	var payload []byte
	for i := range votes {
		v := &votes[i]
		// Nearly all votes are for one block: keep the payload while the target stays.
		if i == 0 || v.Target != votes[i-1].Target {
			payload = SigningPayload(v.Target, j.Round, setID)
		}
		batch.AddWithOptions(v.Authority[:], payload, v.Signature[:], zip215)
		seed.Write(v.Authority[:])
		seed.Write(payload)
		seed.Write(v.Signature[:])
	}
	if ok, each := batch.Verify(seed); !ok {
		bad, first := 0, -1
		for i, good := range each {
			if !good {
				bad++
				if first < 0 {
					first = i
				}
			}
		}
		return fail(ErrSignature, "%d of %d signatures invalid at round %d of set %d, the first is vote %d by %s",
			bad, len(votes), j.Round, setID, first, votes[first].Authority)
	}
	return nil
}
