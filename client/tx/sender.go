package tx

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/crypto/identity"
)

// A Refused is a transaction that the chain did not carry out. Space and Code are
// stable; Log says what happened.
type Refused struct {
	Space string
	Code  uint32
	Log   string
}

// Error returns what the chain said.
func (e *Refused) Error() string {
	return fmt.Sprintf("the chain refused the transaction (%s %d): %s", e.Space, e.Code, e.Log)
}

// GasPrice is what a Sender pays for one unit of the chain's gas, in base units. What
// transactions write stays with every node, so a block full of gas, 500 million, costs half
// a PHA.
const GasPrice = 1000

// A Sender sends transactions of one account, one after the other. What a node took and
// then lost, as one does that restarts, it sends again, the same bytes: they can come into
// a block only once. It is safe for concurrent use.
type Sender struct {
	Node  *rpc.Client
	Chain string
	Key   *identity.KeyPair

	mu       sync.Mutex
	loaded   bool
	number   uint64
	sequence uint64
	sent     []sentTx // in order; not known to be in a block
}

// A sentTx is a transaction that a node took.
type sentTx struct {
	sequence uint64
	hash     string
	raw      []byte
}

// The SDK's codes for a transaction out of its account's sequence, and for a signature
// that does not fit.
const codeSequence, codeUnauthorized = 32, 4

const (
	maxSent  = 4096                  // transactions that are sent again, at most
	maxBytes = 16 << 20              // and their bytes: a relayer waits for none of its own
	pollTx   = 40 * time.Millisecond // how often a node is asked for a transaction
	pollsTo  = 25                    // polls until it is sent again
	lastTurn = 5                     // rounds of that, until one whose sequence is used up is lost
)

// Failure classes. Test with errors.Is.
var (
	// ErrNoAccount: the account has never received anything.
	ErrNoAccount = errors.New("tx: the chain does not know this account: it needs money first")
	// ErrLost: another transaction of the account has the place of this one, or the node
	// does not find it any more.
	ErrLost = errors.New("tx: the account has gone on without this transaction, or the node lost it: see whether it took effect before you send it again")
	// ErrUnsure: the transaction was sent, and what became of it is not known.
	ErrUnsure = errors.New("tx: the transaction was sent and may come into a block yet: see whether it took effect before you send it again")
)

// unsure says of an error that it leaves open what became of a transaction.
func unsure(hash string, err error) error { return fmt.Errorf("%w: %s: %w", ErrUnsure, hash, err) }

func (s *Sender) load(ctx context.Context) error {
	pub := s.Key.Public()
	b, err := s.Node.Read(ctx, "acc", KeyAccount(pub[:]))
	if errors.Is(err, rpc.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNoAccount, bech(pub[:]))
	}
	if err != nil {
		return err
	}
	s.number, s.sequence, err = ParseAccount(b)
	s.loaded = err == nil
	return err
}

// Broadcast signs messages and hands them to the node, which checked them; they are
// not in a block yet. A free transaction pays no fee.
func (s *Sender) Broadcast(ctx context.Context, gas uint64, free bool, msgs ...Msg) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 0; ; try++ {
		if !s.loaded {
			if err := s.load(ctx); err != nil {
				return "", err
			}
		}
		fee := gas * GasPrice
		if free {
			fee = 0
		}
		b, err := Sign(rand.Reader, Signer{s.Key, s.Chain, s.number, s.sequence}, gas, fee, msgs...)
		if err != nil {
			return "", err
		}
		r, err := s.Node.Broadcast(ctx, b)
		if err != nil {
			if !errors.Is(err, rpc.ErrNotSent) && !errors.As(err, new(*rpc.NodeError)) {
				err = unsure(fmt.Sprintf("%X", sha256.Sum256(b)), err)
			}
			return "", err
		}
		if r.Code == 0 {
			s.remember(sentTx{s.sequence, r.Hash, b})
			s.sequence++
			return r.Hash, nil
		}
		// Another process sent from this account, or a transaction was dropped.
		// The node says which sequence it expects, with what waits in its mempool.
		if r.Space == "sdk" && r.Code == codeSequence && try < 20 {
			// While it checks again what waits, a node counts from the block's state, without
			// what it is about to have again.
			if try > 0 {
				select {
				case <-ctx.Done():
					return "", ctx.Err()
				case <-time.After(100 * time.Millisecond):
				}
			}
			var want, got uint64
			if i := strings.Index(r.Log, "expected "); i >= 0 {
				if n, _ := fmt.Sscanf(r.Log[i:], "expected %d, got %d", &want, &got); n == 2 {
					// Either what was sent before this is lost, or others sent too.
					if !slices.ContainsFunc(s.sent, func(t sentTx) bool { return t.sequence == want }) {
						s.sequence = want
					} else if err := s.again(ctx, want); err != nil {
						return "", err
					}
					continue
				}
			}
			s.loaded = false
			continue
		}
		// Until the first block after its start, a node that is the SDK's as it comes checks
		// signatures as if for genesis; or the account has another number now.
		if r.Space == "sdk" && r.Code == codeUnauthorized && try < 20 {
			s.loaded = false
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		return "", &Refused{r.Space, r.Code, firstLine(r.Log)}
	}
}

