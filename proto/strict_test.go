package proto_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
)

// TestTruncated: an encoding cut at any byte is refused, and so is one with a byte
// behind it.
func TestTruncated(t *testing.T) {
	for _, k := range kinds() {
		b := k.marshal(k.value)
		for i := range b {
			if _, err := k.parse(b[:i]); !errors.Is(err, wire.ErrShort) {
				t.Errorf("%s cut to %d of %d bytes: %v", k.name, i, len(b), err)
			}
		}
		if _, err := k.parse(append(bytes.Clone(b), 0)); !errors.Is(err, wire.ErrTrailing) {
			t.Errorf("%s with a byte behind it: %v", k.name, err)
		}
	}
}

// canonical fails when b decodes and encodes to something else.
func canonical(t *testing.T, k kind, b []byte) {
	t.Helper()
	v, err := k.parse(b)
	if err != nil {
		if v := reflect.ValueOf(v); v.IsValid() && !v.IsZero() && k.name != "Cursor" && k.name != "KeyShares" {
			t.Errorf("%s: an error and a value", k.name)
		}
		return
	}
	if got := k.marshal(v); !bytes.Equal(got, b) {
		t.Errorf("%s: %x decodes to what encodes to %x", k.name, b, got)
	}
}

// TestMutated: an encoding with any one byte changed is refused or is the one encoding
// of another value.
func TestMutated(t *testing.T) {
	for _, k := range kinds() {
		b := k.marshal(k.value)
		for i := range b {
			for _, x := range []byte{1, 2, 0x80, 0xff, b[i]} {
				m := bytes.Clone(b)
				m[i] ^= x
				canonical(t, k, m)
			}
		}
	}
}

// TestAllocation: a length or count of any size, anywhere, makes no decoder allocate
// more than a small multiple of its input.
func TestAllocation(t *testing.T) {
	var before, after runtime.MemStats
	for _, k := range kinds() {
		b := k.marshal(k.value)
		for i := range len(b) - 3 {
			for _, n := range []uint32{1<<32 - 1, 1<<31 - 1, 1 << 20, 1 << 16, 32} {
				m := bytes.Clone(b)
				binary.BigEndian.PutUint32(m[i:], n)
				runtime.ReadMemStats(&before)
				_, _ = k.parse(m)
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > 8<<10+uint64(20*len(b)) {
					t.Fatalf("%s: length %d at offset %d of %d bytes: %d bytes allocated", k.name, n, i, len(b), used)
				}
			}
		}
	}
}

