package grandpa_test

import (
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
)

// benchVerify measures decoding and verifying one justification on one core.
func benchVerify(b *testing.B, metric string, raw []byte, set *grandpa.AuthoritySet) {
	b.ReportAllocs()
	for b.Loop() {
		j, err := grandpa.DecodeJustification(raw)
		if err != nil {
			b.Fatal(err)
		}
		if err := j.Verify(set); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Millisecond)/float64(b.N), metric)
}

func synthetic(b *testing.B, authorities, votes int) ([]byte, *grandpa.AuthoritySet) {
	var voters []*grandpatest.Voter
	for i := range authorities {
		voters = append(voters, grandpatest.NewVoter(600, i, 1))
	}
	target := grandpa.BlockID{Number: 29_378_184, Hash: grandpa.Hash{1}}
	j := &grandpa.Justification{Round: 77, Commit: grandpa.Commit{Target: target}}
	for _, v := range voters[:votes] {
		j.Commit.Votes = append(j.Commit.Votes, v.Vote(target, 77, 3195))
	}
	return j.Append(nil), mustSet(b, 3195, grandpatest.Authorities(voters))
}

// BenchmarkGrandpa600 is a Polkadot justification of today: 401 votes of 600 authorities. Target: 10 ms.
func BenchmarkGrandpa600(b *testing.B) {
	raw, set := synthetic(b, 600, 401)
	benchVerify(b, "grandpa_600_ms", raw, set)
}

// BenchmarkGrandpa199 is the real justification of Polkadot #4,635,975: 199 votes of 297. Target: 5 ms.
func BenchmarkGrandpa199(b *testing.B) {
	raw := grandpatest.Shared(b, "polkadot-4635975-set450.justification.scale")
	j, err := grandpa.DecodeJustification(raw)
	if err != nil {
		b.Fatal(err)
	}
	benchVerify(b, "grandpa_199_ms", raw, signers(b, 450, j.Commit.Votes, 297))
}

// BenchmarkCheckpointDecode reads the chain specification of Polkadot's checkpoint (600 authorities, 3,195 past sets)
// and makes the starting state of it.
func BenchmarkCheckpointDecode(b *testing.B) {
	raw := grandpatest.Shared(b, "checkpoint-polkadot-29378183.json")
	b.ReportAllocs()
	for b.Loop() {
		cp, err := grandpa.ParseCheckpoint(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := grandpa.NewState(cp, grandpa.PolkadotParams()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Millisecond)/float64(b.N), "checkpoint_decode_ms")
}
