package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/keyring"
)

// theKeyring is a worker's second process, which keeps its keys.
const theKeyring = "keyring"

// TestKillAnyProcess kills processes at seeded moments while commands are on their way:
// what is in a block is never lost and never sent again by this test, nothing runs twice,
// and both seats sign the same receipts about all of it.
func TestKillAnyProcess(t *testing.T) {
	const callers = 3
	n, _ := startWith(t, devnet.Options{Workers: 2})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PHALA_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("PHALA_SEED=%d repeats this", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	hello := n.State().Contracts["hello"]
	victims := n.Names()
	if len(victims) != 8 {
		t.Fatalf("the network is %v", victims)
	}
	if keyring.Supported {
		victims = append(victims, theKeyring)
	}
	sent := uint64(0)
	var order []int
	for range 9 { // every process once before one twice
		if len(order) == 0 {
			order = rng.Perm(len(victims))
		}
		victim := victims[order[0]]
		order = order[1:]
		pause, down := time.Duration(rng.IntN(400))*time.Millisecond, time.Duration(rng.IntN(300))*time.Millisecond
		done := make(chan error, callers)
		for range callers {
			sent++
			// A nonce of its own, the same in every try: whatever happens to the first, the
			// contract runs it once.
			var nonce [16]byte
			binary.BigEndian.PutUint64(nonce[:], sent)
			text := fmt.Sprintf("command %d", sent)
			go func() { done <- carried(ctx, n.Client, hello, text, nonce) }()
		}
		time.Sleep(pause)
		restart := n.Restart
		if victim == theKeyring {
			restart = func(_ string, down time.Duration) error {
				if err := n.KillKeyring("worker-1"); err != nil {
					return err
				}
				time.Sleep(down)
				return n.Run("worker-1")
			}
		}
		if err := restart(victim, down); err != nil {
			t.Fatal(err)
		}
		// An enclave that starts ends without its TEE, and may be the next.
		if i := slices.Index([]string{"tee-gatekeeper", "tee-worker-1", "tee-worker-2"}, victim); i >= 0 {
			until(ctx, t, victim+" to listen", func() error {
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.State().Ports.TEE[i]))
				if err == nil {
					c.Close()
				}
				return err
			})
		}
		for range callers {
			if err := <-done; err != nil {
				t.Fatalf("%s killed after %s: %v", victim, pause, err)
			}
		}
	}
	until(ctx, t, "the count after all rounds", func() error {
		a, err := n.Client.Query(ctx, hello, "Count", nil, client.QueryOptions{})
		if err != nil {
			return err
		}
		if got := string(a.Return); got != fmt.Sprint(sent) {
			return fmt.Errorf("the contract counted %s changes of %d commands", got, sent)
		}
		return nil
	})
	receiptsAgree(ctx, t, n, 2)
}

// carried brings one command to its end. Until it is in a block, it is sent again; after
// that it is only waited for.
func carried(ctx context.Context, c *client.Client, to proto.ContractID, text string, nonce [16]byte) error {
	input, err := client.Input("SetGreeting", text)
	if err != nil {
		return err
	}
	pushes := 0
	var p *client.Pending
	err = tried(ctx, func(ctx context.Context) (err error) {
		pushes++
		p, err = c.Push(ctx, to, input, client.CallOptions{Nonce: nonce})
		return err
	})
	if err != nil {
		return fmt.Errorf("%s is in no block: %w", text, err)
	}
	var ended *client.CallError
	err = tried(ctx, func(ctx context.Context) error {
		if _, err := c.Wait(ctx, p); err != nil && !errors.As(err, &ended) {
			return err
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s, message %d, has no final receipt: %w", text, p.Seq, err)
	case ended == nil:
		return nil
	case ended.Receipt.Status == proto.StatusReplayed.String() && pushes > 1:
		return nil // an earlier try went through, and this one was refused
	}
	return fmt.Errorf("%s, message %d, sent %d times: %w", text, p.Seq, pushes, ended)
}

// tried calls f until it succeeds, with time for each try.
func tried(ctx context.Context, f func(context.Context) error) error {
	for {
		try, stop := context.WithTimeout(ctx, time.Minute)
		err := f(try)
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// receiptsAgree checks every message of the first cluster: it has a final receipt, the
// seats signed it, and none of them signed anything else.
func receiptsAgree(ctx context.Context, t *testing.T, n *devnet.Net, seats int) {
	t.Helper()
	cl, err := n.Client.Cluster(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for from := uint64(1); from <= cl.FinalSeq; {
		rec, err := n.Client.Receipt(ctx, 1, from)
		if err != nil {
			t.Fatalf("messages from %d: %v", from, err)
		}
		if !rec.Final || len(rec.Receipts) != 1 || len(rec.Votes) != seats {
			t.Errorf("messages from %d: final %v, %d different receipts, %d signatures", from, rec.Final, len(rec.Receipts), len(rec.Votes))
		}
		from = rec.Receipts[rec.Agreed].ToSeq + 1
	}
}
