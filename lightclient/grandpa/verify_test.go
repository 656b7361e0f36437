package grandpa_test

import (
	"errors"
	"fmt"
	"math/rand"
	"testing"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
)

// tree is a chain of blocks with a fork, four voters of weight one and the votes they can cast:
//
//	#10 base - #11 target - #12 - #13
//	                     \- #12' - #13'
type tree struct {
	voters                   []*grandpatest.Voter
	set                      *grandpa.AuthoritySet
	base, target, a12, a13   *grandpa.Header
	b12, b13                 *grandpa.Header
	round, setID             uint64
	justification, ancestral *grandpa.Justification
}

func child(parent *grandpa.Header, salt byte) *grandpa.Header {
	h := &grandpa.Header{ParentHash: parent.Hash(), Number: parent.Number + 1}
	h.StateRoot[0] = salt
	return h
}

func newTree(t testing.TB) *tree {
	c := &tree{round: 5, setID: 9}
	for i := range 4 {
		c.voters = append(c.voters, grandpatest.NewVoter(70, i, 1))
	}
	c.set = mustSet(t, c.setID, grandpatest.Authorities(c.voters))
	c.base = &grandpa.Header{Number: 10}
	c.target = child(c.base, 0)
	c.a12, c.b12 = child(c.target, 0), child(c.target, 1)
	c.a13, c.b13 = child(c.a12, 0), child(c.b12, 0)
	c.justification = c.just(c.target, c.vote(0, c.target), c.vote(1, c.target), c.vote(2, c.target))
	c.ancestral = c.just(c.target, c.vote(0, c.target), c.vote(1, c.a13), c.vote(2, c.b12))
	c.ancestral.Ancestries = []*grandpa.Header{c.a12, c.a13, c.b12}
	return c
}

func (c *tree) vote(voter int, on *grandpa.Header) grandpa.Vote {
	return c.voters[voter].Vote(on.ID(), c.round, c.setID)
}

func (c *tree) just(target *grandpa.Header, votes ...grandpa.Vote) *grandpa.Justification {
	return &grandpa.Justification{Round: c.round, Commit: grandpa.Commit{Target: target.ID(), Votes: votes}}
}

