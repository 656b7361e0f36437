package verifycli_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
	"github.com/phala-go/phala/lightclient/grandpa/storage"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
	"github.com/phala-go/phala/lightclient/grandpa/verifycli"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// run executes the command and holds the exit code and pieces of the output against what is expected.
func run(t *testing.T, at time.Time, code int, want []string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	got := verifycli.Run(args, &out, &errs, at)
	all := out.String() + errs.String()
	if got != code {
		t.Errorf("%s\nexit code %d, want %d:\n%s", strings.Join(args, " "), got, code, all)
	}
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("%s\noutput lacks %q:\n%s", strings.Join(args, " "), w, all)
		}
	}
	return all
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The shared real data, as a user would check it.
func TestSharedData(t *testing.T) {
	polkadot := grandpatest.SharedPath(t, "checkpoint-polkadot-29378183.json")
	westend := grandpatest.SharedPath(t, "checkpoint-westend-29233814.json")
	run(t, now, 0, []string{"ok     checkpoint     polkadot #29378183 0xb59a", "set 3195 of 600 authorities (threshold 401)",
		"2026-01-05T", "older than the trusting period", "verified: 1 link\n"}, "--checkpoint", polkadot)
	run(t, now, 0, []string{"westend2 #29233814", "set 10077 of 20 authorities (threshold 14)"}, "--checkpoint", westend)
	keys := file(t, "keys.txt", []byte(`# Polkadot's genesis authorities
dea6f4a727d3b2399275d6ee8817881f10597471dc1d27f144295ad6fb933c7a
48b623941c2a4d41cf25ef495408690fc853f777192498c0922eab1e9df4f061 1
f72daf2e560e4f0f22fb5cbb04ad1d7fee850aab238fd014c178769e7e3a9b84

0x1c151c11cb72334d26d70769e3af7bbff3801a4e2dca2b09b7cce0af8dd81307
680d278213f908658a49a1025a7f466c197e8fb6fabb5e62220a7bd75f860cab
8e59368700ea89e2bf8922cc9e4b86d6651d1c689a0d57813f9768dbaadecf71
`))
	early := "justification=" + grandpatest.SharedPath(t, "polkadot-302592-set0.justification.scale")
	run(t, now, 0, []string{"#302592 0x29f1abec", "is final: 5 of 6 authorities of set 0 signed, threshold 5, round 439559",
		"the checkpoint's history names the same set", "verified: 3 links\n"},
		"--checkpoint", polkadot, "--authorities", keys, "--set-id", "0", early)
	run(t, now, 1, []string{"BREAK  justification  the checkpoint says that set 0 finalized #302592, not set 1", "stopped: 2 links verified"},
		"--checkpoint", polkadot, "--authorities", keys, "--set-id", "1", early)
	run(t, now, 1, []string{"BREAK", "bad signature: 5 of 5 signatures invalid"}, "--authorities", keys, "--set-id", "1", early)
	later := "justification=" + grandpatest.SharedPath(t, "polkadot-4635975-set450.justification.scale")
	run(t, now, 0, []string{"#4635975 0x2a82146e", "199 of 199 signatures valid for set 450, round 6971",
		"the checkpoint's history names the same set, which ends here", "signatures only, so finality is NOT proven"},
		"--checkpoint", polkadot, "--signatures-only", "--set-id", "450", later)
	run(t, now, 1, []string{"bad signature"}, "--signatures-only", "--set-id", "451", later)
	run(t, now, 1, []string{"the checkpoint says that set 450 finalized #4635975, not set 3195"}, "--checkpoint", polkadot, later)
	run(t, now, 2, []string{"needs --set-id"}, "--signatures-only", later)
	commit := "commit=" + grandpatest.SharedPath(t, "westend-5105457-set3490.commit-message.scale")
	run(t, now, 0, []string{"#5105457", "7 of 7 signatures valid for set 3490, round 3669", "history names the same set"},
		"--checkpoint", westend, "--signatures-only", commit)
	run(t, now, 1, []string{"message of set 3490, trusted is set 0"}, "--authorities", keys, "--set-id", "0", commit)

	run(t, now, 0, []string{"6 nodes under 0x29d0d972", "6 of them in use, 1 values", "read           available: 1 entry"},
		"--root", "29d0d972cd27cbc511e9589fcb7a4506d5eb6a9e8df205f00472e5ab354a4e17",
		"state="+grandpatest.SharedPath(t, "polkadot-genesis.proof-small.scale"), "read=available")
	large := "state=" + grandpatest.SharedPath(t, "proof-large-root-886ca67c.scale")
	run(t, now, 0, []string{"423 nodes", "423 of them in use, 92 values", "92 entries", "and 87 more"},
		"--root", "0x886ca67c0e8d0003e2531bb25b1da0fe2f80d4b9eb6719e819f363265bd670fa", large, "read=available")
	run(t, now, 1, []string{"BREAK  state", "node missing from the proof: root"}, "--root", strings.Repeat("11", 32), large)
	relay := "state=" + grandpatest.SharedPath(t, "relay-paras-heads-1000-proof-v1.json")
	const relayRoot = "3b903e9947f26c4455f213b648661d0ef9b30018da7fa7be76bb5af2f5f75735"
	run(t, now, 0, []string{"7 nodes", "head of parachain 1000 is #2036522", "read           head:1000: #2036522", "verified: 4 links"},
		"--root", relayRoot, relay, "read=head:1000", "para=1000")
	run(t, now, 1, []string{"BREAK  read", "number: reads: proof does not tell", "stopped: 2 links verified"}, "--root", relayRoot, relay, "read=number")
	run(t, now, 1, []string{"BREAK  para", "proof does not tell"}, "--root", relayRoot, relay, "para=2000")
	run(t, now, 1, []string{"file is about state root 0x3b90"}, "--root", strings.Repeat("11", 32), relay)
	run(t, now, 2, []string{"need a trusted state root"}, "--authorities", keys, "--set-id", "0", relay)
}

