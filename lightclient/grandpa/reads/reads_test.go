package reads_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
	"github.com/phala-go/phala/lightclient/grandpa/reads"
	"github.com/phala-go/phala/lightclient/grandpa/scale"
	"github.com/phala-go/phala/lightclient/grandpa/storage"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// view makes a state of the entries and a view with the proof of all of it.
func view(t testing.TB, entries ...trie.Entry) *reads.View {
	t.Helper()
	built := grandpatest.BuildTrie(entries, grandpatest.Version1)
	v, err := reads.NewView(built.Root, built.Prove(nil, [][]byte{nil}))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func item(pallet, name string, value []byte) trie.Entry {
	return trie.Entry{Key: storage.Value(pallet, name), Value: value}
}

func entry(pallet, name string, hash storage.Hasher, key, value []byte) trie.Entry {
	return trie.Entry{Key: storage.Map(pallet, name, hash, key), Value: value}
}

func u32(n ...uint32) (b []byte) {
	for _, x := range n {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

// From a final relay header to an item of a parachain: three links, two proofs.
func Example() {
	network := grandpatest.NewNetwork(grandpatest.Options{Seed: 8, Voters: 4, RandomState: true})
	network.RunRound()
	final := network.Finalized // a light client has verified this header

	relay, err := reads.NewView(final.StateRoot, final.State.Prove([][]byte{
		storage.Map("Paras", "Heads", storage.Twox64Concat, []byte{0xd0, 0x07, 0, 0}), // 2000
		storage.Value("System", "Number"),
	}, nil))
	if err != nil {
		panic(err)
	}
	number, err := relay.Number()
	fmt.Println(number == final.Number, err)

	para := grandpatest.BuildTrie(grandpatest.ParaEntries(final.Number/2), grandpatest.Version1)
	state, header, err := relay.Para(2000, para.Prove([][]byte{storage.Value("Timestamp", "Now")}, nil))
	if err != nil {
		panic(err)
	}
	now, err := state.Now()
	fmt.Println(header.Number == final.Number/2, now.Year(), err)
	// Output:
	// true <nil>
	// true 1970 <nil>
}

// The real head of parachain 1000 in the real relay state.
func TestSharedParaHead(t *testing.T) {
	var file struct {
		StateRoot string
		Proof     []string
	}
	if err := json.Unmarshal(grandpatest.Shared(t, "relay-paras-heads-1000-proof-v1.json"), &file); err != nil {
		t.Fatal(err)
	}
	var nodes [][]byte
	for _, n := range file.Proof {
		nodes = append(nodes, unhex(t, n))
	}
	v, err := reads.NewView(reads.Hash(unhex(t, file.StateRoot)), nodes)
	if err != nil {
		t.Fatal(err)
	}
	h, ok, err := v.ParaHead(1000)
	if err != nil || !ok || h.Number != 2036522 {
		t.Fatalf("%+v, %v, %v", h, ok, err)
	}
	if _, ok := h.Slot(); !ok {
		t.Error("the parachain header has no Aura slot")
	}
	if _, _, err := v.ParaHead(2000); !errors.Is(err, trie.ErrMissing) || !errors.Is(err, reads.ErrProof) {
		t.Errorf("parachain outside the proof: %v", err)
	}
	if _, err := v.Number(); !errors.Is(err, trie.ErrMissing) {
		t.Errorf("item outside the proof: %v", err)
	}
	para, _, err := v.Para(1000, nil)
	if err != nil || para.Root != h.StateRoot {
		t.Errorf("parachain view: %v", err)
	}
}

type vectors struct {
	AccountInfo    struct{ Encoded, Free, Flags string }
	ValidatorPrefs struct {
		Encoded    string
		Commission uint32
	}
	HrmpChannel  struct{ Encoded, SenderDeposit, MqcHead string }
	HrmpMessages struct {
		Encoded  string
		Messages []struct {
			SentAt uint32
			Data   string
		}
		Heads []string
	}
	HeadData struct{ Encoded, Hash string }
}

// Values as @polkadot/types encodes them (testdata/oracle).
func TestOracleVectors(t *testing.T) {
	raw, err := os.ReadFile("../testdata/scale.json")
	if err != nil {
		t.Fatal(err)
	}
	var c vectors
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	id := reads.AccountID{1, 2, 3}
	v := view(t,
		entry("System", "Account", storage.Blake2_128Concat, id[:], unhex(t, c.AccountInfo.Encoded)),
		entry("Balances", "Account", storage.Blake2_128Concat, id[:], unhex(t, c.AccountInfo.Encoded)[16:]),
		entry("Staking", "Validators", storage.Twox64Concat, id[:], unhex(t, c.ValidatorPrefs.Encoded)),
		entry("Hrmp", "HrmpChannels", storage.Twox64Concat, u32(1000, 2000), unhex(t, c.HrmpChannel.Encoded)),
		entry("Hrmp", "HrmpChannelContents", storage.Twox64Concat, u32(1000, 2000), unhex(t, c.HrmpMessages.Encoded)),
		entry("Paras", "Heads", storage.Twox64Concat, u32(2000), unhex(t, c.HeadData.Encoded)),
	)
	account, ok, err := v.Account(id)
	if err != nil || !ok || account.Nonce != 5 || account.Consumers != 1 || account.Providers != 2 || account.Sufficients != 0 ||
		account.Free.String() != c.AccountInfo.Free || account.Reserved.Lo != 3 || account.Frozen.Lo != 4 || account.Flags.String() != c.AccountInfo.Flags {
		t.Errorf("account %+v, %v, %v", account, ok, err)
	}
	balance, ok, err := v.PalletBalance(id)
	if err != nil || !ok || balance != account.Balance {
		t.Errorf("balance %+v, %v, %v", balance, ok, err)
	}
	prefs, ok, err := v.StakingValidator(id)
	if err != nil || !ok || prefs.Commission != c.ValidatorPrefs.Commission || !prefs.Blocked {
		t.Errorf("prefs %+v, %v, %v", prefs, ok, err)
	}
	channel, ok, err := v.HrmpChannel(1000, 2000)
	if err != nil || !ok || channel.MaxCapacity != 1000 || channel.MessageCount != 3 || channel.TotalSize != 105 ||
		channel.SenderDeposit.String() != c.HrmpChannel.SenderDeposit || channel.RecipientDeposit.Lo != 7 || channel.Head.String() != "0x"+c.HrmpChannel.MqcHead {
		t.Errorf("channel %+v, %v, %v", channel, ok, err)
	}
	messages, err := v.HrmpMessages(1000, 2000)
	if err != nil || len(messages) != len(c.HrmpMessages.Messages) {
		t.Fatalf("messages %v, %v", messages, err)
	}
	var head reads.Hash
	for i, m := range c.HrmpMessages.Messages {
		if messages[i].SentAt != m.SentAt || hex.EncodeToString(messages[i].Data) != m.Data {
			t.Errorf("message %d is %+v", i, messages[i])
		}
		if head = reads.Fold(head, messages[i]); head.String() != "0x"+c.HrmpMessages.Heads[i] {
			t.Errorf("head after message %d is %s", i, head)
		}
	}
	if got, ok := reads.Since(reads.Hash{}, channel.Head, messages); !ok || len(got) != 3 {
		t.Errorf("since the beginning: %v, %v", got, ok)
	}
	if got, ok := reads.Since(reads.Hash(unhex(t, c.HrmpMessages.Heads[1])), channel.Head, messages); !ok || len(got) != 1 {
		t.Errorf("since the second: %v, %v", got, ok)
	}
	if got, ok := reads.Since(channel.Head, channel.Head, messages); !ok || len(got) != 0 {
		t.Errorf("since the last: %v, %v", got, ok)
	}
	if _, ok := reads.Since(reads.Hash{}, channel.Head, messages[1:]); ok {
		t.Error("a missing message goes unnoticed")
	}
	messages[1].Data = append(bytes.Clone(messages[1].Data), 0)
	if _, ok := reads.Since(reads.Hash{}, channel.Head, messages); ok {
		t.Error("a changed message goes unnoticed")
	}
	h, ok, err := v.ParaHead(2000)
	if err != nil || !ok || h.Hash().String() != "0x"+c.HeadData.Hash {
		t.Errorf("head %+v, %v, %v", h, ok, err)
	}
	// Absent entries are proven, not guessed.
	if _, ok, err := v.Account(reads.AccountID{9}); ok || err != nil {
		t.Errorf("no account: %v, %v", ok, err)
	}
	if _, ok, err := v.HrmpChannel(2000, 1000); ok || err != nil {
		t.Errorf("no channel: %v, %v", ok, err)
	}
	if list, err := v.HrmpMessages(2000, 1000); len(list) != 0 || err != nil {
		t.Errorf("no messages: %v, %v", list, err)
	}
	if _, _, err := v.Para(3000, nil); !errors.Is(err, reads.ErrAbsent) {
		t.Errorf("no parachain: %v", err)
	}
}

func TestSystemItems(t *testing.T) {
	events := bytes.Repeat([]byte{5}, 50)
	logs := (&grandpa.Header{Digest: []grandpa.DigestItem{{Kind: grandpa.DigestOther, Data: []byte{7}}}}).Append(nil)[97:]
	v := view(t,
		item("System", "Number", u32(77)),
		item("System", "EventCount", u32(3)),
		item("System", "Events", events),
		item("System", "Digest", logs),
		item("Timestamp", "Now", binary.LittleEndian.AppendUint64(nil, 1_767_225_600_123)),
	)
	if n, err := v.Number(); n != 77 || err != nil {
		t.Errorf("number %d, %v", n, err)
	}
	if n, err := v.EventCount(); n != 3 || err != nil {
		t.Errorf("event count %d, %v", n, err)
	}
	if raw, digest, err := v.Events(); !bytes.Equal(raw, events) || digest != grandpatest.Blake2_256(events) || err != nil {
		t.Errorf("events %x, %s, %v", raw, digest, err)
	}
	if list, err := v.Digest(); err != nil || len(list) != 1 || list[0].Data[0] != 7 {
		t.Errorf("digest %v, %v", list, err)
	}
	if now, err := v.Now(); err != nil || now.Format("2006-01-02T15:04:05.000Z07:00") != "2026-01-01T00:00:00.123Z" {
		t.Errorf("now %s, %v", now, err)
	}
	if raw, ok, err := v.Raw(storage.Value("System", "Number")); !ok || err != nil || !bytes.Equal(raw, u32(77)) {
		t.Errorf("raw %x, %v, %v", raw, ok, err)
	}
}

func TestValidators(t *testing.T) {
	var entries []trie.Entry
	for i := range 5 {
		entries = append(entries, entry("Staking", "Validators", storage.Twox64Concat, bytes.Repeat([]byte{byte(i)}, 32),
			append(scale.AppendCompact(nil, uint64(i)*100_000_000), 0)))
	}
	ids := append(scale.AppendCompact(nil, 2), bytes.Repeat([]byte{8}, 64)...)
	voter := grandpatest.NewVoter(1, 1, 4)
	authorities := binary.LittleEndian.AppendUint64(append(scale.AppendCompact(nil, 1), voter.Key[:]...), 4)
	setID := item("Grandpa", "CurrentSetId", binary.LittleEndian.AppendUint64(nil, 12))
	entries = append(entries, item("Session", "Validators", ids), item("Grandpa", "Authorities", authorities), setID)
	v := view(t, entries...)
	list, err := v.StakingValidators(5)
	if err != nil || len(list) != 5 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, c := range list {
		if c.Commission != uint32(c.ID[0])*100_000_000 || c.Blocked {
			t.Errorf("%+v", c)
		}
	}
	if _, err := v.StakingValidators(4); !errors.Is(err, trie.ErrLimit) {
		t.Errorf("limit: %v", err)
	}
	if list, err := v.SessionValidators(); err != nil || len(list) != 2 || list[1][31] != 8 {
		t.Errorf("%v, %v", list, err)
	}
	set, err := v.GrandpaAuthorities()
	if err != nil || set.ID() != 12 || set.Authorities()[0] != voter.Authority {
		t.Errorf("%v, %v", set, err)
	}
	old := view(t, setID, trie.Entry{Key: storage.GrandpaAuthorities(), Value: append([]byte{1}, authorities...)})
	if set, err := old.GrandpaAuthorities(); err != nil || set.TotalWeight() != 4 {
		t.Errorf("old runtime: %v, %v", set, err)
	}
	if _, err := view(t, setID).GrandpaAuthorities(); !errors.Is(err, reads.ErrAbsent) {
		t.Errorf("no authorities: %v", err)
	}
	built := grandpatest.BuildTrie(entries, grandpatest.Version1)
	part, err := reads.NewView(built.Root, built.Prove([][]byte{entries[0].Key}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.StakingValidators(5); !errors.Is(err, trie.ErrMissing) {
		t.Errorf("map not proven whole: %v", err)
	}
	swapped := view(t, trie.Entry{Key: append(storage.Value("Staking", "Validators"), make([]byte, 40)...), Value: []byte{0, 0}})
	if _, err := swapped.StakingValidators(5); !errors.Is(err, reads.ErrValue) {
		t.Errorf("key with a false hash: %v", err)
	}
}

func TestMessageItems(t *testing.T) {
	queue := append(scale.AppendCompact(nil, 1), append(u32(9), scale.AppendBytes(nil, []byte("hi"))...)...)
	outbound := append(scale.AppendCompact(nil, 1), append(u32(2004), scale.AppendBytes(nil, []byte("yo"))...)...)
	m := reads.Message{SentAt: 9, Data: []byte("hi")}
	head := reads.Fold(reads.Hash{}, m)
	v := view(t,
		entry("Dmp", "DownwardMessageQueues", storage.Twox64Concat, u32(2000), queue),
		entry("Dmp", "DownwardMessageQueueHeads", storage.Twox64Concat, u32(2000), head[:]),
		entry("Hrmp", "HrmpIngressChannelsIndex", storage.Twox64Concat, u32(2000), append(scale.AppendCompact(nil, 2), u32(1000, 2004)...)),
		entry("Hrmp", "HrmpEgressChannelsIndex", storage.Twox64Concat, u32(2000), append(scale.AppendCompact(nil, 2), u32(2004, 1000)...)),
		item("ParachainSystem", "HrmpOutboundMessages", outbound),
	)
	list, err := v.DownwardMessages(2000)
	if err != nil || len(list) != 1 || list[0].SentAt != 9 || string(list[0].Data) != "hi" {
		t.Errorf("%v, %v", list, err)
	}
	if h, err := v.DownwardHead(2000); err != nil || h != head {
		t.Errorf("%s, %v", h, err)
	}
	if h, err := v.DownwardHead(2001); err != nil || h != (reads.Hash{}) {
		t.Errorf("no head: %s, %v", h, err)
	}
	if ids, err := v.HrmpSenders(2000); err != nil || len(ids) != 2 || ids[1] != 2004 {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := v.HrmpRecipients(2000); !errors.Is(err, scale.ErrNonCanonical) {
		t.Errorf("unordered index: %v", err)
	}
	if out, err := v.HrmpOutbound(); err != nil || len(out) != 1 || out[0].Recipient != 2004 || string(out[0].Data) != "yo" {
		t.Errorf("%v, %v", out, err)
	}
	if out, err := view(t, item("a", "b", nil)).HrmpOutbound(); err != nil || len(out) != 0 {
		t.Errorf("nothing sent: %v, %v", out, err)
	}
}

// all calls every read on v and returns the errors by name.
func all(v *reads.View) map[string]error {
	id := reads.AccountID{1}
	out := map[string]error{}
	_, out["number"] = v.Number()
	_, out["event count"] = v.EventCount()
	_, _, out["events"] = v.Events()
	_, out["digest"] = v.Digest()
	_, out["now"] = v.Now()
	_, _, out["account"] = v.Account(id)
	_, _, out["balance"] = v.PalletBalance(id)
	_, _, out["validator"] = v.StakingValidator(id)
	_, out["validators"] = v.StakingValidators(100)
	_, out["session"] = v.SessionValidators()
	_, out["grandpa"] = v.GrandpaAuthorities()
	_, _, out["head"] = v.ParaHead(7)
	_, _, out["channel"] = v.HrmpChannel(7, 8)
	_, out["messages"] = v.HrmpMessages(7, 8)
	_, out["senders"] = v.HrmpSenders(7)
	_, out["recipients"] = v.HrmpRecipients(7)
	_, out["downward head"] = v.DownwardHead(7)
	_, out["downward"] = v.DownwardMessages(7)
	_, out["outbound"] = v.HrmpOutbound()
	return out
}

// state puts one value under every item that is read.
func state(value []byte) []trie.Entry {
	id := reads.AccountID{1}
	list := []trie.Entry{
		item("System", "Number", value), item("System", "EventCount", value), item("System", "Events", value), item("System", "Digest", value),
		item("Timestamp", "Now", value), item("Session", "Validators", value), item("Grandpa", "CurrentSetId", value),
		item("Grandpa", "Authorities", value), item("ParachainSystem", "HrmpOutboundMessages", value),
		entry("System", "Account", storage.Blake2_128Concat, id[:], value), entry("Balances", "Account", storage.Blake2_128Concat, id[:], value),
		entry("Staking", "Validators", storage.Twox64Concat, id[:], value),
		entry("Hrmp", "HrmpChannels", storage.Twox64Concat, u32(7, 8), value), entry("Hrmp", "HrmpChannelContents", storage.Twox64Concat, u32(7, 8), value),
	}
	for _, name := range [][2]string{{"Paras", "Heads"}, {"Hrmp", "HrmpIngressChannelsIndex"}, {"Hrmp", "HrmpEgressChannelsIndex"},
		{"Dmp", "DownwardMessageQueueHeads"}, {"Dmp", "DownwardMessageQueues"}} {
		list = append(list, entry(name[0], name[1], storage.Twox64Concat, u32(7), value))
	}
	return list
}

// Each read tells an absent item, a proof with nothing in it and a value of another layout apart.
func TestOutcomes(t *testing.T) {
	mustExist := map[string]bool{"number": true, "event count": true, "events": true, "digest": true, "now": true, "session": true, "grandpa": true}
	for name, err := range all(view(t, item("other", "item", []byte{1}))) {
		if mustExist[name] != errors.Is(err, reads.ErrAbsent) || !mustExist[name] && err != nil {
			t.Errorf("%s, absent: %v", name, err)
		}
	}
	empty, err := reads.NewView(reads.Hash{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range all(empty) {
		if !errors.Is(err, reads.ErrProof) || !errors.Is(err, trie.ErrMissing) {
			t.Errorf("%s, empty proof: %v", name, err)
		}
	}
	for name, err := range all(view(t, state(bytes.Repeat([]byte{0xff}, 13))...)) {
		if name != "events" && !errors.Is(err, reads.ErrValue) {
			t.Errorf("%s, 13 bytes of ff: %v", name, err)
		}
	}
	over := view(t, entry("Staking", "Validators", storage.Twox64Concat, bytes.Repeat([]byte{1}, 32), append(scale.AppendCompact(nil, 1_000_000_001), 0)))
	if _, _, err := over.StakingValidator(reads.AccountID(bytes.Repeat([]byte{1}, 32))); !errors.Is(err, scale.ErrTooLarge) {
		t.Errorf("commission above one: %v", err)
	}
	late := view(t, item("Timestamp", "Now", bytes.Repeat([]byte{0xff}, 8)))
	if _, err := late.Now(); !errors.Is(err, scale.ErrTooLarge) {
		t.Errorf("time beyond the year 10,000: %v", err)
	}
	if _, err := reads.NewView(reads.Hash{}, make([][]byte, trie.MaxNodes+1)); !errors.Is(err, reads.ErrProof) {
		t.Errorf("too many nodes: %v", err)
	}
}

// No value makes a read panic or fail untyped.
func FuzzValues(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0, 0, 0})
	f.Add(make([]byte, 80))
	f.Add(unhex(f, "e8030000009001000090010003000000690000000100"))
	f.Fuzz(func(t *testing.T, value []byte) {
		for name, err := range all(view(t, state(value)...)) {
			var e *reads.Error
			if err != nil && !errors.As(err, &e) {
				t.Errorf("%s: untyped error %v", name, err)
			}
		}
	})
}
