package kv_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"cosmossdk.io/core/store"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/internal/testchain"
)

func open(t *testing.T) store.KVStore {
	c := testchain.New(t, []string{"s"}, nil)
	c.Start()
	return c.Store("s").OpenKVStore(c.Context())
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ in, want []byte }{
		{[]byte("a"), []byte("b")}, {[]byte{1, 0xff}, []byte{2}}, {[]byte{0xff, 0xff}, nil}, {nil, nil},
	} {
		in := bytes.Clone(c.in)
		if got := kv.PrefixEnd(in); !bytes.Equal(got, c.want) || !bytes.Equal(in, c.in) {
			t.Errorf("after %x comes %x, want %x (argument now %x)", c.in, got, c.want, in)
		}
	}
}

func TestEach(t *testing.T) {
	s, stop := open(t), errors.New("stop")
	for _, k := range []string{"a/1", "a/2", "a/3", "a", "b/1"} {
		if err := s.Set([]byte(k), []byte("of "+k)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		f    func(string) (bool, error)
		want []string
		err  error
	}{
		{"all", func(string) (bool, error) { return true, nil }, []string{"1", "2", "3"}, nil},
		{"until no more are wanted", func(k string) (bool, error) { return k != "2", nil }, []string{"1", "2"}, nil},
		{"until an error", func(k string) (bool, error) { return true, stop }, []string{"1"}, stop},
	} {
		var got []string
		err := kv.Each(s, []byte("a/"), func(k, v []byte) (bool, error) {
			got = append(got, string(k))
			if string(v) != "of a/"+string(k) {
				t.Errorf("%s holds %q", k, v)
			}
			return c.f(string(k))
		})
		if !errors.Is(err, c.err) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestExportImport(t *testing.T) {
	s := open(t)
	for _, k := range []string{"a/1", "a/\xff", "count", "z"} {
		if err := s.Set([]byte(k), []byte{1, 2}); err != nil {
			t.Fatal(err)
		}
	}
	items, err := kv.Export(s, "a/", "count")
	if err != nil || len(items) != 3 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	b, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	var back []kv.Item
	other := open(t)
	if err := errors.Join(json.Unmarshal(b, &back), kv.Import(other, back)); err != nil {
		t.Fatal(err)
	}
	again, err := kv.Export(other, "a/", "count")
	if err != nil || !reflect.DeepEqual(items, again) {
		t.Fatalf("imported %v, %v", again, err)
	}
	if err := json.Unmarshal([]byte(`[{"key":"0x","value":""}]`), &back); err == nil {
		t.Fatal("reads what is not hexadecimal")
	}
}

func TestJSON(t *testing.T) {
	type value struct{ A int }
	s := open(t)
	v := value{7}
	if err := errors.Join(kv.GetJSON(s, []byte("k"), &v)); err != nil || v.A != 7 {
		t.Fatalf("a missing key changed %v, %v", v, err)
	}
	if err := errors.Join(kv.SetJSON(s, []byte("k"), value{8}), kv.GetJSON(s, []byte("k"), &v)); err != nil || v.A != 8 {
		t.Fatal(v, err)
	}
	if err := kv.SetJSON(s, []byte("k"), func() {}); err == nil {
		t.Fatal("stores what has no JSON")
	}
	for in, ok := range map[string]bool{`{"A":1}`: true, ` {"A":1} ` + "\n": true, `{"A":1,"B":2}`: false, `{"A":1}{}`: false, `{"A":1}}`: false, `{"A":1}]`: false, `{"A":1} x`: false, `{"A":`: false, ``: false} {
		if err := kv.StrictJSON([]byte(in), &v); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}
