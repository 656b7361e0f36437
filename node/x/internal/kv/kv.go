// Package kv holds the few lines that every keeper needs around a store.
package kv

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"cosmossdk.io/core/store"
)

// PrefixEnd is the first key after all keys with the prefix.
func PrefixEnd(p []byte) []byte {
	end := append([]byte(nil), p...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// Each calls f for every entry under prefix, in order of keys, with the prefix cut
// off, until f returns an error or wants no more.
func Each(s store.KVStore, prefix []byte, f func(key, value []byte) (more bool, err error)) error {
	it, err := s.Iterator(prefix, PrefixEnd(prefix))
	if err != nil {
		return err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		more, err := f(it.Key()[len(prefix):], it.Value())
		if err != nil || !more {
			return err
		}
	}
	// Error is not asked: the SDK's cached stores report the end as an error.
	return nil
}

// An Item is one raw entry of a store in genesis: both hexadecimal.
type Item struct {
	Key   HexBytes `json:"key"`
	Value HexBytes `json:"value"`
}

// Export reads every entry under the prefixes, in order of keys.
func Export(s store.KVStore, prefixes ...string) ([]Item, error) {
	items := []Item{}
	for _, p := range prefixes {
		err := Each(s, []byte(p), func(k, v []byte) (bool, error) {
			items = append(items, Item{append([]byte(p), k...), append([]byte(nil), v...)})
			return true, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return items, nil
}

// Import writes entries.
func Import(s store.KVStore, items []Item) error {
	for _, i := range items {
		if err := s.Set(i.Key, i.Value); err != nil {
			return err
		}
	}
	return nil
}

// SetJSON stores v as JSON.
func SetJSON(s store.KVStore, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.Set(key, b)
}

// GetJSON reads what SetJSON stored.
func GetJSON(s store.KVStore, key []byte, v any) error {
	b, err := s.Get(key)
	if err != nil || b == nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// StrictJSON reads exactly one JSON value and refuses unknown fields.
func StrictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
