package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/pruntime"
)

// TestReattestation: admissions are short, and the relayer renews those of the worker and
// of the gatekeeper by itself, with new evidence and a new session each. Commands and
// queries go on all the time, and the keys come again to each session.
func TestReattestation(t *testing.T) {
	n, _ := startWith(t, devnet.Options{Workers: 1, Registry: map[string]any{"attestation_blocks": 150}})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	hello := n.State().Contracts["hello"]
	sessions := map[string]map[string]bool{"worker-1": {}, "gatekeeper": {}}
	epochs := map[string]uint64{}
	for calls := 1; ; calls++ {
		until(ctx, t, fmt.Sprint("command ", calls), func() error {
			_, err := n.Client.Call(ctx, hello, "SetGreeting", fmt.Sprint("number ", calls), client.CallOptions{Nonce: [16]byte{byte(calls), byte(calls >> 8)}})
			return err
		})
		until(ctx, t, fmt.Sprint("query ", calls), func() error {
			a, err := n.Client.Query(ctx, hello, "Count", nil, client.QueryOptions{})
			if err == nil && string(a.Return) != fmt.Sprint(calls) {
				t.Fatalf("it counts %s commands of %d", a.Return, calls)
			}
			return err
		})
		done := true
		for name, seen := range sessions {
			var st *pruntime.Status = status(ctx, t, n.Private(name))
			seen[st.Session.String()] = true
			if st.Epoch < epochs[name] {
				t.Fatalf("%s is at attestation epoch %d after %d", name, st.Epoch, epochs[name])
			}
			epochs[name] = st.Epoch
			done = done && st.Epoch >= 3
			w, err := n.Client.Worker(ctx, st.Worker)
			if err != nil {
				t.Fatal(err)
			}
			if w.Expires > w.Registered+150 {
				t.Fatalf("%s is admitted from %d to %d", name, w.Registered, w.Expires)
			}
		}
		if done {
			break
		}
	}
	for name, seen := range sessions {
		if len(seen) < 2 {
			t.Errorf("%s had %d sessions in %d attestation epochs", name, len(seen), epochs[name])
		}
	}
}
