package main

import (
	"strings"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// TestInspect: a module is judged and asked before anything is paid for it.
func TestInspect(t *testing.T) {
	d, err := inspect(t.Context(), clustertest.Module(t, "../../examples/hello"))
	if err != nil || d == nil || d.Name != "Hello" {
		t.Errorf("got %+v, %v", d, err)
	}
	// One that does not describe itself is as good.
	if d, err := inspect(t.Context(), enginetest.Script("")); err != nil || d != nil {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := inspect(t.Context(), clustertest.Module(t, "testdata/unregistered")); err == nil || !strings.Contains(err.Error(), "call contract.Register in an init function") {
		t.Errorf("without Register: got %v", err)
	}
	for name, module := range map[string][]byte{"nothing": nil, "a text": []byte("hello"), "not a contract": []byte("\x00asm\x01\x00\x00\x00")} {
		if _, err := inspect(t.Context(), module); err == nil || !strings.Contains(err.Error(), "no worker would run this module") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestJudge: what phala build says of a module that could not be deployed.
func TestJudge(t *testing.T) {
	if err := judge(enginetest.Script("")); err != nil {
		t.Error(err)
	}
	if err := judge(make([]byte, proto.MaxCode+1)); err == nil || !strings.Contains(err.Error(), "at most 8388608") {
		t.Errorf("too large: %v", err)
	}
	if err := judge([]byte("hello")); err == nil || !strings.Contains(err.Error(), "no worker would run this module") {
		t.Errorf("no module: %v", err)
	}
}

func TestInitArgument(t *testing.T) {
	terms := &contract.Description{Name: "Auction", Methods: []contract.MethodDescription{{Name: "Init", Kind: "init",
		Arg: &contract.Type{Kind: "object", Fields: []contract.Field{{Name: "item", Type: &contract.Type{Kind: "string"}}, {Name: "blocks", Type: &contract.Type{Kind: "number"}}}}}}}
	if v, err := initArgument(terms, []string{"item=a horse", "blocks=5"}); err != nil || v.(map[string]any)["item"] != "a horse" {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := initArgument(terms, nil); err != nil || v != nil {
		t.Errorf("got %v, %v", v, err)
	}
	none := &contract.Description{Name: "Tally", Methods: []contract.MethodDescription{{Name: "Init", Kind: "init"}, {Name: "Add", Kind: "command", Arg: &contract.Type{Kind: "number"}}}}
	for _, c := range []struct {
		d     *contract.Description
		words []string
		says  string
	}{
		{terms, []string{"price=5"}, "no field \"price\""},
		{terms, []string{"item=x"}, "blocks is missing; the argument is {item: string, blocks: number}"},
		{terms, []string{"item=x", "blocks=many"}, "not number"},
		{terms, []string{"a horse"}, "not name=value"},
		{none, []string{"5"}, "constructor of Tally takes no argument"},
	} {
		if _, err := initArgument(c.d, c.words); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: got %v, want %q", c.words, err, c.says)
		}
	}
}
