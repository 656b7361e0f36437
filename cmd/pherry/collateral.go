package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/pcs"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/pherry/collateral"
	"github.com/phala-go/phala/proto"
)

// newKeeper keeps the collateral of the platforms fresh on which the pruntimes run. One of
// the services that is not named is not asked.
func newKeeper(ctx context.Context, node *rpc.Client, operator *tx.Sender, relayers []*pherry.Relayer, pccs, kds string, log *slog.Logger) (*collateral.Keeper, error) {
	roots := attest.ProductionRoots()
	b, err := node.Read(ctx, proto.StoreRegistry, []byte("roots"))
	switch {
	case errors.Is(err, rpc.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		if roots, err = attest.SimulatedRoots(b); err != nil {
			return nil, err
		}
	}
	own := func(setting, vendor string) string {
		if setting == vendor {
			return "" // the client's default
		}
		return setting
	}
	client, err := pcs.New(pcs.Options{Intel: own(pccs, "intel"), AMD: own(kds, "amd"), Roots: roots})
	if err != nil {
		return nil, err
	}
	workers := func(ctx context.Context) (out []collateral.Worker, errs error) {
		for _, r := range relayers {
			reg, err := r.Runtime.Registration(ctx)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			ev, err := attest.Parse(reg.Evidence)
			if err == nil && (ev.TEE == attest.SNP && kds == "" || ev.TEE != attest.SNP && pccs == "") {
				err = fmt.Errorf("no service is configured for %s: --pccs is for Intel's, --kds for AMD's", ev.TEE)
			}
			parsed, perr := proto.ParseRegistration(reg.Registration)
			if err = errors.Join(err, perr); err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			out = append(out, collateral.Worker{Name: parsed.Worker.String(), Evidence: ev})
		}
		return out, errs
	}
	return &collateral.Keeper{Chain: &collateral.Registry{Node: node, Operator: operator}, Source: client, Workers: workers, Roots: roots, Now: time.Now, Log: log}, nil
}
