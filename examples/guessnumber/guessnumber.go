// GuessNumber hides a number that anyone may guess. Only its owner may look at it or
// draw a new one; no operator of a worker or a node can.
package main

import "github.com/phala-go/phala/contract"

// GuessNumber is the game.
type GuessNumber struct {
	Owner   contract.Value[contract.Account]
	Secret  contract.Value[uint64]
	Guesses contract.Map[contract.Account, uint64]
}

// Highest is the largest number that is drawn.
const Highest = 100

// CodeRange refuses a guess that cannot be right.
const CodeRange = 100

// Init makes the deployer the owner and draws a number.
func (g *GuessNumber) Init(ctx *contract.Command) error {
	g.Owner.Set(ctx.Caller())
	g.Secret.Set(ctx.RandomN(Highest) + 1)
	return nil
}

// NextRandom draws a new number and forgets the guesses. Only the owner may.
func (g *GuessNumber) NextRandom(ctx *contract.Command) error {
	if err := ctx.RequireOwner(g.Owner.Get()); err != nil {
		return err
	}
	g.Secret.Set(ctx.RandomN(Highest) + 1)
	for who := range g.Guesses.All() {
		g.Guesses.Delete(who)
	}
	return nil
}

// A Hint answers a guess.
type Hint struct {
	Result string `json:"result"` // right, too low, too high
	Tries  uint64 `json:"tries"`
}

// Guess says how a guess relates to the number, and counts it.
func (g *GuessNumber) Guess(ctx *contract.Command, number uint64) (Hint, error) {
	if number < 1 || number > Highest {
		return Hint{}, contract.Errorf(CodeRange, "guess a number from 1 to %d", Highest)
	}
	tries, _ := g.Guesses.Get(ctx.Caller())
	g.Guesses.Set(ctx.Caller(), tries+1)
	h := Hint{"right", tries + 1}
	switch secret := g.Secret.Get(); {
	case number < secret:
		h.Result = "too low"
	case number > secret:
		h.Result = "too high"
	}
	return h, nil
}

// PeekRandom returns the number. Only the owner may ask.
func (g *GuessNumber) PeekRandom(ctx *contract.Query) (uint64, error) {
	if err := ctx.RequireOwner(g.Owner.Get()); err != nil {
		return 0, err
	}
	return g.Secret.Get(), nil
}

// GetOwner returns the owner.
func (g *GuessNumber) GetOwner(ctx *contract.Query) (contract.Account, error) {
	return g.Owner.Get(), nil
}

func init() { contract.Register(&GuessNumber{}) }

func main() {}
