package pherry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
)

const (
	gasRegister   = 3_500_000
	gasCollateral = 2_500_000
	renewBefore   = 10  // renew in the last tenth of an admission's life
	maxWait       = 600 // blocks between two tries to register, at most

	codeCollateral = 18 // the registry's, for collateral that is not newer
)

// due reports whether the enclave is to be registered: the chain does not know it, or its
// admission is about to end, by height or, because evidence and collateral expire, by time.
// A renewal that does not last longer than what it renews is repeated in the last tenth of
// what is left, and so on: seldom.
func (r *Relayer) due(ctx context.Context, st *pruntime.Status) (bool, error) {
	b, err := r.Node.Read(ctx, proto.StoreRegistry, proto.KeyWorker(st.Worker))
	if errors.Is(err, rpc.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	w, err := proto.ParseWorkerInfo(b)
	if err != nil {
		return false, err
	}
	if life := w.Expires - min(w.Registered, w.Expires); uint64(st.TrustedHeight)+life/renewBefore >= w.Expires {
		return true, nil
	}
	b, err = r.Node.Read(ctx, proto.StoreRegistry, proto.KeyAttestation(st.Worker))
	if err != nil {
		return false, err
	}
	a, err := proto.ParseAttestation(b)
	if err != nil {
		return false, err
	}
	life := time.Duration(a.Until-min(a.Verified, a.Until)) * time.Millisecond
	return !st.TrustedTime.Add(life / renewBefore).Before(time.UnixMilli(int64(a.Until))), nil
}

// register registers the enclave when that is due. What the chain refuses costs a fee, so
// it is tried again after some blocks, then after twice as many.
func (r *Relayer) register(ctx context.Context, st *pruntime.Status) error {
	due, err := r.due(ctx, st)
	if err != nil || !due {
		return err
	}
	if r.denied.err != nil && st.TrustedHeight < r.denied.until {
		return r.denied.err
	}
	reg, err := r.Runtime.Registration(ctx)
	if err != nil {
		return err
	}
	evidence, collateral, err := r.collateral(ctx, reg.Evidence)
	if err != nil {
		return err
	}
	pub := r.Operator.Key.Public()
	gas, msgs := uint64(gasRegister), []tx.Msg{tx.RegisterWorker(pub[:], reg.Registration, reg.Signature, evidence)}
	if collateral != nil {
		gas, msgs = gas+gasCollateral, append([]tx.Msg{tx.UpdateCollateral(pub[:], collateral)}, msgs...)
	}
	res, err := r.Operator.Send(ctx, gas, msgs...)
	if err != nil {
		err = fmt.Errorf("pherry: register %s: %w", st.Worker, err)
		var refused *tx.Refused
		if errors.As(err, &refused) && refused.Space == proto.StoreRegistry {
			first := int64(resubmit)
			if collateral != nil && refused.Code == codeCollateral {
				first = 1 // somebody brought newer collateral meanwhile
			}
			r.wait = min(max(first, 2*r.wait), maxWait)
			r.denied = failure{err, st.TrustedHeight + r.wait}
		}
		return err
	}
	r.denied, r.wait = failure{}, 0
	r.Log.Info("registered", "worker", st.Worker, "role", st.Role, "simulated", st.Simulated, "height", res.Height)
	return nil
}

// collateral takes the collateral out of evidence, and returns it where it is newer than
// what the chain has: a simulated TEE brings its own. For real ones it comes from the
// vendor by another way.
func (r *Relayer) collateral(ctx context.Context, b []byte) (evidence, collateral []byte, err error) {
	ev, err := attest.Parse(b)
	if err != nil {
		return nil, nil, fmt.Errorf("pherry: evidence: %w", err)
	}
	if ev.Collateral == nil {
		return b, nil, nil
	}
	brought := ev.Collateral
	ev.Collateral = nil
	platform, err := brought.Platform()
	if err != nil {
		return nil, nil, fmt.Errorf("pherry: collateral: %w", err)
	}
	held, err := r.Node.Read(ctx, proto.StoreRegistry, proto.KeyCollateral(platform))
	switch {
	case errors.Is(err, rpc.ErrNotFound):
		return ev.Marshal(), brought.Marshal(), nil
	case err != nil:
		return nil, nil, err
	}
	old, err := attest.ParseCollateral(held)
	if err != nil {
		return nil, nil, fmt.Errorf("pherry: the node's collateral of %s: %w", platform, err)
	}
	if old.Newer(brought) != nil {
		return ev.Marshal(), nil, nil
	}
	return ev.Marshal(), brought.Marshal(), nil
}

// blocks brings a gatekeeper proofs of the blocks that it asks for. A block that the
// chain does not have, or has no more, is left out: a worker that gets no keys makes a
// new session, which names a newer one.
func (r *Relayer) blocks(ctx context.Context, st *pruntime.Status) error {
	if st.Gatekeeper == nil || len(st.Gatekeeper.WantBlocks) == 0 {
		return nil
	}
	var out []api.Block
	for _, h := range st.Gatekeeper.WantBlocks {
		value, proof, err := r.Node.Prove(ctx, proto.StoreRegistry, proto.KeyBlock(h), st.TrustedHeight-1)
		if errors.Is(err, rpc.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if len(value) != 32 {
			return fmt.Errorf("pherry: the node's hash of block %d has %d bytes", h, len(value))
		}
		out = append(out, api.Block{Height: h, Hash: proto.Hash(value), IAVL: proof.IAVL, Store: proof.Store})
	}
	if len(out) == 0 {
		return nil
	}
	_, err := r.Runtime.ConfirmBlocks(ctx, out)
	return err
}
