package main

import (
	"errors"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/contract/contracttest"
)

func TestGuess(t *testing.T) {
	k := contracttest.New(t)
	owner, player := k.Account("owner"), k.Account("player")
	k.Deploy(owner, nil)
	var secret uint64
	k.Query(owner, "PeekRandom", nil, &secret)
	if secret < 1 || secret > Highest {
		t.Fatalf("the number is %d", secret)
	}
	low, high, tries := uint64(1), uint64(Highest), uint64(0)
	for {
		guess := (low + high) / 2
		var h Hint
		k.Call(player, "Guess", guess, &h)
		if tries++; h.Tries != tries {
			t.Fatalf("guess %d is counted as %d", tries, h.Tries)
		}
		switch h.Result {
		case "too low":
			low = guess + 1
		case "too high":
			high = guess - 1
		}
		if h.Result == "right" {
			if guess != secret {
				t.Fatalf("%d is called right, the number is %d", guess, secret)
			}
			break
		}
		if tries > 7 {
			t.Fatal("seven guesses were not enough for 100 numbers")
		}
	}
}

func TestOnlyTheOwner(t *testing.T) {
	k := contracttest.New(t)
	owner, other := k.Account("owner"), k.Account("other")
	k.Deploy(owner, nil)
	if err := k.TryGranted(owner, other, "PeekRandom", nil, nil); err != nil {
		t.Errorf("whom the owner gave a read grant: %v", err)
	}
	for name, err := range map[string]error{
		"another by another's grant": k.TryGranted(other, owner, "PeekRandom", nil, nil),
		"another peeks":              k.TryQuery(other, "PeekRandom", nil, nil),
		"nobody peeks":               k.TryQuery("", "PeekRandom", nil, nil),
		"another draws":              k.TryCall(other, "NextRandom", nil, nil),
		"a peek as a command":        k.TryCall(owner, "PeekRandom", nil, nil),
		"a guess out of range":       k.TryCall(other, "Guess", Highest+1, nil),
	} {
		var e *contract.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	var who contract.Account
	k.Query(other, "GetOwner", nil, &who)
	if who != owner {
		t.Errorf("the owner is %s, want %s", who, owner)
	}
	// Numbers that are drawn differ: a hundred draws hit more than thirty values.
	seen := map[uint64]bool{}
	for range 100 {
		k.Call(owner, "NextRandom", nil, nil)
		var n uint64
		k.Query(owner, "PeekRandom", nil, &n)
		seen[n] = true
	}
	if len(seen) < 30 {
		t.Errorf("100 draws gave %d numbers", len(seen))
	}
	if len(k.Stored()) != 2 {
		t.Errorf("guesses were not forgotten: %v", k.Stored())
	}
}
