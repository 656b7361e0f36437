package proto_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
)

// The vectors are part of the protocol: whoever runs this with -update changes it.
var update = flag.Bool("update", false, "write testdata/golden.json")

const goldenFile = "testdata/golden.json"

// A golden vector: the encoding of the example of a kind, or a value derived from
// examples.
type golden struct {
	Name  string          `json:"name"`
	Hex   string          `json:"hex"`
	Value json.RawMessage `json:"value,omitempty"` // the example's fields; []byte in base64, fixed arrays as numbers
}

func vectors(t *testing.T) []golden {
	t.Helper()
	var out []golden
	for _, k := range kinds() {
		v, err := json.Marshal(k.value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, golden{k.name, hex.EncodeToString(k.marshal(k.value)), v})
	}
	for _, d := range derived() {
		out = append(out, golden{Name: "derived/" + d.name, Hex: hex.EncodeToString(d.bytes)})
	}
	return out
}

type derivedValue struct {
	name  string
	bytes []byte
}

// derived are the bytes that are signed, hashed, authenticated or used as keys, for
// the examples in kinds.
func derived() []derivedValue {
	w, c := proto.WorkerID{1, 2, 3}, proto.ClusterID(0x01020304)
	id, hash := proto.ContractID{4, 5, 6}, proto.Hash{7, 8, 9}
	m := filled[proto.Message]()
	created := proto.CreatedCursor("chain-1", m.Topic)
	reg := filled(func(r *proto.Registration) { r.Role = proto.RoleWorker })
	report := reg.ReportData()
	folded := created.Fold(m)
	contract := proto.NewContractID("chain-1", c, []byte("deployer"), hash, []byte("salt"))
	commitment := filled[proto.Output]().Commitment()
	pushed := proto.PushedCommand{Payer: []byte("payer"), Epoch: 5, GasTier: 6, DepositLimit: 7}
	command := pushed.Context("chain-1", c)
	constructor := proto.Instantiated{Contract: id, Deployer: []byte("deployer"), Code: hash, Command: pushed}
	instantiate := constructor.Context("chain-1", c)
	release := proto.ReleaseContext("chain-1", w, c, 5)
	query := proto.QueryContext("chain-1")
	grantText, _ := filled(fixGrant).MarshalText()
	code := filled(fixManifest).Hash()
	images := proto.ImagesDigest(2, []proto.CodeImage{{Code: proto.Hash{2}, Image: proto.Hash{3}}, {Code: proto.Hash{1}}})
	event := proto.EventContext("chain-1", c, 9, 3)
	leaf := proto.ReceiptLeaf(commitment, filled[proto.SealedOutput]().Events)
	return []derivedValue{
		{"topic of the cluster", []byte(proto.TopicCluster(c))},
		{"topic of the worker", []byte(proto.TopicWorker(w))},
		{"created cursor", created.Marshal()},
		{"folded cursor", folded.Marshal()},
		{"signed bytes of the registration", reg.SignedBytes()},
		{"report data of the registration", report[:]},
		{"signed bytes of an outbox entry", proto.EntrySignedBytes("chain-1", w, 9, []byte("payload"))},
		{"signed bytes of the invocation", filled[proto.Invocation]().SignedBytes("chain-1", c)},
		{"signed bytes of the query", filled[proto.Query]().SignedBytes("chain-1", hash)},
		{"signed bytes of the grant", filled(fixGrant).SignedBytes("chain-1")},
		{"the grant as text", grantText},
		{"commitment of the output", commitment[:]},
		{"receipt leaf", leaf[:]},
		{"contract id", contract[:]},
		{"hash of the code", code[:]},
		{"digest of images", images[:]},
		{"context of a command", []byte(command.Purpose + "|" + command.Chain + "|" + string(command.Cluster) + "|" + string(command.Outer))},
		{"context of a constructor", []byte(instantiate.Purpose + "|" + instantiate.Chain + "|" + string(instantiate.Cluster) + "|" + string(instantiate.Outer))},
		{"context of a query", []byte(query.Purpose + "|" + query.Chain + "|" + string(query.Cluster) + "|" + string(query.Outer))},
		{"context of an event", []byte(event.Purpose + "|" + event.Chain + "|" + string(event.Cluster) + "|" + string(event.Outer))},
		{"context of a key release", []byte(release.Purpose + "|" + release.Chain + "|" + string(release.Cluster) + "|" + string(release.Outer))},
		{"key of a topic", proto.KeyTopic(proto.TopicSystem)},
		{"key of an outbox", proto.KeyOutbox(w)},
		{"key of a worker", proto.KeyWorker(w)},
		{"key of an attestation", proto.KeyAttestation(w)},
		{"key of a collateral", proto.KeyCollateral("tdx/b0c06f000000/platform")},
		{"key of a block's hash", proto.KeyBlock(0x0102030405060708)},
		{"key of the master key", proto.KeyMasterKey()},
		{"key of a cluster", proto.KeyCluster(c)},
		{"key of a contract", proto.KeyContract(id)},
		{"key of a code", proto.KeyCode(hash)},
		{"key of a receipt", proto.KeyReceipt(c, 9)},
		{"key of a command", proto.KeyCommand(c, 9)},
	}
}

