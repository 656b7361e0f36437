package reads

import (
	"fmt"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/scale"
	"github.com/phala-go/phala/lightclient/grandpa/storage"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

// Kind classifies a failure. It is itself an error, so that errors.Is(err, reads.ErrAbsent) works on any error of
// this package.
type Kind string

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return "reads: " + string(k) }

// The classes of failures.
const (
	ErrProof  Kind = "proof does not tell"    // the cause is an error of package trie
	ErrAbsent Kind = "item proven absent"     // an item that must exist does not
	ErrValue  Kind = "value has other layout" // the cause is an error of package scale or grandpa
)

// Error is a failure with the item that was read.
type Error struct {
	Kind  Kind
	Item  string
	Cause error
}

// Error describes the failure.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Kind.Error() + ": " + e.Item
	}
	return e.Kind.Error() + ": " + e.Item + ": " + e.Cause.Error()
}

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Hash is a BLAKE2b-256 hash.
type Hash = grandpa.Hash

// AccountID is the 32-byte account id of chains that derive it from sr25519 or ed25519 keys.
type AccountID [32]byte

// A View reads one state through one proof.
type View struct {
	Root  Hash
	Proof *trie.Proof
}

// NewView makes a view of the state with the trusted root from the nodes of a read proof.
func NewView(root Hash, nodes [][]byte) (*View, error) {
	p, err := trie.NewProof(nodes)
	if err != nil {
		return nil, &Error{Kind: ErrProof, Item: "proof", Cause: err}
	}
	return &View{Root: root, Proof: p}, nil
}

// Raw returns the value of a storage key; ok false means that its absence is proven.
func (v *View) Raw(key []byte) (value []byte, ok bool, err error) {
	return v.get(fmt.Sprintf("key %x", key), key)
}

func (v *View) get(item string, key []byte) ([]byte, bool, error) {
	value, ok, err := v.Proof.Get(v.Root, key)
	if err != nil {
		return nil, false, &Error{Kind: ErrProof, Item: item, Cause: err}
	}
	return value, ok, nil
}

// read decodes an item if it is there.
func read[T any](v *View, item string, key []byte, decode func(*scale.Decoder) T) (out T, ok bool, err error) {
	value, ok, err := v.get(item, key)
	if err != nil || !ok {
		return out, false, err
	}
	out, err = decodeAll(item, value, decode)
	return out, err == nil, err
}

func decodeAll[T any](item string, value []byte, decode func(*scale.Decoder) T) (out T, err error) {
	d := scale.NewDecoder(value)
	out = decode(d)
	if err := d.Finish(); err != nil {
		var zero T
		return zero, &Error{Kind: ErrValue, Item: item, Cause: err}
	}
	return out, nil
}

// must reads a plain value that every chain of the kind has.
func must[T any](v *View, pallet, name string, decode func(*scale.Decoder) T) (T, error) {
	item := pallet + "::" + name
	out, ok, err := read(v, item, storage.Value(pallet, name), decode)
	if err == nil && !ok {
		err = &Error{Kind: ErrAbsent, Item: item}
	}
	return out, err
}

func readU32(what string) func(*scale.Decoder) uint32 {
	return func(d *scale.Decoder) uint32 { return d.U32(what) }
}

func readU64(what string) func(*scale.Decoder) uint64 {
	return func(d *scale.Decoder) uint64 { return d.U64(what) }
}

func readHash(d *scale.Decoder, what string) (h Hash) {
	copy(h[:], d.Raw(32, what))
	return h
}

func readAccounts(d *scale.Decoder) []AccountID {
	list := make([]AccountID, d.Len(32, 1<<20, "accounts"))
	for i := range list {
		copy(list[i][:], d.Raw(32, "account"))
	}
	return list
}

func keyU32(n ...uint32) (b []byte) {
	for _, x := range n {
		b = append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24))
	}
	return b
}

// Number returns System::Number, the block's own number.
func (v *View) Number() (uint32, error) { return must(v, "System", "Number", readU32("block number")) }

