package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/keyring"
	"github.com/phala-go/phala/pruntime/keys"
)

// brokenTEE opens the sealed files of an enclave whose TEE the test breaks: it asks the
// simulator for the sealing key, which real hardware gives to the enclave alone.
type brokenTEE struct {
	seal, ownKey, filesKey [32]byte
	own, files             *keys.Store
}

// breakTEE breaks that of the enclave with a number; the first is the gatekeeper.
func breakTEE(ctx context.Context, t *testing.T, n *devnet.Net, opt devnet.Options, enclave int) *brokenTEE {
	t.Helper()
	s := n.State()
	tee, err := producer.Open(ctx, fmt.Sprintf("simulator:127.0.0.1:%d", s.Ports.TEE[enclave]), producer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := attest.SimulatedRoots(read(t, filepath.Join(opt.Dir, "tee", "roots.bin")))
	if err != nil {
		t.Fatal(err)
	}
	cfg := keyring.Config{DataDir: filepath.Join(opt.Dir, "gatekeeper"), Chain: s.Chain, RootHeight: uint64(s.EnclavesRoot.Height), RootHash: s.EnclavesRoot.Hash,
		Role: proto.RoleGatekeeper, Roots: roots.Digest()}
	if enclave > 0 {
		cfg.DataDir, cfg.Role = filepath.Join(opt.Dir, fmt.Sprintf("worker-%d", enclave)), proto.RoleWorker
	}
	b := &brokenTEE{}
	b.seal, err = tee.SealingKey(ctx, []byte(keyring.SealingLabel))
	if err == nil {
		b.ownKey, b.filesKey, err = keyring.SealingKeys(b.seal)
	}
	if err == nil {
		b.own, err = cfg.Files(b.ownKey)
	}
	if err == nil {
		b.files, err = cfg.Files(b.filesKey)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// identity is the secret of the sealed identity.
func (b *brokenTEE) identity(t *testing.T) []byte {
	t.Helper()
	file, err := b.own.Get("identity")
	if err != nil {
		t.Fatal(err)
	}
	return wire.NewReader(file).Blob(64)
}

// find looks for secrets in the memory that a process may write to, as a debugger sees it,
// and returns those that are there.
func find(pid int, secrets map[string][]byte) (map[string]bool, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	found, regions := map[string]bool{}, 0
	for s := bufio.NewScanner(maps); s.Scan(); {
		if !strings.Contains(s.Text(), " rw") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(s.Text(), "%x-%x", &from, &to); err != nil {
			return nil, fmt.Errorf("%q: %w", s.Text(), err)
		}
		// A large heap is read in parts; what lies over a seam is in the next one too.
		const part, seam = 8 << 20, 64
		buf := make([]byte, min(part, to-from))
		for at := from; at < to; at += part - seam {
			k, err := mem.ReadAt(buf[:min(part, to-at)], at)
			if err != nil && !errors.Is(err, io.EOF) && k == 0 {
				break // reserved, or gone
			}
			regions++
			for name, secret := range secrets {
				if bytes.Contains(buf[:k], secret) {
					found[name] = true
				}
			}
			if to-at <= part {
				break
			}
		}
	}
	if regions < 5 {
		return nil, fmt.Errorf("only %d regions could be read", regions)
	}
	return found, nil
}

// TestWorkersMemoryHoldsNoKeys: whoever reads all the memory of the process that runs the
// contracts, while it serves, finds neither identity nor epoch keys nor what opens the
// files where the identity is. They are in the other process, which only root with all its
// capabilities can read.
func TestWorkersMemoryHoldsNoKeys(t *testing.T) {
	if _, err := os.Stat("/proc/self/mem"); err != nil {
		t.Skip("this system does not show memory as a file")
	}
	n, opt := start(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	hello := n.State().Contracts["hello"]
	for i := range 3 {
		if _, err := n.Client.Call(ctx, hello, "SetGreeting", fmt.Sprintf("number %d", i), client.CallOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := count(ctx, t, n); got != uint64(i)+1 {
			t.Fatalf("counted %d", got)
		}
	}
	cl, err := n.Client.Cluster(ctx, n.State().Cluster)
	if err != nil {
		t.Fatal(err)
	}
	master, err := breakTEE(ctx, t, n, opt, 0).files.Get("master-share")
	if err != nil {
		t.Fatal(err)
	}
	share, err := dprf.NewShare(master)
	if err != nil {
		t.Fatal(err)
	}
	label := cluster.LabelTraffic(n.State().Cluster, cl.Epoch)
	partial, _, err := share.Evaluate(rand.Reader, label)
	if err != nil {
		t.Fatal(err)
	}
	traffic, err := dprf.Combine(label, []dprf.Partial{{Index: 1, Point: partial}})
	if err != nil {
		t.Fatal(err)
	}
	epoch, _, err := cluster.EpochKey(traffic)
	if err != nil || [32]byte(epoch.Public()) != cl.EpochKey {
		t.Fatalf("the epoch's key is %x, not %x: %v", cl.EpochKey, epoch.Public(), err)
	}
	worker := breakTEE(ctx, t, n, opt, 1)
	id := worker.identity(t)
	const files = "key of the other files"
	secrets := map[string][]byte{"identity": id[:32], "identity's nonce seed": id[32:], "sealing key": worker.seal[:], "key of the keyring's files": worker.ownKey[:],
		"epoch's key": epoch.Bytes(), "epoch's secret": traffic[:], files: worker.filesKey[:]}
	var pid, other int
	for _, p := range n.Processes() {
		if p.Name == "worker-1" {
			pid = p.PID()
			if c := p.Children(); len(c) == 1 {
				other = c[0]
			}
		}
	}
	found, err := find(pid, secrets)
	if err != nil {
		t.Fatal(err)
	}
	for name := range found {
		if name != files {
			t.Errorf("%s is in the memory of the process that runs contracts", name)
		}
	}
	if !found[files] {
		t.Error("what must be in that memory was not found: the search finds nothing")
	}
	st, err := n.Private("worker-1").Status(ctx)
	if err != nil || st.Keyring != keyring.OwnProcess {
		t.Errorf("the worker says that its keys are in: %q, %v", st.Keyring, err)
	}
	found, err = find(other, secrets)
	switch {
	case errors.Is(err, os.ErrPermission):
		t.Log("only root sees where they are")
	case err != nil:
		t.Error(err)
	default:
		for _, name := range []string{"identity", "epoch's key"} {
			if !found[name] {
				t.Errorf("%s is not in the keyring's memory either: the search does not find it where it is", name)
			}
		}
	}
}

// TestKilledKeyringStopsItsWorker: without its keys a worker ends and says why; started
// again it is the same, and goes on where it was.
func TestKilledKeyringStopsItsWorker(t *testing.T) {
	n, opt := start(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	before, err := n.Private("worker-1").Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.KillKeyring("worker-1"); err != nil {
		t.Fatal(err)
	}
	if log := string(read(t, filepath.Join(opt.Dir, "logs", "worker-1.log"))); !strings.Contains(log, keyring.ErrGone.Error()) {
		t.Errorf("it ended without a word about the keyring:\n%s", log[max(0, len(log)-800):])
	}
	if err := n.Run("worker-1"); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "it serves again", func() error {
		_, err := n.Client.Call(ctx, n.State().Contracts["hello"], "SetGreeting", "again", client.CallOptions{})
		return err
	})
	after, err := n.Private("worker-1").Status(ctx)
	if err != nil || after.Worker != before.Worker {
		t.Errorf("another worker than before: %v, %v", after.Worker, err)
	}
}
