package proto_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"

	"github.com/phala-go/phala/proto"
)

// A kind is one type of the protocol with an example of it.
type kind struct {
	name    string
	value   any
	marshal func(v any) []byte
	parse   func(b []byte) (any, error)
}

func of[T any](name string, v *T, marshal func(*T) []byte, parse func([]byte) (*T, error)) kind {
	return kind{name, v, func(v any) []byte { return marshal(v.(*T)) }, func(b []byte) (any, error) { return parse(b) }}
}

func event(e proto.Event) kind {
	return kind{"event/" + reflect.TypeOf(e).Name(), e, func(v any) []byte { return proto.MarshalEvent(v.(proto.Event)) }, func(b []byte) (any, error) { return proto.ParseEvent(b) }}
}

func entry(e proto.Entry) kind {
	return kind{"entry/" + reflect.TypeOf(e).Name(), e, func(v any) []byte { return proto.MarshalEntry(v.(proto.Entry)) }, func(b []byte) (any, error) { return proto.ParseEntry(b) }}
}

// filled gives every field of a T another value than any other field has: numbers
// count up, bytes are hashes of the field's number, lists have two elements. A field
// that an encoder or decoder swaps with another, or forgets, shows.
func filled[T any](edit ...func(*T)) *T {
	v, n := new(T), uint64(0)
	fill(reflect.ValueOf(v).Elem(), &n)
	for _, f := range edit {
		f(v)
	}
	return v
}

func fill(v reflect.Value, n *uint64) {
	*n++
	h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, *n))
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Array:
		// Two blocks: a proof has 64 bytes.
		both := append(h[:], h[:]...)
		both[32] ^= 0xff
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(both[i]))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(append([]byte(nil), h[:5+*n%7]...))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(*n%3 != 0)
	case reflect.Uint8:
		v.SetUint(*n%200 + 1)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(*n<<16 + *n)
	default:
		panic(v.Kind())
	}
}

// The rules that an example of random parts breaks.
func fixSnapshot(s *proto.Snapshot)     { s.Size = proto.PieceSize + 7 }
func fixReceipt(r *proto.Receipt)       { r.FromSeq, r.ToSeq = 7, 8 }
func fixManifest(m *proto.CodeManifest) { m.Size = proto.ChunkSize + 5 }

func fixGrant(g *proto.Grant) {
	slices.SortFunc(g.Contracts, func(a, b proto.ContractID) int { return bytes.Compare(a[:], b[:]) })
}