// EventCount returns System::EventCount, the number of events of the block.
func (v *View) EventCount() (uint32, error) {
	return must(v, "System", "EventCount", readU32("event count"))
}

// Events returns System::Events, the SCALE list of the block's events, and its BLAKE2b-256 digest. The list's layout
// follows from the chain's metadata, which is not read here; the digest lets somebody who has the list from elsewhere
// prove that it is this one.
func (v *View) Events() (raw []byte, digest Hash, err error) {
	raw, ok, err := v.get("System::Events", storage.Value("System", "Events"))
	if err == nil && !ok {
		err = &Error{Kind: ErrAbsent, Item: "System::Events"}
	}
	if err != nil {
		return nil, Hash{}, err
	}
	return raw, blake2b.Sum256(raw), nil
}

// Digest returns System::Digest, the logs that the runtime put into the block's header (the seal is not among them).
func (v *View) Digest() ([]grandpa.DigestItem, error) {
	raw, ok, err := v.get("System::Digest", storage.Value("System", "Digest"))
	if err == nil && !ok {
		err = &Error{Kind: ErrAbsent, Item: "System::Digest"}
	}
	if err != nil {
		return nil, err
	}
	// A header is its digest behind three hashes and a number, so the header's decoder reads it.
	frame := make([]byte, 32+1+32+32)
	h, err := grandpa.DecodeHeader(append(frame, raw...))
	if err != nil {
		return nil, &Error{Kind: ErrValue, Item: "System::Digest", Cause: err}
	}
	return h.Digest, nil
}

// Now returns Timestamp::Now, the time that the block's author set. It is the author's clock, bounded by the chain's
// rules on slots.
func (v *View) Now() (time.Time, error) {
	ms, err := must(v, "Timestamp", "Now", func(d *scale.Decoder) uint64 {
		ms := d.U64("milliseconds since 1970")
		if ms > 253_402_300_799_999 { // the year 10,000
			d.Fail(scale.ErrTooLarge, "milliseconds since 1970")
		}
		return ms
	})
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(int64(ms)).UTC(), nil
}

// Balance is pallet-balances' AccountData. Frozen is the largest freeze or lock; in runtimes before mid-2023 the last
// two fields were the frozen amounts for transfers and for fees.
type Balance struct {
	Free, Reserved, Frozen, Flags scale.U128
}

func readBalance(d *scale.Decoder) (b Balance) {
	b.Free = d.U128("free")
	b.Reserved = d.U128("reserved")
	b.Frozen = d.U128("frozen")
	b.Flags = d.U128("flags")
	return b
}

// Account is frame-system's AccountInfo over pallet-balances' data.
type Account struct {
	Nonce, Consumers, Providers, Sufficients uint32
	Balance
}

// Account returns System::Account(id). ok false means that the account does not exist.
func (v *View) Account(id AccountID) (a Account, ok bool, err error) {
	key := storage.Map("System", "Account", storage.Blake2_128Concat, id[:])
	return read(v, fmt.Sprintf("System::Account(%x)", id), key, func(d *scale.Decoder) (a Account) {
		a.Nonce = d.U32("nonce")
		a.Consumers = d.U32("consumers")
		a.Providers = d.U32("providers")
		a.Sufficients = d.U32("sufficients")
		a.Balance = readBalance(d)
		return a
	})
}

// PalletBalance returns Balances::Account(id), which holds the balance on the chains that do not keep it in
// System::Account.
func (v *View) PalletBalance(id AccountID) (b Balance, ok bool, err error) {
	key := storage.Map("Balances", "Account", storage.Blake2_128Concat, id[:])
	return read(v, fmt.Sprintf("Balances::Account(%x)", id), key, readBalance)
}

// ValidatorPrefs are a validator's terms: the commission in parts per billion, and whether it takes no more
// nominations.
type ValidatorPrefs struct {
	Commission uint32
	Blocked    bool
}

func readPrefs(d *scale.Decoder) (p ValidatorPrefs) {
	p.Commission = d.Compact32("commission")
	if p.Commission > 1_000_000_000 {
		d.Fail(scale.ErrTooLarge, "commission")
	}
	p.Blocked = d.Bool("blocked")
	return p
}