func rpcAnswer(t *testing.T, result any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "result": result})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hexList(nodes [][]byte) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, "0x"+hex.EncodeToString(n))
	}
	return out
}

// A whole chain of trust over a synthetic network: checkpoint, finality in every form, relay state, parachain state.
func TestSyntheticChain(t *testing.T) {
	n := grandpatest.NewNetwork(grandpatest.Options{Seed: 50, Voters: 6, ChangeEvery: 4, RandomState: true})
	checkpoint := file(t, "checkpoint.json", n.Checkpoint().JSON())
	var updates []string
	for i := 0; n.SetID == 0 || n.History[len(n.History)-1].LastBlock == n.Finalized.Number; i++ {
		u := n.RunRound()
		content := u.Append(nil)
		if i == 1 {
			content = []byte("0x" + hex.EncodeToString(content) + "\n") // as text
		}
		updates = append(updates, "update="+file(t, fmt.Sprintf("u%d", i), content))
	}
	final := n.Finalized
	account := append([]byte{1}, make([]byte, 31)...)
	keys := [][]byte{storage.Value("System", "Number"), storage.Value("System", "Events"), storage.Value("Timestamp", "Now"),
		storage.Map("System", "Account", storage.Blake2_128Concat, account),
		storage.Map("System", "Account", storage.Blake2_128Concat, make([]byte, 32)),
		storage.Map("Paras", "Heads", storage.Twox64Concat, []byte{0xd0, 7, 0, 0}),
		storage.Map("Paras", "Heads", storage.Twox64Concat, []byte{0xd1, 7, 0, 0})}
	nodes := final.State.Prove(keys, nil)
	relay := "state=" + file(t, "relay.json", rpcAnswer(t, map[string]any{"at": final.ID.Hash.String(), "proof": hexList(nodes)}))
	para := grandpatest.BuildTrie(grandpatest.ParaEntries(final.Number/2), grandpatest.Version1)
	paraProof := "state=" + file(t, "para.scale", trie.AppendNodes(nil, para.Prove(nil, [][]byte{nil})))
	args := append([]string{"--checkpoint", checkpoint}, updates...)
	args = append(args, relay, "read=number", "read=now", "read=events", "read=account:"+hex.EncodeToString(account),
		"read=account:"+strings.Repeat("00", 32), "read=head:2000", "read=head:2001", "para=2000", paraProof, "read=number", "read=prefix:")
	run(t, n.Now(), 0, []string{
		"checkpoint     synthetic #0", "set 1 of 6 authorities follows", final.ID.String() + " is final",
		fmt.Sprintf("read           number: %d", final.Number), "free 1000000, reserved 500, frozen 20", ": proven absent",
		fmt.Sprintf("head of parachain 2000 is #%d", final.Number/2), fmt.Sprintf("read           number: %d", final.Number/2),
		"3 entries", fmt.Sprintf("verified: %d links", 13+len(updates))}, args...)

	// The same by other forms of proof.
	proof := &grandpa.FinalityProof{Block: final.ID.Hash, Justification: n.Stored[final.Number]}
	mid := n.Canonical(n.History[len(n.History)-1].LastBlock) // of the set before
	warp := &grandpa.WarpProof{Finished: true}
	for _, e := range n.History {
		warp.Fragments = append(warp.Fragments, grandpa.WarpFragment{Header: n.Canonical(e.LastBlock).Header, Justification: n.Stored[e.LastBlock]})
	}
	warpFile := "warp=" + file(t, "warp", warp.Append(nil))
	run(t, n.Now(), 0, []string{mid.ID.String() + " is final", "finished true"}, "--checkpoint", checkpoint, warpFile)
	proof.UnknownHeaders = grandpatest.Headers(n.Canonical(mid.Number+1), final)
	before := "headers=" + file(t, "before", grandpa.AppendHeaders(nil, grandpatest.Headers(mid, n.Canonical(mid.Number+1))))
	finality := "finality=" + file(t, "finality.json", rpcAnswer(t, "0x"+hex.EncodeToString(proof.Append(nil))))
	run(t, n.Now(), 0, []string{"not proven final yet", final.ID.String() + " is final"}, "--checkpoint", checkpoint, warpFile, before, finality)
	run(t, n.Now(), 1, []string{"BREAK  finality", "header off the trusted chain"}, "--checkpoint", checkpoint, warpFile, finality)
	// Headers as JSON and a justification behind them, under the light client and under a bare set.
	first, err := os.ReadFile(strings.TrimPrefix(updates[0], "update="))
	if err != nil {
		t.Fatal(err)
	}
	u, err := grandpa.DecodeUpdate(first)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, h := range u.Headers {
		list = append(list, "0x"+hex.EncodeToString(h.Append(nil)))
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	headers := "headers=" + file(t, "headers.json", text)
	justification := "justification=" + file(t, "j", u.Justification.Append(nil))
	run(t, n.Now(), 0, []string{"justification  " + u.Justification.Commit.Target.String() + " is final"}, "--checkpoint", checkpoint, headers, justification)
	run(t, n.Now(), 0, []string{"authorities of set 0 signed", "verified: 2 links"}, "--checkpoint", checkpoint, justification)
	firstSet, err := grandpa.ParseCheckpoint(mustRead(t, checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, a := range firstSet.Set.Authorities() {
		fmt.Fprintf(&lines, "%s %d\n", a.Key, a.Weight)
	}
	bare := file(t, "keys", []byte(lines.String()))
	last := u.Headers[len(u.Headers)-1]
	at := n.Canonical(last.Number)
	readAt := "state=" + file(t, "at.json", mustJSON(t, map[string]any{"stateRoot": at.StateRoot.String(),
		"keys": []string{"0x" + hex.EncodeToString(keys[0])}, "proof": hexList(at.State.Prove(keys[:1], nil))}))
	run(t, n.Now(), 0, []string{"4 bytes", "read           key:"}, "--authorities", bare, "--set-id", "0", headers, justification, readAt, "read=number")
	run(t, n.Now(), 1, []string{"but the last header is"}, "--authorities", bare, "--set-id", "0", headers,
		"justification="+file(t, "j2", n.Stored[final.Number].Append(nil)))

	// What breaks, breaks at its link.
	run(t, n.Now(), 1, []string{"BREAK  update", "stopped: 1 link verified", "header off the trusted chain"}, "--checkpoint", checkpoint, updates[1])
	run(t, n.Now(), 1, []string{"not newer than trusted state"}, "--checkpoint", checkpoint, updates[0], updates[0])
	run(t, n.Now().AddDate(0, 2, 0), 1, []string{"a new checkpoint is needed", "hint: take a newer checkpoint"}, "--checkpoint", checkpoint, updates[0])
	run(t, n.Now().AddDate(0, 2, 0), 0, []string{"verified: 2 links"}, "--trusting-period", "0", "--checkpoint", checkpoint, updates[0])
	for i := range first {
		if i%7 != 0 {
			continue
		}
		bad := bytes.Clone(first)
		bad[i] ^= 4
		run(t, n.Now(), 1, []string{"BREAK  update"}, "--checkpoint", checkpoint, "update="+file(t, "bad", bad))
	}
	run(t, n.Now(), 1, []string{"BREAK  state", "root"}, "--checkpoint", checkpoint, relay)
	run(t, n.Now(), 1, []string{"BREAK  headers", "does not extend"}, "--checkpoint", checkpoint, headers, headers)
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUsage(t *testing.T) {
	root := strings.Repeat("11", 32)
	some := file(t, "some", []byte{0})
	for _, c := range []struct {
		name string
		want string
		args []string
	}{
		{"no trust", "nothing to trust", nil},
		{"unknown flag", "flag provided but not defined", []string{"--frobnicate"}},
		{"no such file", "no such file", []string{"--checkpoint", "/nonexistent/x"}},
		{"set without id", "--authorities needs --set-id", []string{"--authorities", some}},
		{"odd root", "--root", []string{"--root", "123"}},
		{"short root", "--root has 1 bytes", []string{"--root", "12"}},
		{"not a link", "is not a link", []string{"--root", root, "state"}},
		{"empty link", "is not a link", []string{"--root", root, "state="}},
		{"unknown link", "no link of kind", []string{"--root", root, "magic=x"}},
		{"read before state", "need a state link", []string{"--root", root, "read=number"}},
		{"para before state", "need a state link", []string{"--root", root, "para=1"}},
		{"update without checkpoint", "need --checkpoint", []string{"--root", root, "update=" + file(t, "u", (&grandpa.Update{Justification: &grandpa.Justification{}}).Append(nil))}},
		{"warp without checkpoint", "need --checkpoint", []string{"--root", root, "warp=" + file(t, "w", (&grandpa.WarpProof{}).Append(nil))}},
		{"justification without set", "need --checkpoint, --authorities", []string{"--root", root, "justification=" + file(t, "j", (&grandpa.Justification{}).Append(nil))}},
		{"bad weight", "weight", []string{"--set-id", "1", "--authorities", file(t, "k", []byte(root+" x"))}},
		{"bad key", "line 1: expected a key", []string{"--set-id", "1", "--authorities", file(t, "k", []byte("11"))}},
	} {
		run(t, now, 2, []string{c.want}, c.args...)
	}
	for _, item := range []string{"x", "number:1", "account", "account:11", "head:x", "hrmp:1", "key:x", "prefix:0"} {
		built := grandpatest.BuildTrie([]trie.Entry{{Key: []byte{1}, Value: []byte{2}}}, grandpatest.Version1)
		proof := file(t, "p", trie.AppendNodes(nil, built.Prove(nil, [][]byte{nil})))
		run(t, now, 2, []string{"ok     state"}, "--root", hex.EncodeToString(built.Root[:]), "state="+proof, "read="+item)
	}
	run(t, now, 1, []string{"BREAK  checkpoint"}, "--checkpoint", some)
	run(t, now, 1, []string{"BREAK  authorities", "has no authorities"}, "--set-id", "1", "--authorities", file(t, "k", []byte("# none")))
	run(t, now, 0, []string{"Usage: phala verify substrate"}, "--help")
	for _, bad := range []string{`{"proof":["zz"]}`, `{"proof":7}`, `["0x0"]`, `{"stateRoot":"0x00","proof":[]}`, `{"key":"x","proof":[]}`} {
		run(t, now, 1, []string{"BREAK  state"}, "--root", root, "state="+file(t, "p", []byte(bad)))
	}
	for _, bad := range []string{`[7]`, `["0x00"]`, `["x"]`} {
		run(t, now, 1, []string{"BREAK  headers"}, "--root", root, "headers="+file(t, "h", []byte(bad)))
	}
}

// The same for programs: one object, whatever happens.
func TestJSON(t *testing.T) {
	built := grandpatest.BuildTrie([]trie.Entry{{Key: []byte{1}, Value: []byte{2}}}, grandpatest.Version1)
	proof := file(t, "p", trie.AppendNodes(nil, built.Prove(nil, [][]byte{nil})))
	for _, c := range []struct {
		name  string
		code  int
		links []bool
		fault string
		args  []string
	}{
		{"verified", 0, []bool{true, true}, "", []string{"--root", hex.EncodeToString(built.Root[:]), "state=" + proof, "read=prefix:"}},
		{"broken", 1, []bool{false}, "", []string{"--root", strings.Repeat("11", 32), "state=" + proof}},
		{"misused", 2, []bool{}, "nothing to trust", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := verifycli.Run(append([]string{"--output", "json"}, c.args...), &out, &errs, now); code != c.code || errs.Len() > 0 {
				t.Errorf("exit code %d, want %d; %s", code, c.code, errs.String())
			}
			var got struct {
				OK    bool
				Error string
				Links []struct {
					Name, Detail string
					OK           bool
				}
			}
			b := out.Bytes()
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			if got.OK != (c.code == 0) || !strings.Contains(got.Error, c.fault) || len(got.Links) != len(c.links) {
				t.Fatalf("got %s", b)
			}
			for i, l := range got.Links {
				if l.OK != c.links[i] || l.Name == "" || l.Detail == "" {
					t.Errorf("link %+v", l)
				}
			}
		})
	}
	run(t, now, 2, []string{"neither text nor json"}, "--output", "xml")
}

// Every item that can be read has a printed form, present or absent.
func TestItems(t *testing.T) {
	built := grandpatest.BuildTrie(grandpatest.StateEntries(10, 300_000_000), grandpatest.Version1)
	proof := "state=" + file(t, "p", trie.AppendNodes(nil, built.Prove(nil, [][]byte{nil})))
	id := strings.Repeat("05", 32)
	for item, want := range map[string]string{
		"number": "number: 10", "now": "now: 2027-01-15T08:00:00.000Z", "events": "bytes, digest 0x",
		"account:01" + strings.Repeat("00", 31): "nonce 7", "account:" + id: "proven absent", "balance:" + id: "proven absent",
		"validator:" + id: "proven absent", "head:2000": "#5 0x", "head:7": "proven absent", "hrmp:1:2": "proven absent",
		"downward:7": "0 messages waiting", "staking-validators": "0 validators, the whole map",
		"key:00": "proven absent", "key:" + hex.EncodeToString(storage.Value("System", "Number")): "4 bytes, 0x0a000000",
		"prefix:" + hex.EncodeToString(storage.Value("System", "Account")): "41 entries", "available": "46 entries",
	} {
		run(t, now, 0, []string{want, "verified: 2 links"}, "--root", hex.EncodeToString(built.Root[:]), proof, "read="+item)
	}
	for _, item := range []string{"digest", "session-validators", "grandpa"} {
		run(t, now, 1, []string{"BREAK  read", "item proven absent"}, "--root", hex.EncodeToString(built.Root[:]), proof, "read="+item)
	}
}

// No file content makes the command panic or end in another way than its three exit codes.
func FuzzFiles(f *testing.F) {
	n := grandpatest.NewNetwork(grandpatest.Options{Seed: 51, Voters: 3})
	f.Add(byte(0), n.RunRound().Append(nil))
	f.Add(byte(1), []byte(`{"jsonrpc":"2.0","result":{"proof":["0x00"],"key":"0x01"}}`))
	f.Add(byte(2), []byte("11 2\n# x\n0x22"))
	f.Add(byte(3), []byte(`["0x00"]`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, which byte, content []byte) {
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		kinds := []string{"update", "state", "headers", "justification", "finality", "commit", "warp"}
		args := []string{"--root", strings.Repeat("11", 32), kinds[int(which)%len(kinds)] + "=" + path}
		if which%8 == 7 {
			args = []string{"--set-id", "1", "--authorities", path}
		}
		if code := verifycli.Run(args, io.Discard, io.Discard, now); code < 0 || code > 2 {
			t.Errorf("exit code %d", code)
		}
	})
}
