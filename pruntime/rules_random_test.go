package pruntime_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// TestRulesAtRandom is a property: whatever comes between the wish and the change (commands,
// codes, epochs, kills, older checkpoints, relayers that stop, governance that changes its
// mind), the cluster gets there, the seats never differ, every command is carried out, and
// contracts answer.
func TestRulesAtRandom(t *testing.T) {
	seeds := uint64(2)
	if os.Getenv("PHALA_LONG") != "" {
		seeds = 40
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			w, _, ws := network(t, 3, newer)
			w.more = map[proto.Hash][]byte{}
			ids := []proto.ContractID{w.deploy()}
			var all []*sent
			var old *folder
			stale := ws[rng.IntN(len(ws))]
			for i := range 60 {
				n := ws[rng.IntN(len(ws))]
				switch rng.IntN(12) {
				case 0:
					module := enginetest.Script(fmt.Sprint(seed, i))
					w.more[proto.CodeHash(module)] = module
					ids = append(ids, w.announce(module))
				case 1:
					ids = append(ids, w.announce(w.module))
				case 2:
					n.kill()
					n.start()
				case 3:
					n.off = !n.off
				case 4:
					if c := w.record(); c.Next == 0 && c.State.Epoch+1 >= c.Epoch {
						w.chain.EndEpoch(w.cluster)
					}
				case 5:
					if old == nil {
						old = snapshot(t, stale.cfg.DataDir)
					} else if rng.IntN(4) == 0 {
						stale.kill()
						old.restore(t)
						stale.start()
					}
				case 6:
					w.chain.WantRules(1 + rng.Uint32N(2))
				default:
					all = append(all, w.push(ids[0], "n"))
				}
				w.step()
			}
			for _, n := range ws {
				n.off = false
			}
			w.chain.WantRules(2)
			w.under(2, ws...)
			for _, s := range all {
				if out := w.answer(s); out.Status != proto.StatusOK {
					t.Errorf("message %d: %s %s", s.seq, out.Status, out.Error)
				}
			}
			w.agreed(ws...)
			for _, id := range ids {
				raw, ok := w.chain.Get(proto.StoreContracts, proto.KeyContract(id))
				ct, err := proto.ParseContract(raw)
				if !ok || err != nil {
					t.Fatal(err)
				}
				// This chain lets constructors of an epoch that is over through; they do not open.
				if ct.Phase == proto.ContractStarted && ct.Command.Epoch == w.record().Epoch {
					ws[0].has(id, "ge", "")
				}
			}
		})
	}
}
