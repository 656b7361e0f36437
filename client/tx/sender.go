package tx

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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

// GasPrice is what a Sender pays for one unit of the chain's gas, in thousandths of a
// base unit.
const GasPrice = 1

// A Sender sends transactions of one account, one after the other. It is safe for
// concurrent use.
type Sender struct {
	Node  *rpc.Client
	Chain string
	Key   *identity.KeyPair

	mu       sync.Mutex
	loaded   bool
	number   uint64
	sequence uint64
}

// ErrNoAccount: the account has never received anything.
var ErrNoAccount = errors.New("tx: the chain does not know this account: it needs money first")

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
		fee := (gas*GasPrice + 999) / 1000
		if free {
			fee = 0
		}
		b, err := Sign(rand.Reader, Signer{s.Key, s.Chain, s.number, s.sequence}, gas, fee, msgs...)
		if err != nil {
			return "", err
		}
		r, err := s.Node.Broadcast(ctx, b)
		if err != nil {
			return "", err
		}
		if r.Code == 0 {
			s.sequence++
			return r.Hash, nil
		}
		// Another process sent from this account, or a transaction was dropped.
		// The node says which sequence it expects, with what waits in its mempool.
		if r.Space == "sdk" && r.Code == 32 && try < 20 {
			var want, got uint64
			if i := strings.Index(r.Log, "expected "); i >= 0 {
				if n, _ := fmt.Sscanf(r.Log[i:], "expected %d, got %d", &want, &got); n == 2 {
					s.sequence = want
					continue
				}
			}
			s.loaded = false
			continue
		}
		// Until the first block after its start, a node checks signatures as if for genesis.
		if r.Space == "sdk" && r.Code == 4 && try < 20 {
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

// Send broadcasts messages and waits until they are in a block.
func (s *Sender) Send(ctx context.Context, gas uint64, msgs ...Msg) (*rpc.TxResult, error) {
	hash, err := s.Broadcast(ctx, gas, false, msgs...)
	if err != nil {
		return nil, err
	}
	return s.Wait(ctx, hash)
}

// Wait waits until a transaction is in a block.
func (s *Sender) Wait(ctx context.Context, hash string) (*rpc.TxResult, error) {
	t := time.NewTicker(40 * time.Millisecond)
	defer t.Stop()
	for {
		r, err := s.Node.Tx(ctx, hash)
		switch {
		case err == nil && r.Code != 0:
			return r, &Refused{r.Space, r.Code, firstLine(r.Log)}
		case err == nil:
			return r, nil
		case !errors.Is(err, rpc.ErrNotFound):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("transaction %s is not in a block yet: %w", hash, ctx.Err())
		case <-t.C:
		}
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