func TestVerify(t *testing.T) {
	c := newTree(t)
	outsider := grandpatest.NewVoter(71, 0, 1)
	with := func(j *grandpa.Justification, change func(*grandpa.Justification)) *grandpa.Justification {
		j = cloneJustification(j)
		change(j)
		return j
	}
	for _, tc := range []struct {
		name string
		j    *grandpa.Justification
		want error // nil: accepted
	}{
		{"threshold exactly, pitfalls 1, 2, 6: distinct known voters, one target", c.justification, nil},
		{"votes for descendants on two branches, pitfalls 3, 4, 9: one vote each, all linked", c.ancestral, nil},
		{"pitfall 1: a vote twice", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes[2] = j.Commit.Votes[1]
		}), grandpa.ErrDuplicate},
		{"pitfall 1: more votes than voters", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes = append(j.Commit.Votes, j.Commit.Votes...)
		}), grandpa.ErrDuplicate},
		{"pitfall 2: unknown voter besides enough known ones", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes = append(j.Commit.Votes, outsider.Vote(c.target.ID(), c.round, c.setID))
		}), grandpa.ErrVoter},
		{"pitfall 2: unknown voter as the last one needed", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes[2] = outsider.Vote(c.target.ID(), c.round, c.setID)
		}), grandpa.ErrVoter},
		{"pitfall 3: equivocation, both votes above the target", with(c.ancestral, func(j *grandpa.Justification) {
			j.Commit.Votes = append(j.Commit.Votes, c.vote(1, c.b12))
		}), grandpa.ErrDuplicate},
		{"pitfall 4: ancestry header missing", with(c.ancestral, func(j *grandpa.Justification) {
			j.Ancestries = j.Ancestries[1:]
		}), grandpa.ErrAncestry},
		{"pitfall 4: no ancestry at all", with(c.ancestral, func(j *grandpa.Justification) {
			j.Ancestries = nil
		}), grandpa.ErrAncestry},
		{"pitfall 4: unused ancestry header", with(c.ancestral, func(j *grandpa.Justification) {
			j.Ancestries = append(j.Ancestries, c.b13)
		}), grandpa.ErrUnused},
		{"pitfall 4: ancestry header twice", with(c.ancestral, func(j *grandpa.Justification) {
			j.Ancestries = append(j.Ancestries, c.a12)
		}), grandpa.ErrUnused},
		{"pitfall 4: commit target among the ancestries", with(c.ancestral, func(j *grandpa.Justification) {
			j.Ancestries = append(j.Ancestries, c.target)
		}), grandpa.ErrUnused},
		{"pitfall 4: vote for a block below the target", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes[2] = c.vote(2, c.base)
		}), grandpa.ErrAncestry},
		{"pitfall 4: vote for a sibling linked by its parent", with(c.just(c.a12, c.vote(0, c.a12), c.vote(1, c.a12), c.vote(2, c.b13)),
			func(j *grandpa.Justification) {
				j.Ancestries = []*grandpa.Header{c.b13, c.b12, c.target}
			}), grandpa.ErrAncestry},
		{"pitfall 4: all votes for one child", with(c.just(c.target, c.vote(0, c.a12), c.vote(1, c.a13), c.vote(2, c.a12)),
			func(j *grandpa.Justification) {
				j.Ancestries = []*grandpa.Header{c.a13, c.a12}
			}), grandpa.ErrNotGHOST},
		{"pitfall 4: that child as target", with(c.just(c.a12, c.vote(0, c.a12), c.vote(1, c.a13), c.vote(2, c.a12)),
			func(j *grandpa.Justification) {
				j.Ancestries = []*grandpa.Header{c.a13}
			}), nil},
		{"pitfall 5: one vote more than needed", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes = append(j.Commit.Votes, c.vote(3, c.target))
		}), nil},
		{"pitfall 6: target number not the votes'", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Target.Number++
		}), grandpa.ErrTarget},
		{"pitfall 6: a vote gives another number", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes[1].Target.Number++
		}), grandpa.ErrTarget},
		{"pitfall 6: descendant's number is not its header's", with(c.ancestral, func(j *grandpa.Justification) {
			id := c.a13.ID()
			id.Number++
			j.Commit.Votes[1] = c.voters[1].Vote(id, c.round, c.setID)
		}), grandpa.ErrAncestry},
		{"pitfall 6: ancestry header's number jumps", with(c.ancestral, func(j *grandpa.Justification) {
			jump := &grandpa.Header{ParentHash: c.target.Hash(), Number: 50}
			j.Commit.Votes[1] = c.voters[1].Vote(grandpa.BlockID{Number: 12, Hash: jump.Hash()}, c.round, c.setID)
			j.Ancestries = []*grandpa.Header{jump, c.b12}
		}), grandpa.ErrAncestry},
		{"pitfall 6: ancestry header's and vote's number jump together", with(c.ancestral, func(j *grandpa.Justification) {
			jump := &grandpa.Header{ParentHash: c.target.Hash(), Number: 50}
			j.Commit.Votes[1] = c.vote(1, jump)
			j.Ancestries = []*grandpa.Header{jump, c.b12}
		}), grandpa.ErrAncestry},
		{"pitfall 9: ancestry names a block of the attacker", with(c.ancestral, func(j *grandpa.Justification) {
			evil := child(&grandpa.Header{Number: 66}, 6)
			j.Commit.Votes[1] = c.vote(1, evil)
			j.Ancestries = append(j.Ancestries, evil)
		}), grandpa.ErrAncestry},
		{"too few votes", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes = j.Commit.Votes[:2]
		}), grandpa.ErrThreshold},
		{"no votes", c.just(c.target), grandpa.ErrThreshold},
		{"another round", with(c.justification, func(j *grandpa.Justification) { j.Round++ }), grandpa.ErrSignature},
		{"signature of another block", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes[0].Signature = c.vote(0, c.a12).Signature
		}), grandpa.ErrSignature},
		{"signature of another voter", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes[0].Signature = j.Commit.Votes[1].Signature
		}), grandpa.ErrSignature},
		{"zero signature", with(c.justification, func(j *grandpa.Justification) {
			j.Commit.Votes[0].Signature = [64]byte{}
		}), grandpa.ErrSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.j.Verify(c.set)
			if tc.want == nil && err != nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			// The gossip form agrees where it can express the case.
			if len(tc.j.Ancestries) == 0 {
				m := &grandpa.CommitMessage{Round: tc.j.Round, SetID: c.setID, Commit: tc.j.Commit}
				if err := m.Verify(c.set); tc.want == nil && err != nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("commit message: got %v, want %v", err, tc.want)
				}
			}
		})
	}
	if err := c.justification.Verify(mustSet(t, c.setID+1, c.set.Authorities())); !errors.Is(err, grandpa.ErrSignature) {
		t.Errorf("same keys under the next id: %v", err)
	}
}

// Votes count by weight, not by number.
func TestWeights(t *testing.T) {
	c := newTree(t)
	var list []grandpa.Authority
	for i, w := range []uint64{10, 1, 1, 1} {
		c.voters[i].Weight = w
		list = append(list, c.voters[i].Authority)
	}
	set := mustSet(t, c.setID, list)
	if set.TotalWeight() != 13 || set.Threshold() != 9 {
		t.Fatalf("total %d, threshold %d", set.TotalWeight(), set.Threshold())
	}
	if err := c.just(c.target, c.vote(0, c.target)).Verify(set); err != nil {
		t.Errorf("10 of 13: %v", err)
	}
	if err := c.just(c.target, c.vote(1, c.target), c.vote(2, c.target), c.vote(3, c.target)).Verify(set); !errors.Is(err, grandpa.ErrThreshold) {
		t.Errorf("3 of 13: %v", err)
	}
}

