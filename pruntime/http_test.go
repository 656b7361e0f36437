package pruntime_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// TestContractHTTP: a query's request leaves the worker where its operator allows it.
func TestContractHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("from " + r.URL.Path)) }))
	defer s.Close()
	for mode, want := range map[string]string{pruntime.HTTPOff: "does not allow HTTP", pruntime.HTTPPublic: "not a public address", pruntime.HTTPPrivate: "from /x"} {
		w, _, ws := network(t, 1, func(n *node) { n.cfg.HTTP = mode })
		id := w.deploy()
		a, err := ws[0].query(id, "HGET "+s.URL+"/x\n\n")
		if err != nil || a.Status != proto.StatusOK || !strings.Contains(string(a.Return), want) {
			t.Errorf("%q: %+v, %v", mode, a, err)
		}
	}
	n := newWorld(t).add("worker", proto.RoleWorker)
	n.cfg.HTTP = "everywhere"
	if _, err := pruntime.Open(context.Background(), n.cfg, n.tee); err == nil || !strings.Contains(err.Error(), "everywhere") {
		t.Errorf("an unknown setting: %v", err)
	}
}