// kinds is every type that has an encoding.
func kinds() []kind {
	receipt := *filled(fixReceipt)
	return []kind{
		event(*filled[proto.RulesActivated]()), event(*filled[proto.WorkerRegistered]()), event(*filled(func(e *proto.SessionStarted) { e.Entry = e.Entry[:5] })),
		event(*filled[proto.Seated]()), event(*filled[proto.Unseated]()), event(*filled[proto.EpochStarted]()), event(*filled[proto.ChallengeEchoed]()),
		event(*filled[proto.KeysReleased]()), event(*filled[proto.CodeAnnounced]()), event(*filled[proto.Instantiated]()),
		event(*filled[proto.PushedCommand]()), event(*filled[proto.MasterKeySet]()), event(*filled[proto.EpochAnnounced]()),
		event(*filled[proto.SnapshotWanted]()), event(*filled[proto.SnapshotStored]()), event(*filled[proto.AdmissionEnded]()),
		event(*filled[proto.RulesWanted]()),

		entry(*filled[proto.StartSession]()), entry(*filled[proto.Challenge]()), entry(*filled[proto.SetEndpoints]()), entry(*filled[proto.PublishMasterKey]()),
		entry(*filled[proto.ReleaseKeys]()), entry(*filled[proto.PublishEpochKey]()), entry(*filled[proto.CodePrepared]()), entry(*filled[proto.CodeRefused]()),
		entry(receipt), entry(*filled[proto.PostOutputs]()), entry(*filled(func(e *proto.SnapshotTaken) { fixSnapshot(&e.Snapshot) })), entry(*filled[proto.SnapshotPiece]()),
		entry(*filled[proto.RulesReady]()),

		of("Message", filled[proto.Message](), (*proto.Message).Marshal, proto.ParseMessage),
		of("Cursor", filled[proto.Cursor](), func(c *proto.Cursor) []byte { return c.Marshal() }, func(b []byte) (*proto.Cursor, error) { c, err := proto.ParseCursor(b); return &c, err }),
		of("Registration", filled(func(r *proto.Registration) { r.Role = proto.RoleGatekeeper }), (*proto.Registration).Marshal, proto.ParseRegistration),
		of("SealedOutput", filled[proto.SealedOutput](), (*proto.SealedOutput).Marshal, proto.ParseSealedOutput),
		of("ContractEvent", filled[proto.ContractEvent](), (*proto.ContractEvent).Marshal, proto.ParseContractEvent),
		of("Invocation", filled[proto.Invocation](), (*proto.Invocation).Marshal, proto.ParseInvocation),
		of("Output", filled[proto.Output](), (*proto.Output).Marshal, proto.ParseOutput),
		of("Query", filled[proto.Query](), (*proto.Query).Marshal, proto.ParseQuery),
		of("Grant", filled(fixGrant), (*proto.Grant).Marshal, proto.ParseGrant),
		of("Revocation", filled(func(r *proto.Revocation) { r.All = false }), (*proto.Revocation).Marshal, proto.ParseRevocation),
		of("Revocation of all", &proto.Revocation{All: true}, (*proto.Revocation).Marshal, proto.ParseRevocation),
		of("Answer", filled[proto.Answer](), (*proto.Answer).Marshal, proto.ParseAnswer),
		of("KeyShares", filled[[]proto.KeyShare](), func(s *[]proto.KeyShare) []byte { return proto.MarshalKeyShares(*s) },
			func(b []byte) (*[]proto.KeyShare, error) { s, err := proto.ParseKeyShares(b); return &s, err }),
		of("WorkerInfo", filled[proto.WorkerInfo](), (*proto.WorkerInfo).Marshal, proto.ParseWorkerInfo),
		of("Attestation", filled[proto.Attestation](), (*proto.Attestation).Marshal, proto.ParseAttestation),
		of("Cluster", filled[proto.Cluster](), (*proto.Cluster).Marshal, proto.ParseCluster),
		of("Contract", filled[proto.Contract](), (*proto.Contract).Marshal, proto.ParseContract),
		of("CodeManifest", filled(fixManifest), (*proto.CodeManifest).Marshal, proto.ParseCodeManifest),
		of("Code", filled(func(c *proto.Code) { fixManifest(&c.Manifest) }), (*proto.Code).Marshal, proto.ParseCode),
		of("CommandRecord", filled[proto.CommandRecord](), (*proto.CommandRecord).Marshal, proto.ParseCommandRecord),
		of("StateRef", filled[proto.StateRef](), (*proto.StateRef).Marshal, proto.ParseStateRef),
		of("Snapshot", filled(fixSnapshot), (*proto.Snapshot).Marshal, proto.ParseSnapshot),
		of("SnapshotRecord", filled(func(r *proto.SnapshotRecord) {
			for i := range r.Taken {
				fixSnapshot(&r.Taken[i])
			}
			r.Agreed, r.Index = true, 1
		}), (*proto.SnapshotRecord).Marshal, proto.ParseSnapshotRecord),
		of("ReceiptRecord", filled(func(r *proto.ReceiptRecord) {
			for i := range r.Receipts {
				fixReceipt(&r.Receipts[i])
			}
			r.Final, r.Agreed = true, 1
		}), (*proto.ReceiptRecord).Marshal, proto.ParseReceiptRecord),
	}
}