// ZIP-215 accepts signatures that stricter rules refuse and that the chain therefore may contain (pitfall 7). This one
// is by the small-order key of order 1 (the identity point) in the non-canonical encoding y = p + 1: R is the identity
// too and S is zero, so it "signs" every message.
func TestPitfall7ZIP215(t *testing.T) {
	c := newTree(t)
	key := grandpa.Key{0xee}
	for i := 1; i < 31; i++ {
		key[i] = 0xff
	}
	key[31] = 0x7f
	list := append(c.set.Authorities(), grandpa.Authority{Key: key, Weight: 1})
	set := mustSet(t, c.setID, list)
	vote := grandpa.Vote{Target: c.target.ID(), Authority: key}
	copy(vote.Signature[:], key[:])
	j := cloneJustification(c.justification)
	j.Commit.Votes = append(j.Commit.Votes, vote)
	if err := j.Verify(set); err != nil {
		t.Errorf("small-order key: %v", err)
	}
	j.Commit.Votes[3].Signature[32] = 1
	if err := j.Verify(set); !errors.Is(err, grandpa.ErrSignature) {
		t.Errorf("small-order key with S = 1: %v", err)
	}
	// S must be below the group order in every rule set: S + L is refused.
	j = cloneJustification(c.justification)
	order := []byte{0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10}
	carry := 0
	for i, b := range order {
		carry += int(j.Commit.Votes[0].Signature[32+i]) + int(b)
		j.Commit.Votes[0].Signature[32+i] = byte(carry)
		carry >>= 8
	}
	if err := j.Verify(c.set); !errors.Is(err, grandpa.ErrSignature) {
		t.Errorf("S + L: %v", err)
	}
}