// TestLimits: every field of variable length is accepted at its limit and refused
// above it.
func TestLimits(t *testing.T) {
	data := func(n int) []byte { return make([]byte, n) }
	text := func(n int) string { return strings.Repeat("x", n) }
	texts := func(n int) []string { return make([]string, n) }
	byName := map[string]kind{}
	for _, k := range kinds() {
		byName[k.name] = k
	}
	hashes := func(n int) []proto.Hash { return make([]proto.Hash, n) }
	receipt := func(n int) proto.Receipt {
		return proto.Receipt{FromSeq: 1, ToSeq: uint64(n), Items: make([]proto.ReceiptItem, n)}
	}
	grant := func(edit func(*proto.Grant)) *proto.Grant { return filled(fixGrant, edit) }
	for _, c := range []struct {
		kind, field string
		limit       int
		make        func(n int) any
	}{
		{"event/WorkerRegistered", "registration", proto.MaxRegistration, func(n int) any { return proto.WorkerRegistered{Registration: data(n)} }},
		{"event/WorkerRegistered", "evidence", proto.MaxEvidence, func(n int) any { return proto.WorkerRegistered{Evidence: data(n)} }},
		{"event/SessionStarted", "entry", proto.MaxSession, func(n int) any { return proto.SessionStarted{Entry: data(n)} }},
		{"event/KeysReleased", "release", proto.MaxRelease, func(n int) any { return proto.KeysReleased{Release: data(n)} }},
		{"event/Instantiated", "deployer", proto.MaxSender, func(n int) any { return proto.Instantiated{Deployer: data(n)} }},
		{"event/Instantiated", "envelope", proto.MaxEnvelope, func(n int) any { return proto.Instantiated{Command: proto.PushedCommand{Envelope: data(n)}} }},
		{"event/PushedCommand", "payer", proto.MaxSender, func(n int) any { return proto.PushedCommand{Payer: data(n)} }},
		{"event/PushedCommand", "envelope", proto.MaxEnvelope, func(n int) any { return proto.PushedCommand{Envelope: data(n)} }},
		{"entry/SetEndpoints", "endpoints", proto.MaxEndpoints, func(n int) any { return proto.SetEndpoints{Endpoints: texts(n)} }},
		{"entry/SetEndpoints", "endpoint", proto.MaxEndpoint, func(n int) any { return proto.SetEndpoints{Endpoints: []string{text(n)}} }},
		{"entry/ReleaseKeys", "sealed", proto.MaxRelease, func(n int) any { return proto.ReleaseKeys{Sealed: data(n)} }},
		{"entry/CodeRefused", "reason", 512, func(n int) any { return proto.CodeRefused{Reason: text(n)} }},
		{"entry/Receipt", "items", proto.MaxReceiptItems, func(n int) any { return receipt(n) }},
		{"entry/PostOutputs", "outputs", proto.MaxOutputs, func(n int) any { return proto.PostOutputs{Outputs: make([]proto.SealedOutput, n)} }},
		{"SealedOutput", "proof", 32, func(n int) any { return &proto.SealedOutput{Proof: hashes(n)} }},
		{"SealedOutput", "sealed", proto.MaxOutput, func(n int) any { return &proto.SealedOutput{Sealed: data(n)} }},
		{"Message", "topic", proto.MaxTopic, func(n int) any { return &proto.Message{Topic: text(n)} }},
		{"Message", "sender", proto.MaxSender, func(n int) any { return &proto.Message{Sender: data(n)} }},
		{"Message", "payload", proto.MaxPayload, func(n int) any { return &proto.Message{Payload: data(n)} }},
		{"Registration", "chain", 64, func(n int) any { return &proto.Registration{Role: 1, Chain: text(n)} }},
		{"Registration", "operator", proto.MaxSender, func(n int) any { return &proto.Registration{Role: 1, Operator: data(n)} }},
		{"Registration", "releases", proto.MaxReleases, func(n int) any { return &proto.Registration{Role: 1, Releases: make([]proto.Hash, n)} }},
		{"Registration", "endpoints", proto.MaxEndpoints, func(n int) any { return &proto.Registration{Role: 1, Endpoints: texts(n)} }},
		{"Invocation", "from", proto.MaxSender, func(n int) any { return &proto.Invocation{From: data(n)} }},
		{"Invocation", "input", proto.MaxInput, func(n int) any { return &proto.Invocation{Input: data(n)} }},
		{"Invocation", "public key", 64, func(n int) any { return &proto.Invocation{PublicKey: data(n)} }},
		{"Invocation", "signature", 128, func(n int) any { return &proto.Invocation{Signature: data(n)} }},
		{"Output", "return", proto.MaxReturn, func(n int) any { return &proto.Output{Return: data(n)} }},
		{"Output", "error", proto.MaxError, func(n int) any { return &proto.Output{Error: text(n)} }},
		{"Query", "input", proto.MaxInput, func(n int) any { return &proto.Query{Input: data(n)} }},
		{"Query", "from", proto.MaxSender, func(n int) any { return &proto.Query{From: data(n)} }},
		{"Query", "grant", proto.MaxGrant, func(n int) any { return &proto.Query{Grant: data(n)} }},
		{"Query", "public key", 64, func(n int) any { return &proto.Query{PublicKey: data(n)} }},
		{"Query", "signature", 128, func(n int) any { return &proto.Query{Signature: data(n)} }},
		{"Grant", "grantor", proto.MaxSender, func(n int) any { return grant(func(g *proto.Grant) { g.Grantor = data(n) }) }},
		{"Grant", "reader", proto.MaxSender, func(n int) any { return grant(func(g *proto.Grant) { g.Reader = data(n) }) }},
		{"Grant", "contracts", proto.MaxGrantContracts, func(n int) any {
			return grant(func(g *proto.Grant) {
				g.Contracts = make([]proto.ContractID, n)
				for i := range g.Contracts {
					g.Contracts[i][0] = byte(i)
				}
			})
		}},
		{"Grant", "public key", 64, func(n int) any { return grant(func(g *proto.Grant) { g.PublicKey = data(n) }) }},
		{"Grant", "signature", 128, func(n int) any { return grant(func(g *proto.Grant) { g.Signature = data(n) }) }},
		{"Answer", "return", proto.MaxReturn, func(n int) any { return &proto.Answer{Return: data(n)} }},
		{"Answer", "error", proto.MaxError, func(n int) any { return &proto.Answer{Error: text(n)} }},
		{"KeyShares", "shares", proto.MaxShares, func(n int) any { s := make([]proto.KeyShare, n); return &s }},
		{"KeyShares", "label", 128, func(n int) any { return &[]proto.KeyShare{{Label: text(n)}} }},
		{"WorkerInfo", "operator", proto.MaxSender, func(n int) any { return &proto.WorkerInfo{Operator: data(n)} }},
		{"WorkerInfo", "endpoints", proto.MaxEndpoints, func(n int) any { return &proto.WorkerInfo{Endpoints: texts(n)} }},
		{"Attestation", "advisories", 256, func(n int) any { return &proto.Attestation{Advisories: texts(n)} }},
		{"Attestation", "platform", 64, func(n int) any { return &proto.Attestation{Platform: text(n)} }},
		{"Attestation", "serial", 32, func(n int) any { return &proto.Attestation{Serial: data(n)} }},
		{"Cluster", "owner", proto.MaxSender, func(n int) any { return &proto.Cluster{Owner: data(n)} }},
		{"Cluster", "seats", proto.MaxSeats, func(n int) any { return &proto.Cluster{Seats: make([]proto.WorkerID, n)} }},
		{"Cluster", "words about rules", proto.MaxSeats, func(n int) any { return &proto.Cluster{Ready: make([]proto.RulesWord, n)} }},
		{"Cluster", "sealed", proto.MaxSeats, func(n int) any { return &proto.Cluster{Sealed: make([]proto.SealedEpoch, n)} }},
		{"Cluster", "sealed next", proto.MaxSeats, func(n int) any { return &proto.Cluster{NextSealed: make([]proto.SealedEpoch, n)} }},
		{"entry/SnapshotPiece", "piece", proto.PieceSize, func(n int) any { return proto.SnapshotPiece{Piece: data(n)} }},
		{"Snapshot", "pieces", proto.MaxPieces, func(n int) any { return &proto.Snapshot{Size: uint64(n) * proto.PieceSize, Pieces: hashes(n)} }},
		{"SnapshotRecord", "taken", proto.MaxSeats, func(n int) any {
			r := &proto.SnapshotRecord{}
			for range n {
				r.Taken = append(r.Taken, proto.Snapshot{Size: 1, Pieces: hashes(1)})
			}
			return r
		}},
		{"SnapshotRecord", "votes", proto.MaxSeats, func(n int) any { return &proto.SnapshotRecord{Votes: make([]proto.SnapshotVote, n)} }},
		{"Contract", "deployer", proto.MaxSender, func(n int) any { return &proto.Contract{Deployer: data(n)} }},
		{"CodeManifest", "size", proto.MaxCode, func(n int) any {
			return &proto.CodeManifest{Size: uint32(n), Chunks: hashes((n + proto.ChunkSize - 1) / proto.ChunkSize)}
		}},
		{"CodeManifest", "chunks", proto.MaxChunks, func(n int) any {
			return &proto.CodeManifest{Size: uint32(n) * proto.ChunkSize, Chunks: hashes(n)}
		}},
		{"CommandRecord", "payer", proto.MaxSender, func(n int) any { return &proto.CommandRecord{Payer: data(n)} }},
		{"ReceiptRecord", "receipts", proto.MaxSeats, func(n int) any {
			r := &proto.ReceiptRecord{}
			for range n {
				r.Receipts = append(r.Receipts, receipt(1))
			}
			return r
		}},
		{"ReceiptRecord", "votes", proto.MaxSeats, func(n int) any { return &proto.ReceiptRecord{Votes: make([]proto.ReceiptVote, n)} }},
	} {
		k, ok := byName[c.kind]
		if !ok {
			t.Fatalf("no kind %s", c.kind)
		}
		if _, err := k.parse(k.marshal(c.make(c.limit))); err != nil {
			t.Errorf("%s: %s at its limit of %d: %v", c.kind, c.field, c.limit, err)
		}
		if _, err := k.parse(k.marshal(c.make(c.limit + 1))); !errors.Is(err, wire.ErrTooLong) && !errors.Is(err, wire.ErrNotCanonical) {
			t.Errorf("%s: %s above its limit of %d: %v", c.kind, c.field, c.limit, err)
		}
	}
}

