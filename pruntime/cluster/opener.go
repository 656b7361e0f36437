package cluster

import (
	"fmt"
	"maps"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// An Opener keeps the traffic keys of a cluster's epochs and opens what is sealed to
// them. It may be another process, so that no contract runs where the keys are.
type Opener interface {
	// Open opens commands of one epoch, with one result for each. An error is the
	// opener's own failure.
	Open(epoch uint64, sealed []Sealed) ([]Opened, error)
	// Forget erases the keys of the epochs before one. It cannot fail in a way that the
	// next call does not show.
	Forget(before uint64)
}

// Sealed is a command as the chain has it.
type Sealed struct {
	Context  envelope.Context
	Envelope []byte
}

// Opened is what became of it.
type Opened struct {
	Plain []byte
	Reply *envelope.Replier // nil: it did not open
	Why   string            // it did not. It goes into the receipt, the same in every replica
}

// Open opens a command with its epoch's key.
func (s *Sealed) Open(key *commkey.SecretKey) Opened {
	plain, reply, err := envelope.OpenToReply(s.Context, AnswerPurpose(s.Context.Purpose), key, s.Envelope)
	if err != nil {
		return Opened{Why: err.Error()}
	}
	return Opened{Plain: plain, Reply: reply}
}

// AnswerPurpose is the purpose of the answer to a command of a purpose.
func AnswerPurpose(command string) string { return command + "-output" }

// Secrets are the keys of a cluster's epochs. They are the Opener where contracts run in
// the same process.
type Secrets map[uint64]*commkey.SecretKey

// Open is Opener.Open.
func (s Secrets) Open(epoch uint64, sealed []Sealed) ([]Opened, error) {
	key := s[epoch]
	if key == nil {
		return nil, fmt.Errorf("%w: epoch %d", ErrNeedKey, epoch)
	}
	out := make([]Opened, len(sealed))
	for i := range sealed {
		out[i] = sealed[i].Open(key)
	}
	return out, nil
}

// Forget is Opener.Forget.
func (s Secrets) Forget(before uint64) {
	maps.DeleteFunc(s, func(epoch uint64, _ *commkey.SecretKey) bool { return epoch < before })
}

// open opens the commands among items, all of an epoch at once. What is of another epoch
// than the topic is in stays closed.
func (c *Cluster) open(items []inbox.Item, answers []answer) error {
	epoch := c.state.Load().Epoch()
	var sealed []Sealed
	var at []int
	flush := func() error {
		if len(sealed) == 0 {
			return nil
		}
		opened, err := c.keys.Opener.Open(epoch, sealed)
		if err != nil {
			return err
		}
		if len(opened) != len(sealed) {
			return fmt.Errorf("cluster: %d of %d commands came back from the opener", len(opened), len(sealed))
		}
		for i := range opened {
			answers[at[i]].opened = &opened[i]
		}
		sealed, at = nil, nil
		return nil
	}
	for i := range items {
		switch e := items[i].Event.(type) {
		case proto.EpochStarted:
			if err := flush(); err != nil {
				return err
			}
			epoch = e.Epoch
		case proto.PushedCommand:
			if e.Epoch == epoch {
				sealed, at = append(sealed, Sealed{e.Context(c.chain, c.id), e.Envelope}), append(at, i)
			}
		case proto.Instantiated:
			if e.Command.Epoch == epoch {
				sealed, at = append(sealed, Sealed{e.Context(c.chain, c.id), e.Command.Envelope}), append(at, i)
			}
		}
	}
	return flush()
}
