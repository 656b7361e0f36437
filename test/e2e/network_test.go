package e2e

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
)

// million is how validators' bonds are counted here, in PHA.
const million = 1_000_000

// shortEras are of about three seconds.
var shortEras = map[string]any{"session_blocks": 10, "sessions_per_era": 2}

func units(pha int64) string { return fmt.Sprintf("%d000000000000", pha) }

// join makes a node a validator, when the next era begins.
func join(ctx context.Context, t *testing.T, v *devnet.Validator, bond int64) {
	t.Helper()
	pub := v.Operator.Key.Public()
	m := tx.Validate(pub[:], v.Consensus.Public().(ed25519.PublicKey), 50_000_000, units(bond))
	if _, err := v.Operator.Send(ctx, 1_000_000, m); err != nil {
		t.Fatalf("%s joins: %v", v.Name, err)
	}
}

// leave ends a validator's candidacy, when the next era begins.
func leave(ctx context.Context, t *testing.T, v *devnet.Validator) {
	t.Helper()
	pub := v.Operator.Key.Public()
	if _, err := v.Operator.Send(ctx, 1_000_000, tx.Chill(pub[:])); err != nil {
		t.Fatalf("%s leaves: %v", v.Name, err)
	}
}

// signers is the set of validators of these bonds, with their real keys.
func signers(vs []*devnet.Validator, bonds ...int64) *comettest.Set {
	var s []comettest.Signer
	for i, bond := range bonds {
		s = append(s, comettest.Signer{Key: vs[i].Consensus, Power: bond})
	}
	return comettest.SetOf(s)
}

// forge returns a block that a set signed: the given one with another state, edited.
func forge(b *comet.LightBlock, by *comettest.Set, how comettest.Signing, edit func(h *comet.Header)) *comet.LightBlock {
	h := comettest.CloneHeader(b.Header)
	h.AppHash[0] ^= 1
	if edit != nil {
		edit(&h)
	}
	return comettest.Sign(h, by, how)
}

// only has the validators with these keys commit, and the others be absent.
func only(set *comettest.Set, vs ...*devnet.Validator) comettest.Signing {
	all := set.Signers()
	return comettest.Signing{Flag: func(i int) uint8 {
		if slices.ContainsFunc(vs, func(v *devnet.Validator) bool { return v.Consensus.Equal(all[i].Key) }) {
			return comet.FlagCommit
		}
		return comet.FlagAbsent
	}}
}

// reaches waits until a node has a block of the height.
func reaches(ctx context.Context, t *testing.T, node *rpc.Client, height int64) {
	t.Helper()
	until(ctx, t, fmt.Sprintf("block %d of %s", height, node.URL()), func() error {
		st, err := node.Status(ctx)
		if err == nil && st.Height < height {
			err = fmt.Errorf("at block %d", st.Height)
		}
		return err
	})
}

// grows waits until a node has n more blocks than now.
func grows(ctx context.Context, t *testing.T, node *rpc.Client, n int64) {
	t.Helper()
	reaches(ctx, t, node, height(ctx, t, node)+n)
}

func height(ctx context.Context, t *testing.T, node *rpc.Client) int64 {
	t.Helper()
	st, err := node.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return st.Height
}

func status(ctx context.Context, t *testing.T, rt *pherry.Runtime) *pruntime.Status {
	t.Helper()
	st, err := rt.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// serves waits until a pruntime serves.
func serves(ctx context.Context, t *testing.T, rt *pherry.Runtime) {
	t.Helper()
	until(ctx, t, "to serve", func() error {
		st, err := rt.Status(ctx)
		if err == nil && !st.Serving {
			err = fmt.Errorf("not serving: %s", st.Why)
		}
		return err
	})
}

// refusal is how a pruntime's public port refuses every query: code and message. One that
// serves refuses what nobody sealed to its session.
func refusal(ctx context.Context, endpoint string) (code, why string, err error) {
	var e struct{ Error api.Error }
	err = ask(ctx, http.MethodPost, endpoint+"/v1/query", &e)
	if err == nil && e.Error.Code == "" {
		err = fmt.Errorf("no code in the answer of %s", endpoint)
	}
	return e.Error.Code, e.Error.Message, err
}

// silent waits until a pruntime refuses to answer for want of a challenge that came back.
func silent(ctx context.Context, t *testing.T, endpoint string) {
	t.Helper()
	until(ctx, t, endpoint+" to fall silent", func() error {
		code, why, err := refusal(ctx, endpoint)
		if err == nil && (code != "not_serving" || !strings.Contains(why, "no challenge came back")) {
			err = fmt.Errorf("refused with %q: %s", code, why)
		}
		return err
	})
}

// endpoint is where a worker's public port is, by the chain's record.
func endpoint(ctx context.Context, t *testing.T, n *devnet.Net, worker proto.WorkerID) string {
	t.Helper()
	info, err := n.Client.Worker(ctx, worker)
	if err != nil {
		t.Fatal(err)
	}
	return info.Endpoints[0]
}

// ask asks a pruntime without a body and decodes the JSON that it answers, errors too.
func ask(ctx context.Context, method, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s answered HTTP %d %q: %w", url, res.StatusCode, b, err)
	}
	return nil
}

// freePort returns a port that nobody listens on, of the range of startWith.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// otherNode starts a node of another chain, which may have the same id.
func otherNode(ctx context.Context, t *testing.T, opt devnet.Options, chain string) *rpc.Client {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	spec, err := json.Marshal(map[string]any{
		"chain_id": chain, "genesis_time": time.Now().UTC().Add(-time.Second), "block_interval": "1ms", "min_gas_price": fmt.Sprint(tx.GasPrice, tx.Denom),
		"validators": []any{map[string]any{"home": filepath.Join(dir, "node"), "seed": hex.EncodeToString(make([]byte, 32)),
			"rpc": fmt.Sprintf("tcp://127.0.0.1:%d", port), "p2p": fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))}},
		"registry": map[string]any{"recent_blocks": 600, "attestation_blocks": 5_000_000, "renewal_blocks": 6000, "lease_blocks": 6000, "worst_level": 4, "registrations_per_block": 64, "tcb_evaluations": map[string]any{"sgx": 1000, "tdx": 1000},
			"settings": map[string]any{"lease_ms": 1, "trusting_period_ms": 1, "clock_drift_ms": 1, "session_interval_ms": 1}},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "spec.json"), spec, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(opt.Bin, "phala-node")
	if out, err := exec.CommandContext(ctx, exe, "init-network", filepath.Join(dir, "spec.json")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	log, err := os.Create(filepath.Join(opt.Dir, "logs", "other-"+chain+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "start", "--home", filepath.Join(dir, "node"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	return rpc.New(fmt.Sprintf("http://127.0.0.1:%d", port))
}
