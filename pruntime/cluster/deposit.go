package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster/mtreap"
	"github.com/phala-go/phala/pruntime/engine"
)

// An overlay is the state that a command works on, and what its payer has left for new
// storage. Copying it keeps a version.
//
// A stored item binds a deposit ([engine.Rules.StorageDeposit]) of the command's payer who
// made it as large as it is, at the price of the rules under which that was. The deposit returns to that payer when the item shrinks or
// goes: to a credit that only enclaves see, which the payer's next commands use first
// and get paid out. The chain therefore never learns whose item a command removed.
type overlay struct {
	m     *mtreap.Map
	rules *engine.Rules                      // in force
	known func(version uint32) *engine.Rules // for items that older ones priced
	payer []byte
	left  uint64
	start uint64 // what was left at first
}

func keyCredit(account []byte) []byte { return append([]byte("b/"), account...) }

func (o *overlay) credit(account []byte) uint64 {
	b, ok := o.m.Get(keyCredit(account))
	if !ok {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (o *overlay) setCredit(account []byte, amount uint64) {
	switch {
	case amount == o.credit(account):
	case amount == 0:
		o.m = o.m.Delete(keyCredit(account))
	default:
		o.m = o.m.Set(keyCredit(account), binary.BigEndian.AppendUint64(nil, amount))
	}
}

// newer is the bit of an item's first byte that says that other rules than version 1
// priced it, and that their version comes next. An account is shorter than that.
const newer = 0x80

// An item in the state is the length of an account, the account whose deposit it binds,
// then the value.
func makeItem(rules uint32, payer, value []byte) []byte {
	b := make([]byte, 0, 5+len(payer)+len(value))
	if rules == 1 {
		b = append(b, byte(len(payer)))
	} else {
		b = binary.BigEndian.AppendUint32(append(b, byte(len(payer))|newer), rules)
	}
	return append(append(b, payer...), value...)
}

func splitItem(b []byte) (rules uint32, payer, value []byte) {
	n, b := b[0], b[1:]
	if rules = 1; n&newer != 0 {
		rules, b = binary.BigEndian.Uint32(b), b[4:]
	}
	n &^= newer
	return rules, b[:n], b[n:]
}

// bound is whose deposit an item binds, and how much.
func (o *overlay) bound(klen int, item []byte) (payer []byte, amount uint64) {
	rules, payer, value := splitItem(item)
	return payer, o.known(rules).StorageDeposit(klen, len(value))
}

// put stores an item whose key is klen bytes long to the contract. What will not stay
// costs nothing.
func (o *overlay) put(key, value []byte, klen int, stays bool) error {
	owner := o.payer
	if stays {
		var bound uint64
		var was []byte
		needs := o.rules.StorageDeposit(klen, len(value))
		if old, ok := o.m.Get(key); ok {
			was, bound = o.bound(klen, old)
		}
		if needs <= bound {
			owner = was
			o.release(was, bound-needs)
		} else {
			// All of the item is this payer's from here on, and its former payer is free.
			o.release(was, bound)
			if needs > o.left {
				return &engine.Error{Kind: engine.ErrDeposit, Detail: fmt.Sprintf("an item of %d bytes binds %d base units, and %d are left: raise the deposit limit", klen+len(value), needs, o.left)}
			}
			o.left -= needs
		}
	}
	o.m = o.m.Set(key, makeItem(o.rules.Version(), owner, value))
	return nil
}

// remove deletes an item.
func (o *overlay) remove(key []byte, klen int, stays bool) {
	old, ok := o.m.Get(key)
	if !ok {
		return
	}
	o.m = o.m.Delete(key)
	if stays {
		o.release(o.bound(klen, old))
	}
}

// release gives a deposit back to who paid it.
func (o *overlay) release(payer []byte, amount uint64) {
	if bytes.Equal(payer, o.payer) {
		o.left = sum(o.left, amount)
	} else {
		o.setCredit(payer, sum(o.credit(payer), amount))
	}
}

// overlay makes an overlay for a command whose payer has put up limit.
func (c *Cluster) overlay(m *mtreap.Map, rules *engine.Rules, payer []byte, limit uint64) *overlay {
	o := &overlay{m: m, rules: rules, known: c.programs.Rules, payer: payer}
	o.left = sum(o.credit(payer), limit)
	o.start = o.left
	return o
}

// float is the credit that a payer keeps. It is filled up by whatever command comes, so
// that a receipt does not tell a command that stored a small item from one that stored
// none.
const float = proto.DepositUnit / 2

// settle ends a command that succeeded: what the chain keeps of the limit, or pays out
// beside it, in a bucket. The rest of the payer's is its credit; with a limit of 0 it is
// paid out. bound is what the command bound in truth.
func (o *overlay) settle(limit uint64) (d proto.DepositBucket, bound uint64) {
	var credit, missing uint64
	if o.left < limit {
		missing = limit - o.left
	} else {
		credit = o.left - limit
	}
	switch {
	case missing > 0 || credit < float && limit >= proto.DepositUnit:
		d = proto.KeepDeposit(min(limit, sum(missing, float-credit)))
	case limit == 0:
		d = proto.RefundDeposit(credit)
	case credit > float:
		d = proto.RefundDeposit(credit - float)
	}
	o.setCredit(o.payer, sum(credit, d.Kept(limit))-missing-d.Refunded())
	return d, o.start - min(o.start, o.left)
}

// sum adds without wrapping. No sum of deposits comes near.
func sum(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		panic("cluster: broken invariant: deposits above 2^64")
	}
	return s
}
