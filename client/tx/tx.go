package tx

import (
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
)

// Denom is the base unit of PHA, 10^-12.
const Denom = "ppha"

// A Msg is a message: its type URL and its protobuf encoding.
type Msg struct {
	Type  string
	Value []byte
}

// fields builds a message; zero values are left out, as proto3 does.
type fields []byte

func (f fields) bytes(n protowire.Number, v []byte) fields {
	if len(v) == 0 {
		return f
	}
	return protowire.AppendBytes(protowire.AppendTag(f, n, protowire.BytesType), v)
}

func (f fields) string(n protowire.Number, v string) fields { return f.bytes(n, []byte(v)) }

func (f fields) uint(n protowire.Number, v uint64) fields {
	if v == 0 {
		return f
	}
	return protowire.AppendVarint(protowire.AppendTag(f, n, protowire.VarintType), v)
}

func bech(account []byte) string {
	s, err := address.Bech32(address.HRP, account)
	if err != nil {
		return "" // refused by the chain: an empty signer
	}
	return s
}

// An Entry is a signed outbox entry.
type Entry struct{ Payload, Signature []byte }

// SubmitOutbox carries a run of a worker's outbox.
func SubmitOutbox(relayer []byte, worker [32]byte, first uint64, entries []Entry) Msg {
	f := fields(nil).string(1, bech(relayer)).bytes(2, worker[:]).uint(3, first)
	for _, e := range entries {
		f = protowire.AppendBytes(protowire.AppendTag(f, 4, protowire.BytesType), fields(nil).bytes(1, e.Payload).bytes(2, e.Signature))
	}
	return Msg{"/phala.mq.v1.MsgSubmitOutbox", f}
}

// RegisterWorker registers an enclave.
func RegisterWorker(operator, registration, signature, evidence []byte) Msg {
	return Msg{"/phala.registry.v1.MsgRegisterWorker", fields(nil).string(1, bech(operator)).bytes(2, registration).bytes(3, signature).bytes(4, evidence)}
}

// UpdateCollateral brings newer collateral of a TEE's vendor.
func UpdateCollateral(sender, collateral []byte) Msg {
	return Msg{"/phala.registry.v1.MsgUpdateCollateral", fields(nil).string(1, bech(sender)).bytes(2, collateral)}
}

// CreateCluster makes a cluster.
func CreateCluster(owner []byte, seats uint32, public bool) Msg {
	f := fields(nil).string(1, bech(owner)).uint(2, uint64(seats))
	if public {
		f = f.uint(3, 1)
	}
	return Msg{"/phala.contracts.v1.MsgCreateCluster", f}
}

// UploadCode uploads one chunk of a code.
func UploadCode(uploader, manifest []byte, index uint32, chunk []byte) Msg {
	return Msg{"/phala.contracts.v1.MsgUploadCode", fields(nil).string(1, bech(uploader)).bytes(2, manifest).uint(3, uint64(index)).bytes(4, chunk)}
}

// Deploy makes a contract.
func Deploy(deployer []byte, cluster uint32, code [32]byte, salt []byte, epoch uint64, tier uint8, depositLimit uint64, envelope []byte) Msg {
	return Msg{"/phala.contracts.v1.MsgDeploy", fields(nil).string(1, bech(deployer)).uint(2, uint64(cluster)).bytes(3, code[:]).bytes(4, salt).
		uint(5, epoch).uint(6, uint64(tier)).uint(7, depositLimit).bytes(8, envelope)}
}

// PushCommand pushes a sealed command.
func PushCommand(payer []byte, cluster uint32, epoch uint64, tier uint8, depositLimit uint64, envelope []byte) Msg {
	return Msg{"/phala.contracts.v1.MsgPushCommand", fields(nil).string(1, bech(payer)).uint(2, uint64(cluster)).uint(3, epoch).
		uint(4, uint64(tier)).uint(5, depositLimit).bytes(6, envelope)}
}

// Send sends money, in base units.
func Send(from, to []byte, amount string) Msg {
	coin := fields(nil).string(1, Denom).string(2, amount)
	return Msg{"/cosmos.bank.v1beta1.MsgSend", fields(nil).string(1, bech(from)).string(2, bech(to)).bytes(3, coin)}
}

// A Signer is who signs a transaction, with what the chain knows of the account.
type Signer struct {
	Key      *identity.KeyPair
	Chain    string
	Number   uint64
	Sequence uint64
}

// Sign returns a signed transaction of the messages. gas is the chain's gas, fee in
// base units.
func Sign(rng io.Reader, s Signer, gas, fee uint64, msgs ...Msg) ([]byte, error) {
	var body fields
	for _, m := range msgs {
		body = body.bytes(1, fields(nil).string(1, m.Type).bytes(2, m.Value))
	}
	pub := s.Key.Public()
	key := fields(nil).string(1, "/phala.crypto.v1.PubKey").bytes(2, fields(nil).bytes(1, pub[:]))
	mode := fields(nil).bytes(1, fields(nil).uint(1, 1)) // ModeInfo.single.mode = DIRECT
	info := fields(nil).bytes(1, key).bytes(2, mode).uint(3, s.Sequence)
	var feeMsg fields
	if fee > 0 {
		feeMsg = feeMsg.bytes(1, fields(nil).string(1, Denom).string(2, fmt.Sprint(fee)))
	}
	auth := fields(nil).bytes(1, info).bytes(2, feeMsg.uint(2, gas))
	doc := fields(nil).bytes(1, body).bytes(2, auth).string(3, s.Chain).uint(4, s.Number)
	sig, err := s.Key.Sign(rng, doc)
	if err != nil {
		return nil, err
	}
	return fields(nil).bytes(1, body).bytes(2, auth).bytes(3, sig[:]), nil
}

// KeyAccount is where store acc keeps an account.
func KeyAccount(account []byte) []byte { return append([]byte{1}, account...) }

// ParseAccount reads number and sequence out of a stored account: an Any of
// cosmos.auth.v1beta1.BaseAccount.
func ParseAccount(b []byte) (number, sequence uint64, err error) {
	value, err := field(b, 2)
	if err != nil {
		return 0, 0, err
	}
	for len(value) > 0 {
		num, typ, n := protowire.ConsumeTag(value)
		if n < 0 {
			return 0, 0, protowire.ParseError(n)
		}
		value = value[n:]
		if typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(value)
			if n < 0 {
				return 0, 0, protowire.ParseError(n)
			}
			switch num {
			case 3:
				number = v
			case 4:
				sequence = v
			}
			value = value[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, value); n < 0 {
			return 0, 0, protowire.ParseError(n)
		}
		value = value[n:]
	}
	return number, sequence, nil
}

// field returns a bytes field of a protobuf message.
func field(b []byte, want protowire.Number) ([]byte, error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		if num == want && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			return v, nil
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil, fmt.Errorf("tx: no field %d", want)
}
