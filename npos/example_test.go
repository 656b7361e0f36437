package npos_test

import (
	"fmt"

	"github.com/phala-go/phala/npos"
)

func Example() {
	in, err := npos.Setup([]string{"alice", "bob", "carol"}, []npos.Ballot[string]{
		{Voter: "xenia", Stake: npos.U64(10), Approvals: []string{"alice", "bob"}},
		{Voter: "yuri", Stake: npos.U64(20), Approvals: []string{"alice", "carol"}},
		{Voter: "zoe", Stake: npos.U64(30), Approvals: []string{"bob", "carol"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := npos.SeqPhragmen(in, 2, npos.Balancing{Iterations: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range r.Supports() {
		fmt.Println("candidate", s.Candidate, "has", s.Total, "from", len(s.Backers))
	}
	score := r.Score()
	fmt.Println("smallest support", score.MinimalStake, "of", score.SumStake)
	fmt.Println("PJR certified:", npos.CheckStandardPJR(in, r).Holds)
	// Output:
	// candidate 2 has 30 from 2
	// candidate 1 has 30 from 2
	// smallest support 30 of 60
	// PJR certified: true
}
