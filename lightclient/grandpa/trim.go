package grandpa

// Trim returns a justification of the same target with what Verify refuses but full nodes tolerate left out: votes of
// unknown voters, votes for blocks not linked to the target, all votes of a voter but its first linked one, and
// ancestry headers that lead to no remaining vote. Nodes put both votes of an equivocating voter into a commit, so a
// relayer trims what it fetched before it hands it on. Trimming is no verification and needs no trust: each vote is
// signed by itself.
func (j *Justification) Trim(set *AuthoritySet) *Justification {
	target := j.Commit.Target
	byHash := make(map[Hash]*Header, len(j.Ancestries))
	for _, h := range j.Ancestries {
		byHash[h.Hash()] = h
	}
	// linked[h] tells whether the header with that hash descends from the target; each is decided once.
	linked := map[Hash]bool{target.Hash: true}
	var path []Hash
	descends := func(hash Hash) bool {
		path = path[:0]
		result, known := linked[hash]
		for !known {
			path = append(path, hash)
			linked[hash] = false
			h, there := byHash[hash]
			if !there {
				break
			}
			hash = h.ParentHash
			result, known = linked[hash]
		}
		for _, p := range path {
			linked[p] = result
		}
		return result
	}
	out := &Justification{Round: j.Round, Commit: Commit{Target: target}}
	voted := map[Key]bool{}
	used := map[Hash]bool{target.Hash: true}
	for _, v := range j.Commit.Votes {
		if _, known := set.index[v.Authority]; !known || voted[v.Authority] || !descends(v.Target.Hash) {
			continue
		}
		voted[v.Authority] = true
		out.Commit.Votes = append(out.Commit.Votes, v)
		for hash := v.Target.Hash; !used[hash]; hash = byHash[hash].ParentHash {
			used[hash] = true
		}
	}
	for _, h := range j.Ancestries {
		if hash := h.Hash(); used[hash] && hash != target.Hash {
			out.Ancestries = append(out.Ancestries, h)
			used[hash] = false
		}
	}
	return out
}
