package pruntime_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
)

// A gatekeeper, as cmd/pruntime starts it: the TEE that is found, the public API for
// clients, the private one for the relayer. Workers keep their keys in another process
// (package keyring, OpenWorker).
func Example() {
	ctx := context.Background()
	tee, err := producer.Open(ctx, "auto", producer.Options{})
	if err != nil {
		fmt.Println("run it inside a TEE")
		return
	}
	cfg := pruntime.DefaultConfig()
	cfg.DataDir, cfg.Chain, cfg.Role, cfg.Roots = "data", "phala-1", proto.RoleGatekeeper, attest.ProductionRoots()
	cfg.Root = pruntime.TrustRoot{Height: 1, Hash: proto.Hash{}} // from somebody to be trusted
	rt, err := pruntime.Open(ctx, cfg, tee)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)
	go http.ListenAndServe("127.0.0.1:8000", api.Private(rt))
	http.ListenAndServe(":8001", api.Public(rt))
}