// TestRules: values that have an encoding and break a rule of their kind.
func TestRules(t *testing.T) {
	good := *filled(fixReceipt)
	snap := func(size uint64, pieces int) func() error {
		return func() error {
			_, err := proto.ParseSnapshot((&proto.Snapshot{Size: size, Pieces: make([]proto.Hash, pieces)}).Marshal())
			return err
		}
	}
	snaps := func(edit func(*proto.SnapshotRecord)) func() error {
		return func() error {
			r := &proto.SnapshotRecord{Taken: []proto.Snapshot{{Size: 1, Pieces: make([]proto.Hash, 1)}}}
			edit(r)
			_, err := proto.ParseSnapshotRecord(r.Marshal())
			return err
		}
	}
	rec := func(edit func(*proto.Receipt)) func() error {
		return func() error {
			r := good
			edit(&r)
			_, err := proto.ParseEntry(proto.MarshalEntry(r))
			return err
		}
	}
	manifest := func(size uint32, chunks int) func() error {
		return func() error {
			m := proto.CodeManifest{Size: size, Chunks: make([]proto.Hash, chunks)}
			_, err := proto.ParseCodeManifest(m.Marshal())
			return err
		}
	}
	record := func(r proto.ReceiptRecord) func() error {
		return func() error { _, err := proto.ParseReceiptRecord(r.Marshal()); return err }
	}
	grant := func(edit func(*proto.Grant)) func() error {
		return func() error { _, err := proto.ParseGrant(filled(fixGrant, edit).Marshal()); return err }
	}
	for _, c := range []struct {
		name string
		try  func() error
		want error
	}{
		{"good receipt", rec(func(*proto.Receipt) {}), nil},
		{"receipt from message 0", rec(func(r *proto.Receipt) { r.FromSeq, r.ToSeq = 0, 1 }), wire.ErrNotCanonical},
		{"receipt backwards", rec(func(r *proto.Receipt) { r.FromSeq, r.ToSeq = 8, 7 }), wire.ErrNotCanonical},
		{"receipt without items", rec(func(r *proto.Receipt) { r.Items = nil }), wire.ErrNotCanonical},
		{"receipt with an item too many", rec(func(r *proto.Receipt) { r.Items = make([]proto.ReceiptItem, 3) }), wire.ErrNotCanonical},
		{"receipt over all numbers", rec(func(r *proto.Receipt) { r.FromSeq, r.ToSeq, r.Items = 1, 1<<64-1, nil }), wire.ErrNotCanonical},
		{"receipt with the largest bucket", rec(func(r *proto.Receipt) { r.Items = bucket(r, 64) }), nil},
		{"receipt with a bucket above all gas", rec(func(r *proto.Receipt) { r.Items = bucket(r, 65) }), wire.ErrNotCanonical},
		{"good snapshot", snap(proto.PieceSize+1, 2), nil},
		{"snapshot of a full piece", snap(proto.PieceSize, 1), nil},
		{"snapshot of nothing", snap(0, 0), wire.ErrNotCanonical},
		{"snapshot with a piece too many", snap(proto.PieceSize, 2), wire.ErrNotCanonical},
		{"snapshot with a piece too few", snap(proto.PieceSize+1, 1), wire.ErrNotCanonical},
		{"snapshot whose size wraps around 2^64", snap(1<<64-1, 0), wire.ErrNotCanonical},
		{"snapshot pieces without agreement", snaps(func(r *proto.SnapshotRecord) { r.Have = make([]bool, 1) }), wire.ErrNotCanonical},
		{"agreed snapshot without flags", snaps(func(r *proto.SnapshotRecord) { r.Agreed = true }), wire.ErrNotCanonical},
		{"agreed snapshot that is not there", snaps(func(r *proto.SnapshotRecord) { r.Agreed, r.Index, r.Have = true, 1, make([]bool, 1) }), wire.ErrNotCanonical},
		{"agreed snapshot", snaps(func(r *proto.SnapshotRecord) { r.Agreed, r.Have = true, make([]bool, 1) }), nil},
		{"good manifest", manifest(proto.ChunkSize, 1), nil},
		{"manifest of a chunk and a byte", manifest(proto.ChunkSize+1, 2), nil},
		{"manifest of no bytes", manifest(0, 0), wire.ErrNotCanonical},
		{"manifest of no bytes with a chunk", manifest(0, 1), wire.ErrNotCanonical},
		{"manifest with a chunk too few", manifest(proto.ChunkSize+1, 1), wire.ErrNotCanonical},
		{"manifest with a chunk too many", manifest(proto.ChunkSize, 2), wire.ErrNotCanonical},
		{"manifest whose size wraps around 2^32", manifest(1<<32-1, 0), wire.ErrNotCanonical},
		{"manifest whose size wraps around 2^32 by one", manifest(1<<32-proto.ChunkSize+1, 0), wire.ErrNotCanonical},
		{"code with a flag too few", func() error {
			c := filled(func(c *proto.Code) { fixManifest(&c.Manifest); c.Have = c.Have[:1] })
			_, err := proto.ParseCode(c.Marshal())
			return err
		}, wire.ErrNotCanonical},
		{"final record", record(proto.ReceiptRecord{Receipts: []proto.Receipt{good}, Final: true}), nil},
		{"final record of nothing", record(proto.ReceiptRecord{Final: true}), wire.ErrNotCanonical},
		{"final record that agrees on what is not there", record(proto.ReceiptRecord{Receipts: []proto.Receipt{good}, Final: true, Agreed: 1}), wire.ErrNotCanonical},
		{"record of what is no receipt", func() error {
			b := new(wire.Writer).Count(1).Blob(proto.MarshalEntry(proto.Challenge{})).Count(0).Bool(false).U32(0).Bytes()
			_, err := proto.ParseReceiptRecord(b)
			return err
		}, wire.ErrNotCanonical},
		{"good grant", grant(func(*proto.Grant) {}), nil},
		{"grant of one contract", grant(func(g *proto.Grant) { g.Contracts = g.Contracts[:1] }), nil},
		{"grant of an instant", grant(func(g *proto.Grant) { g.NotAfter = g.Issued }), nil},
		{"grant of the longest term", grant(func(g *proto.Grant) { g.NotAfter = g.Issued + proto.MaxGrantTerm }), nil},
		{"grant of a longer term", grant(func(g *proto.Grant) { g.NotAfter = g.Issued + proto.MaxGrantTerm + 1 }), wire.ErrNotCanonical},
		{"grant without end", grant(func(g *proto.Grant) { g.NotAfter = 1<<64 - 1 }), wire.ErrNotCanonical},
		{"grant that ends before it is issued", grant(func(g *proto.Grant) { g.NotAfter = g.Issued - 1 }), wire.ErrNotCanonical},
		{"grant by nobody", grant(func(g *proto.Grant) { g.Grantor = nil }), wire.ErrNotCanonical},
		{"grant to nobody", grant(func(g *proto.Grant) { g.Reader = nil }), wire.ErrNotCanonical},
		{"grant of no contract", grant(func(g *proto.Grant) { g.Contracts = nil }), wire.ErrNotCanonical},
		{"grant of contracts in another order", grant(func(g *proto.Grant) { slices.Reverse(g.Contracts) }), wire.ErrNotCanonical},
		{"grant of a contract twice", grant(func(g *proto.Grant) { g.Contracts[1] = g.Contracts[0] }), wire.ErrNotCanonical},
		{"revocation of kind 0", func() error {
			_, err := proto.ParseRevocation(make([]byte, 25))
			return err
		}, proto.ErrUnknownKind},
		{"revocation of kind 3", func() error {
			_, err := proto.ParseRevocation([]byte{3})
			return err
		}, proto.ErrUnknownKind},
		{"revocation of all with an id", func() error {
			_, err := proto.ParseRevocation(append([]byte{2}, make([]byte, 24)...))
			return err
		}, wire.ErrTrailing},
		{"registration of role 0", func() error {
			_, err := proto.ParseRegistration(new(proto.Registration).Marshal())
			return err
		}, proto.ErrUnknownKind},
		{"registration of role 3", func() error {
			_, err := proto.ParseRegistration((&proto.Registration{Role: 3}).Marshal())
			return err
		}, proto.ErrUnknownKind},
	} {
		if err := c.try(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func bucket(r *proto.Receipt, b uint8) []proto.ReceiptItem {
	items := make([]proto.ReceiptItem, len(r.Items))
	items[0].GasBucket = b
	return items
}
