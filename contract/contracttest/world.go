package contracttest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/pruntime/engine"
)

// A world is the cluster's state, kept the simple way: what the enclave's real one must
// agree with.
type world struct {
	kv     map[contract.ID]map[string]item
	credit map[contract.Account]uint64
}

// An item is a stored value and whose deposit it binds.
type item struct {
	value []byte
	payer contract.Account
}

func newWorld() *world {
	return &world{map[contract.ID]map[string]item{}, map[contract.Account]uint64{}}
}

func (w *world) fork() *world {
	c := &world{make(map[contract.ID]map[string]item), maps.Clone(w.credit)}
	for id, kv := range w.kv {
		c.kv[id] = maps.Clone(kv)
	}
	return c
}

func (w *world) put(id contract.ID, key string, value []byte, payer contract.Account, limit uint64) error {
	kv := w.kv[id]
	if kv == nil {
		kv = map[string]item{}
		w.kv[id] = kv
	}
	old, had := kv[key]
	bound, needs := uint64(0), rules.StorageDeposit(len(key), len(value))
	if had {
		bound = rules.StorageDeposit(len(key), len(old.value))
	}
	if needs <= bound {
		w.credit[old.payer] += bound - needs
		payer = old.payer
	} else {
		w.credit[old.payer] += bound
		if w.credit[payer] < needs {
			return &engine.Error{Kind: engine.ErrDeposit, Detail: fmt.Sprintf("the deposit limit of %d base units is used up", limit)}
		}
		w.credit[payer] -= needs
	}
	kv[key] = item{bytes.Clone(value), payer}
	return nil
}

func (w *world) remove(id contract.ID, key string) {
	if old, had := w.kv[id][key]; had {
		w.credit[old.payer] += rules.StorageDeposit(len(key), len(old.value))
		delete(w.kv[id], key)
	}
}

func (w *world) next(id contract.ID, prefix, from []byte) (string, bool) {
	for _, k := range slices.Sorted(maps.Keys(w.kv[id])) {
		if k >= string(from) && k >= string(prefix) {
			return k, bytes.HasPrefix([]byte(k), prefix)
		}
	}
	return "", false
}

// String lists the storage.
func (w *world) String() string {
	var b bytes.Buffer
	for _, id := range slices.SortedFunc(maps.Keys(w.kv), func(a, b contract.ID) int { return bytes.Compare(a[:], b[:]) }) {
		for _, k := range slices.Sorted(maps.Keys(w.kv[id])) {
			fmt.Fprintf(&b, "%x/%q=%q ", id[:4], k, w.kv[id][k].value)
		}
	}
	return b.String()
}
