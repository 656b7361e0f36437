package npos

// PhragMMS elects up to seats winners by the PhragMMS method (arXiv 2004.12990,
// section 4.2), which also guarantees a constant factor (3.15) of the best
// possible smallest support, and balances after every round if asked. It follows
// Substrate's sp-npos-elections with shares in billionths, except that products
// beyond 128 bits are exact instead of saturated. Candidates without any stake
// behind them are never elected.
func PhragMMS(in *Instance, seats int, balancing Balancing) *Result {
	m := newPhragMMS(in, Billion)
	for len(m.winners) < seats && m.round(balancing) {
	}
	r := m.result(m.winners)
	r.Iterations = m.iterations
	return r
}

// phragMMS is the state between its rounds.
type phragMMS struct {
	ledger
	accuracy   U128
	winners    []Winner
	iterations int
	denom      []U128 // scratch: by candidate
}

func newPhragMMS(in *Instance, accuracy uint32) *phragMMS {
	return &phragMMS{
		ledger:   *newLedger(in, func(uint32) bool { return true }),
		accuracy: U128{Lo: uint64(accuracy)},
		denom:    make([]U128, in.Candidates()),
	}
}

// round elects one more winner; false means that there is none.
func (m *phragMMS) round(balancing Balancing) bool {
	best, cutoff := m.best()
	if best < 0 {
		return false
	}
	m.insert(uint32(best), cutoff)
	m.elected[best] = true
	m.winners = append(m.winners, Winner{Candidate: uint32(best)})
	if balancing.Iterations > 0 {
		m.iterations += m.balance(balancing)
	}
	return true
}

// best is the candidate of the highest score approval / (1 + sum of the shares
// that its voters have in winners), the first of equals, and that score rounded
// down. Scores are compared as exact fractions.
func (m *phragMMS) best() (int, U128) {
	for c := range m.denom {
		m.denom[c] = m.accuracy
	}
	for v := range m.in.Voters() {
		var taken U128
		for e := m.start[v]; e < m.start[v+1]; e++ {
			if c := m.target[e]; m.elected[c] {
				share := m.accuracy
				if !m.backing[c].IsZero() {
					share, _ = MulDiv(m.weight[e], m.accuracy, m.backing[c])
				}
				taken = taken.SaturatingAdd(share)
			}
		}
		for e := m.start[v]; e < m.start[v+1]; e++ {
			c := m.target[e]
			m.denom[c] = m.denom[c].SaturatingAdd(taken)
		}
	}
	best := -1
	for c, approval := range m.in.approval {
		if m.elected[c] || approval.IsZero() {
			continue
		}
		if best < 0 || mul128(approval, m.denom[best]).Cmp(mul128(m.in.approval[best], m.denom[c])) > 0 {
			best = c
		}
	}
	if best < 0 {
		return best, U128{}
	}
	score, _ := MulDiv(m.in.approval[best], m.accuracy, m.denom[best])
	return best, score
}

// insert gives a new winner the idle stake of its voters, and of what they give to
// other winners the part that brings those down to the cutoff.
func (m *phragMMS) insert(winner uint32, cutoff U128) {
	for v := range m.in.Voters() {
		edge, used := -1, U128{}
		for e := m.start[v]; e < m.start[v+1]; e++ {
			if m.target[e] == winner {
				edge = int(e)
			}
			used = used.SaturatingAdd(m.weight[e])
		}
		if edge < 0 {
			continue
		}
		gain := m.in.stake[v].SaturatingSub(used)
		for e := m.start[v]; e < m.start[v+1]; e++ {
			c := m.target[e]
			if int(e) == edge || m.weight[e].IsZero() || !cutoff.Less(m.backing[c]) {
				continue
			}
			take, _ := MulDiv(m.weight[e], cutoff, m.backing[c])
			m.weight[e] = m.weight[e].SaturatingSub(take)
			m.backing[c] = m.backing[c].SaturatingSub(take)
			gain = gain.SaturatingAdd(take)
		}
		m.weight[edge] = gain
		m.backing[winner] = m.backing[winner].SaturatingAdd(gain)
	}
}
