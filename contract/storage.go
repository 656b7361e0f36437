package contract

import (
	"encoding/binary"
	"fmt"
	"iter"
	"reflect"
)

// A binder is a field of a contract.
type binder interface {
	bind(name string)
	holds() reflect.Type
	// warm writes and reads an entry on a host that keeps none.
	warm()
}

// A Value is one stored value. The zero value of T is what an unset one reads as.
type Value[T any] struct{ key string }

func (v *Value[T]) bind(name string) { v.key = name }

func (v *Value[T]) holds() reflect.Type { return reflect.TypeFor[T]() }

func (v *Value[T]) warm() {
	if !small(reflect.TypeFor[T]()) {
		return
	}
	var x T
	v.Set(x)
	v.Get()
	decode(v.key, encode(v.key, x), &x)
}

// Get reads the value.
func (v *Value[T]) Get() (out T) {
	if b, ok := current.Get([]byte(v.key)); ok {
		decode(v.key, b, &out)
	}
	return out
}

// Set writes the value.
func (v *Value[T]) Set(x T) { current.Put([]byte(v.key), encode(v.key, x)) }

// Key is what a Map may be keyed by. Iteration is in the order of keys: strings by
// bytes, numbers by value.
type Key interface {
	~string | ~uint | ~uint32 | ~uint64 | ~int | ~int32 | ~int64
}

// A Map is stored entries.
type Map[K Key, V any] struct{ prefix string }

func (m *Map[K, V]) bind(name string) { m.prefix = name + "/" }

func (m *Map[K, V]) holds() reflect.Type { return reflect.TypeFor[V]() }

func (m *Map[K, V]) warm() {
	if !small(reflect.TypeFor[V]()) {
		return
	}
	var k K
	var v V
	m.Set(k, v)
	m.Get(k)
	for range m.All() {
	}
	decodeKey[K](encodeKey(k))
	decode(m.prefix, encode(m.prefix, v), &v)
}

func (m *Map[K, V]) key(k K) []byte { return append([]byte(m.prefix), encodeKey(k)...) }

// Get reads an entry; ok is whether there is one.
func (m *Map[K, V]) Get(k K) (v V, ok bool) {
	b, ok := current.Get(m.key(k))
	if ok {
		decode(m.prefix, b, &v)
	}
	return v, ok
}

// Set writes an entry.
func (m *Map[K, V]) Set(k K, v V) { current.Put(m.key(k), encode(m.prefix, v)) }

// Delete removes an entry.
func (m *Map[K, V]) Delete(k K) { current.Delete(m.key(k)) }

// All iterates in order of keys. The loop may write and delete entries.
func (m *Map[K, V]) All() iter.Seq2[K, V] { return m.from([]byte(m.prefix)) }

// From iterates as All does, over the keys that are not below k. What is before them
// costs nothing: a loop over the strings that start with k ends at the first which does
// not, and a list in pages goes on behind its last key.
func (m *Map[K, V]) From(k K) iter.Seq2[K, V] { return m.from(m.key(k)) }

func (m *Map[K, V]) from(from []byte) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		from := from
		for {
			key, ok := current.Next([]byte(m.prefix), from)
			if !ok {
				return
			}
			b, _ := current.Get(key)
			var v V
			decode(m.prefix, b, &v)
			if !yield(decodeKey[K](key[len(m.prefix):]), v) {
				return
			}
			from = append(append([]byte(nil), key...), 0)
		}
	}
}

func encode(name string, v any) []byte {
	b, err := marshal(v)
	if err != nil {
		panic(fmt.Sprintf("contract: %s does not encode: %v", name, err))
	}
	return b
}

func decode(name string, b []byte, v any) {
	if err := unmarshal(b, v); err != nil {
		panic(fmt.Sprintf("contract: stored %s does not decode: %v", name, err))
	}
}

// encodeKey keeps the order: numbers in eight bytes, big-endian, signed ones with
// the sign flipped.
func encodeKey[K Key](k K) []byte {
	switch v := reflect.ValueOf(k); {
	case v.CanUint():
		return binary.BigEndian.AppendUint64(nil, v.Uint())
	case v.CanInt():
		return binary.BigEndian.AppendUint64(nil, uint64(v.Int())^1<<63)
	default:
		return []byte(v.String())
	}
}

func decodeKey[K Key](b []byte) (k K) {
	switch v := reflect.ValueOf(&k).Elem(); {
	case v.CanUint():
		v.SetUint(binary.BigEndian.Uint64(b))
	case v.CanInt():
		v.SetInt(int64(binary.BigEndian.Uint64(b) ^ 1<<63))
	default:
		v.SetString(string(b))
	}
	return k
}