// StakingValidator returns Staking::Validators(id): ok tells whether the account declared itself a validator.
func (v *View) StakingValidator(id AccountID) (p ValidatorPrefs, ok bool, err error) {
	key := storage.Map("Staking", "Validators", storage.Twox64Concat, id[:])
	return read(v, fmt.Sprintf("Staking::Validators(%x)", id), key, readPrefs)
}

// A Candidate is an account that declared itself a validator.
type Candidate struct {
	ID AccountID
	ValidatorPrefs
}

// StakingValidators returns all of Staking::Validators, at most limit, in the order of their keys. The proof must
// hold the whole map.
func (v *View) StakingValidators(limit int) ([]Candidate, error) {
	const item = "Staking::Validators"
	prefix := storage.Value("Staking", "Validators")
	entries, err := v.Proof.Prefix(v.Root, prefix, limit)
	if err != nil {
		return nil, &Error{Kind: ErrProof, Item: item, Cause: err}
	}
	list := make([]Candidate, len(entries))
	for i, e := range entries {
		id, rest, ok := storage.Concat(e.Key[len(prefix):], storage.Twox64Concat, 8, 32)
		if !ok || len(rest) != 0 {
			return nil, &Error{Kind: ErrValue, Item: fmt.Sprintf("%s: key %x", item, e.Key)}
		}
		list[i].ID = AccountID(id)
		if list[i].ValidatorPrefs, err = decodeAll(item, e.Value, readPrefs); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// SessionValidators returns Session::Validators, the validators of the present session.
func (v *View) SessionValidators() ([]AccountID, error) {
	return must(v, "Session", "Validators", readAccounts)
}

// GrandpaAuthorities returns the authority set that the state names: Grandpa::Authorities, or ":grandpa_authorities"
// in old runtimes, with Grandpa::CurrentSetId. It is a cross-check: the light client's own set does not come from
// state.
func (v *View) GrandpaAuthorities() (*grandpa.AuthoritySet, error) {
	const item = "Grandpa::Authorities"
	id, err := must(v, "Grandpa", "CurrentSetId", readU64("set id"))
	if err != nil {
		return nil, err
	}
	raw, ok, err := v.get(item, storage.Value("Grandpa", "Authorities"))
	versioned := false
	if err == nil && !ok {
		versioned = true
		raw, ok, err = v.get(item, storage.GrandpaAuthorities())
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Error{Kind: ErrAbsent, Item: item}
	}
	list, err := grandpa.DecodeAuthorities(raw, versioned)
	if err != nil {
		return nil, &Error{Kind: ErrValue, Item: item, Cause: err}
	}
	set, err := grandpa.NewAuthoritySet(id, list)
	if err != nil {
		return nil, &Error{Kind: ErrValue, Item: item, Cause: err}
	}
	return set, nil
}

// ParaHead returns Paras::Heads(id), the newest header of a parachain that the relay chain has included. ok false
// means that there is no such parachain.
func (v *View) ParaHead(id uint32) (h *grandpa.Header, ok bool, err error) {
	item := fmt.Sprintf("Paras::Heads(%d)", id)
	key := storage.Map("Paras", "Heads", storage.Twox64Concat, keyU32(id))
	head, ok, err := read(v, item, key, func(d *scale.Decoder) []byte { return d.Bytes(trie.MaxBytes, "head data") })
	if err != nil || !ok {
		return nil, false, err
	}
	if h, err = grandpa.DecodeHeader(head); err != nil {
		return nil, false, &Error{Kind: ErrValue, Item: item, Cause: err}
	}
	return h, true, nil
}

// Para returns a view of a parachain's state at its newest included block, from the nodes of a read proof of that
// state, and the block's header.
func (v *View) Para(id uint32, nodes [][]byte) (*View, *grandpa.Header, error) {
	h, ok, err := v.ParaHead(id)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, &Error{Kind: ErrAbsent, Item: fmt.Sprintf("Paras::Heads(%d)", id)}
	}
	view, err := NewView(h.StateRoot, nodes)
	return view, h, err
}