// TestGolden: encodings and derived bytes are what they were.
func TestGolden(t *testing.T) {
	got := vectors(t)
	if *update {
		b, err := json.MarshalIndent(got, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var want []golden
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(got) {
		t.Fatalf("%d vectors in the file, %d here", len(want), len(got))
	}
	for i, w := range want {
		if got[i].Name != w.Name || got[i].Hex != w.Hex {
			t.Errorf("%s:\n got %s %s\nwant %s", w.Name, got[i].Name, got[i].Hex, w.Hex)
		}
	}
	// The checked-in bytes, not only those made now, decode to the examples.
	for i, k := range kinds() {
		raw, err := hex.DecodeString(want[i].Hex)
		if err != nil {
			t.Fatal(err)
		}
		v, err := k.parse(raw)
		if err != nil || !reflect.DeepEqual(v, k.value) {
			t.Errorf("%s decodes to\n%+v, %v\nwant\n%+v", k.name, v, err, k.value)
		}
	}
}

// TestEveryKind: no event and no entry is without a vector.
func TestEveryKind(t *testing.T) {
	events, entries := map[byte]bool{}, map[byte]bool{}
	for _, k := range kinds() {
		switch {
		case strings.HasPrefix(k.name, "event/"):
			events[k.marshal(k.value)[0]] = true
		case strings.HasPrefix(k.name, "entry/"):
			entries[k.marshal(k.value)[0]] = true
		}
	}
	for n := range 256 {
		if _, err := proto.ParseEvent([]byte{byte(n)}); errors.Is(err, proto.ErrUnknownKind) == events[byte(n)] {
			t.Errorf("event %d: %v; has a vector: %v", n, err, events[byte(n)])
		}
		if _, err := proto.ParseEntry([]byte{byte(n)}); errors.Is(err, proto.ErrUnknownKind) == entries[byte(n)] {
			t.Errorf("entry %d: %v; has a vector: %v", n, err, entries[byte(n)])
		}
	}
}

// TestZero: the zero value of every kind either round-trips or breaks a rule of its
// kind when it is decoded.
func TestZero(t *testing.T) {
	refused := map[string]error{"entry/Receipt": wire.ErrNotCanonical, "entry/SnapshotTaken": wire.ErrNotCanonical, "Snapshot": wire.ErrNotCanonical, "Registration": proto.ErrUnknownKind, "CodeManifest": wire.ErrNotCanonical, "Code": wire.ErrNotCanonical,
		"Grant": wire.ErrNotCanonical}
	for _, k := range kinds() {
		typ := reflect.TypeOf(k.value)
		v := reflect.New(typ).Elem().Interface()
		if typ.Kind() == reflect.Pointer {
			v = reflect.New(typ.Elem()).Interface()
		}
		b := k.marshal(v)
		got, err := k.parse(b)
		if want := refused[k.name]; !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", k.name, err, want)
		} else if err == nil && !bytes.Equal(k.marshal(got), b) {
			t.Errorf("%s: encodes to something else", k.name)
		}
	}
}