func TestAuthoritySet(t *testing.T) {
	for total, threshold := range map[int]uint64{1: 1, 2: 2, 3: 3, 4: 3, 6: 5, 7: 5, 10: 7, 19: 13, 20: 14, 297: 199, 600: 401, 998: 666} {
		if s := signers(t, 1, nil, total); s.Threshold() != threshold || s.Len() != total {
			t.Errorf("threshold of %d is %d, want %d", total, s.Threshold(), threshold)
		}
	}
	a := grandpatest.NewVoter(1, 0, 1).Authority
	b := grandpatest.NewVoter(1, 1, 1).Authority
	for name, list := range map[string][]grandpa.Authority{
		"empty":                {},
		"pitfall 1: key twice": {a, b, a},
		"zero weight":          {a, {Key: b.Key}},
		"overflow":             {{Key: a.Key, Weight: 1 << 63}, {Key: b.Key, Weight: 1 << 63}},
	} {
		if _, err := grandpa.NewAuthoritySet(0, list); !errors.Is(err, grandpa.ErrSet) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := grandpa.NewAuthoritySet(0, make([]grandpa.Authority, grandpa.MaxAuthorities+1)); !errors.Is(err, grandpa.ErrLimit) {
		t.Errorf("too many: %v", err)
	}
	s := mustSet(t, 3, []grandpa.Authority{a, b})
	s.Authorities()[0].Weight = 77
	if s.Authorities()[0].Weight != 1 {
		t.Error("the set can be changed through its list")
	}
	next, err := s.Next(&grandpa.ScheduledChange{Next: s.Authorities()})
	if err != nil || next.ID() != 4 {
		t.Errorf("the id must grow with an identical list: %v", err)
	}
	if _, err := mustSet(t, ^uint64(0), s.Authorities()).Next(&grandpa.ScheduledChange{Next: s.Authorities()}); !errors.Is(err, grandpa.ErrSet) {
		t.Errorf("id overflow: %v", err)
	}
}

// What full nodes put into a commit besides plain votes can be trimmed away; trimming never turns a bad one good.
func TestTrim(t *testing.T) {
	c := newTree(t)
	outsider := grandpatest.NewVoter(71, 0, 1)
	j := cloneJustification(c.ancestral)
	j.Commit.Votes = append(j.Commit.Votes, outsider.Vote(c.target.ID(), c.round, c.setID), c.vote(1, c.b13), c.vote(3, c.base), c.vote(0, c.target))
	j.Ancestries = append(j.Ancestries, c.b13, c.target, c.a12)
	if err := j.Verify(c.set); err == nil {
		t.Fatal("untrimmed justification verifies")
	}
	trimmed := j.Trim(c.set)
	if err := trimmed.Verify(c.set); err != nil {
		t.Error(err)
	}
	if len(trimmed.Commit.Votes) != 3 || len(trimmed.Ancestries) != 3 {
		t.Errorf("%d votes, %d ancestries left", len(trimmed.Commit.Votes), len(trimmed.Ancestries))
	}
	short := c.just(c.target, c.vote(0, c.target), c.vote(1, c.base), c.vote(2, c.target)).Trim(c.set)
	if err := short.Verify(c.set); !errors.Is(err, grandpa.ErrThreshold) {
		t.Errorf("a vote below the target still counts: %v", err)
	}
}

// naiveVerify is the twin of Justification.Verify: the rules in the plainest form, signatures one at a time by
// walking every vote down to the target and counting every block's support from scratch.
func naiveVerify(j *grandpa.Justification, set *grandpa.AuthoritySet) bool {
	weights, seen := map[grandpa.Key]uint64{}, map[grandpa.Key]bool{}
	for _, a := range set.Authorities() {
		weights[a.Key] = a.Weight
	}
	headers, used, support := map[grandpa.Hash]*grandpa.Header{}, map[grandpa.Hash]bool{}, map[grandpa.Hash]uint64{}
	for _, h := range j.Ancestries {
		headers[h.Hash()] = h
	}
	target := j.Commit.Target
	if headers[target.Hash] != nil || len(headers) != len(j.Ancestries) {
		return false
	}
	var total uint64
	for _, v := range j.Commit.Votes {
		if weights[v.Authority] == 0 || seen[v.Authority] {
			return false
		}
		seen[v.Authority] = true
		total += weights[v.Authority]
		at := v.Target
		for at.Hash != target.Hash {
			h := headers[at.Hash]
			if h == nil || h.Number != at.Number || at.Number == 0 {
				return false
			}
			used[at.Hash] = true
			support[at.Hash] += weights[v.Authority]
			at = grandpa.BlockID{Hash: h.ParentHash, Number: at.Number - 1}
		}
		if at != target {
			return false
		}
		one := grandpa.Justification{Round: j.Round, Commit: grandpa.Commit{Target: v.Target, Votes: []grandpa.Vote{v}}}
		if one.VerifySignatures(set.ID()) != nil {
			return false
		}
	}
	for _, weight := range support {
		if weight >= set.Threshold() {
			return false
		}
	}
	return total >= set.Threshold() && len(used) == len(headers)
}

// Verify and its twin agree on random justifications, many of which are nearly right.
func TestVerifyAgainstTwin(t *testing.T) {
	const seed = 215
	r := rand.New(rand.NewSource(seed))
	accepted := 0
	for i := range 3000 {
		var voters []*grandpatest.Voter
		for k := range 4 + r.Intn(3) {
			voters = append(voters, grandpatest.NewVoter(72, k, 1+uint64(r.Intn(3))))
		}
		set := mustSet(t, 2, grandpatest.Authorities(voters))
		headers := []*grandpa.Header{{Number: 20}}
		for len(headers) < 6 {
			headers = append(headers, child(headers[r.Intn(len(headers))], byte(len(headers))))
		}
		target := headers[r.Intn(2)]
		j := &grandpa.Justification{Round: 1, Commit: grandpa.Commit{Target: target.ID()}}
		need := map[*grandpa.Header]bool{}
		for _, v := range voters {
			on := target
			if r.Intn(3) == 0 {
				on = headers[r.Intn(len(headers))]
			}
			if r.Intn(12) == 0 {
				continue
			}
			j.Commit.Votes = append(j.Commit.Votes, v.Vote(on.ID(), 1, 2))
			for h := on; h != nil && h != target; {
				need[h] = true
				var parent *grandpa.Header
				for _, p := range headers {
					if p.Hash() == h.ParentHash {
						parent = p
					}
				}
				h = parent
			}
		}
		for _, h := range headers {
			if need[h] != (r.Intn(30) == 0) {
				j.Ancestries = append(j.Ancestries, h)
			}
		}
		if r.Intn(20) == 0 && len(j.Commit.Votes) > 0 {
			j.Commit.Votes[0].Signature[r.Intn(64)] ^= 1
		}
		got, want := j.Verify(set), naiveVerify(j, set)
		if (got == nil) != want {
			t.Fatalf("seed %d, case %d: Verify says %v, its twin %v", seed, i, got, want)
		}
		if want {
			accepted++
		}
		if trimmed := j.Trim(set); want && trimmed.Verify(set) != nil {
			t.Fatalf("seed %d, case %d: valid before Trim, not after", seed, i)
		}
	}
	if accepted < 100 || accepted > 2900 {
		t.Errorf("%d of 3000 accepted: the cases say little", accepted)
	}
	t.Log(fmt.Sprintf("%d of 3000 accepted", accepted))
}
