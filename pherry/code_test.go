package pherry_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/http/httptest"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// lie makes the node answer one ABCI query with something else; an empty path: none.
func lie(s *chaintest.Server, path string, data, answer []byte) {
	s.Intercept(func(method string, p map[string]any) (any, error) {
		if method != "abci_query" || p["path"] != path || p["data"] != hex.EncodeToString(data) {
			return nil, nil
		}
		return map[string]any{"response": map[string]any{"code": 0, "height": "0", "value": answer}}, nil
	})
}

const chunkPath = "/phala.contracts.v1.Query/Chunk"

// chunkRequest is a request for a chunk, chunkAnswer the answer to one.
func chunkRequest(code proto.Hash, i uint64) []byte {
	b := chunkAnswer(code[:])
	if i > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), i)
	}
	return b
}

func chunkAnswer(chunk []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), chunk)
}

// TestFetchCode: a code comes as it was uploaded, or not at all, whatever a node says.
func TestFetchCode(t *testing.T) {
	chain := chaintest.New(comettest.Config{})
	module := slices.Concat(make([]byte, proto.ChunkSize), []byte("the second chunk"))
	h := chain.Upload(module)
	other := chain.Upload(slices.Concat(make([]byte, proto.ChunkSize), []byte("of another code.")))
	chain.Next(2)
	server := chain.Server()
	web := httptest.NewServer(server)
	defer web.Close()
	node := rpc.New(web.URL)
	record, err := node.Read(t.Context(), proto.StoreContracts, proto.KeyCode(other))
	if err != nil {
		t.Fatal(err)
	}
	const store = "/store/contracts/key"
	second := proto.PackChunk([]byte("the second chunk"))
	for _, c := range []struct {
		name, path   string
		data, answer []byte
		want         error // nil: any
	}{
		{"chunk of another code", chunkPath, chunkRequest(h, 1), chunkAnswer(proto.PackChunk([]byte("of another code."))), proto.ErrChunk},
		{"first chunk twice", chunkPath, chunkRequest(h, 1), chunkAnswer(proto.PackChunk(make([]byte, proto.ChunkSize))), proto.ErrChunk},
		{"chunk and trailing bytes", chunkPath, chunkRequest(h, 1), chunkAnswer(append(second, 0)), proto.ErrChunk},
		{"bomb", chunkPath, chunkRequest(h, 0), chunkAnswer(proto.PackChunk(make([]byte, 64<<20))), proto.ErrChunk},
		{"no chunk", chunkPath, chunkRequest(h, 0), []byte{}, rpc.ErrNotFound},
		{"another code's manifest", store, proto.KeyCode(h), record, nil},
		{"no manifest", store, proto.KeyCode(h), []byte("garbage"), nil},
	} {
		lie(server, c.path, c.data, c.answer)
		if got, err := pherry.FetchCode(t.Context(), node, h); err == nil || got != nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
	lie(server, "", nil, nil)
	if got, err := pherry.FetchCode(t.Context(), node, h); err != nil || !bytes.Equal(got, module) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestBadCode: a code whose chunks the node has not, or not the right ones, does not keep
// a cluster from working.
func TestBadCode(t *testing.T) {
	s := stack.Ready(t, 1)
	c, id := deploy(t, s)
	w := s.List[1]
	code := s.Chain.Upload(enginetest.Script("claimed"))
	lie(s.Server, chunkPath, chunkRequest(code, 0), chunkAnswer(proto.PackChunk(enginetest.Script("given"))))
	s.Chain.Send(proto.TopicCluster(s.Cluster), proto.CodeAnnounced{Code: code})
	s.Chain.Send(proto.TopicCluster(s.Cluster), proto.CodeAnnounced{Code: proto.Hash{7}})
	s.Until("both are wanted", func() bool { return len(w.RT.Status().WantCodes) == 2 })
	for range 70 { // longer than a lease
		s.Step()
	}
	if w.Err == nil {
		t.Error("nobody is told")
	}
	if !w.RT.Status().Serving {
		t.Fatalf("the worker does not serve: %s", w.RT.Status().Why)
	}
	answers(t, s, c, id)
	lie(s.Server, "", nil, nil)
	s.Until("the one that is there came", func() bool { return len(w.RT.Status().WantCodes) == 1 })
}