// remember keeps a transaction to be sent again, and forgets the oldest beyond what is kept.
func (s *Sender) remember(t sentTx) {
	s.sent = append(s.sent, t)
	keep, size := len(s.sent)-1, len(t.raw)
	for keep > 0 && len(s.sent)-keep < maxSent && size+len(s.sent[keep-1].raw) <= maxBytes {
		keep--
		size += len(s.sent[keep].raw)
	}
	s.sent = slices.Delete(s.sent, 0, keep)
}

// Send broadcasts messages and waits until they are in a block.
func (s *Sender) Send(ctx context.Context, gas uint64, msgs ...Msg) (*rpc.TxResult, error) {
	hash, err := s.Broadcast(ctx, gas, false, msgs...)
	if err != nil {
		return nil, err
	}
	return s.Wait(ctx, hash)
}

// again sends what was sent with a sequence and after it, once more. What a node refuses
// now, and what is signed to follow it, can come into no block any more. That the sequence
// is another one, or that the node has just started, says nothing yet.
func (s *Sender) again(ctx context.Context, from uint64) error {
	for i, t := range s.sent {
		if t.sequence < from {
			continue
		}
		r, err := s.Node.Broadcast(ctx, t.raw)
		switch {
		case errors.Is(err, rpc.ErrKnown):
		case err != nil:
			return err
		case r.Code == 0:
		case r.Space == "sdk" && (r.Code == codeSequence || r.Code == codeUnauthorized):
			return nil
		default:
			s.sent, s.loaded = s.sent[:i], false
			return &Refused{r.Space, r.Code, firstLine(r.Log)}
		}
	}
	return nil
}

// missing sends a transaction again that is in no block, with those that were sent beside
// it, and reports whether it cannot come into one any more.
func (s *Sender) missing(ctx context.Context, hash string) (lost bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pub := s.Key.Public()
	b, err := s.Node.Read(ctx, "acc", KeyAccount(pub[:]))
	if err != nil {
		return false, err
	}
	_, next, err := ParseAccount(b)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(s.sent, func(t sentTx) bool { return t.hash == hash })
	if i < 0 || s.sent[i].sequence < next {
		return true, nil
	}
	err = s.again(ctx, next)
	if errors.As(err, new(*Refused)) && slices.ContainsFunc(s.sent, func(t sentTx) bool { return t.hash == hash }) {
		// The node has this one. It refused one that follows, whose sender will hear of it;
		// told so, this one's would do a second time what is on its way.
		err = nil
	}
	return false, err
}

// done forgets what is in a block, and what was before it.
func (s *Sender) done(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.sent, func(t sentTx) bool { return t.hash == hash }); i >= 0 {
		s.sent = slices.Delete(s.sent, 0, i+1)
	}
}

// Wait waits until a transaction is in a block.
func (s *Sender) Wait(ctx context.Context, hash string) (*rpc.TxResult, error) {
	t := time.NewTicker(pollTx)
	defer t.Stop()
	for polls, rounds := 1, 0; ; polls++ {
		r, err := s.Node.Tx(ctx, hash)
		switch {
		case err == nil:
			s.done(hash)
			if r.Code != 0 {
				return r, &Refused{r.Space, r.Code, firstLine(r.Log)}
			}
			return r, nil
		case !errors.Is(err, rpc.ErrNotFound):
			return nil, unsure(hash, err)
		}
		if polls%pollsTo == 0 {
			lost, err := s.missing(ctx, hash)
			switch {
			case errors.As(err, new(*Refused)):
				return nil, fmt.Errorf("transaction %s is in no block: %w", hash, err)
			case err != nil:
				return nil, unsure(hash, err)
			}
			// Nodes find a transaction a moment after its block.
			if lost {
				rounds++
			}
			if rounds == lastTurn {
				return nil, fmt.Errorf("%w: %s", ErrLost, hash)
			}
		}
		select {
		case <-ctx.Done():
			return nil, unsure(hash, ctx.Err())
		case <-t.C:
		}
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
