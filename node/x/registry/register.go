package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/x/registry/types"
	"github.com/phala-go/phala/proto"
)

// RegisterWorker admits an enclave or renews its admission. What is cheap to check is
// checked first; then gas for the verification is consumed, and only then it is done.
func (k *Keeper) RegisterWorker(c context.Context, m *types.MsgRegisterWorker) (*types.MsgRegisterWorkerResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	reg, err := k.checkRegistration(ctx, &p, m)
	if err != nil {
		return nil, err
	}
	old, err := k.Worker(ctx, reg.Worker)
	if err != nil {
		return nil, err
	}
	last, err := k.Attestation(ctx, reg.Worker)
	if err != nil {
		return nil, err
	}
	if last == nil {
		last = &proto.Attestation{}
	}
	switch {
	case old != nil && (old.Role != reg.Role || !bytes.Equal(old.Operator, reg.Operator)):
		return nil, ErrRole.Wrapf("%s is registered as %s of %x", reg.Worker, old.Role, old.Operator)
	case reg.Epoch != last.Epoch+1:
		// One evidence counts once.
		return nil, ErrStale.Wrapf("attestation epoch %d; the worker's next is %d: let the enclave sync and ask it again", reg.Epoch, last.Epoch+1)
	case p.Frozen && (old == nil || uint64(ctx.BlockHeight()) >= old.Expires):
		return nil, ErrFrozen.Wrap("only workers that are admitted may renew")
	}
	v, ev, err := k.verifyEvidence(ctx, reg, m.Evidence)
	if err != nil {
		return nil, err
	}
	revision, _, err := k.revision(ctx, ev.Platform)
	if err != nil {
		return nil, err
	}
	a := &proto.Attestation{TEE: uint8(v.TEE), Epoch: reg.Epoch, Verified: uint64(ctx.BlockTime().UnixMilli()), Until: uint64(v.Expiry.UnixMilli()),
		Status: string(v.TCBStatus), Advisories: v.Advisories, Platform: ev.Platform, Revision: revision, Machine: v.MachineID, Serial: v.PCKSerial, Evaluation: v.Evaluation,
		TCB: v.TCB, TrustHeight: reg.TrustHeight, TrustRoot: reg.TrustRoot, Settings: reg.Settings}
	if _, err := proto.ParseAttestation(a.Marshal()); err != nil {
		// Vendors bound neither serial numbers nor advisories. What is kept must be readable:
		// the block at which this admission ends reads it.
		return nil, ErrEvidence.Wrapf("the verdict on it cannot be kept: %v", err)
	}
	if p.Frozen && a.Machine != last.Machine {
		return nil, ErrFrozen.Wrap("a worker may not move to another machine")
	}
	w := &proto.WorkerInfo{Worker: reg.Worker, Operator: reg.Operator, Role: reg.Role, Measurement: v.Measurement, Simulated: v.Simulated,
		Level: v.ConfidenceLevel, Registered: uint64(ctx.BlockHeight()), Rules: reg.Rules, Endpoints: reg.Endpoints,
		State: proto.WorkerState{Session: reg.Session, SessionHeight: uint64(ctx.BlockHeight()), Heard: uint64(ctx.BlockHeight())}}
	if old != nil {
		w.State.Cluster = old.State.Cluster
	}
	end, err := k.allowedUntil(ctx, &p, w, a)
	if err != nil {
		return nil, err
	}
	w.Expires = min(w.Registered+p.AttestationBlocks, end)
	if err := k.place(ctx, &p, w, a.Machine, last); err != nil {
		return nil, err
	}
	return &types.MsgRegisterWorkerResponse{}, k.admit(ctx, w, a, old, last, m.Registration, ev.Evidence)
}

// checkRegistration checks everything about a registration but its evidence.
func (k *Keeper) checkRegistration(ctx sdk.Context, p *Params, m *types.MsgRegisterWorker) (*proto.Registration, error) {
	operator, err := sdk.AccAddressFromBech32(m.Operator)
	if err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	reg, err := proto.ParseRegistration(m.Registration)
	if err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	roots, err := k.attestationRoots(ctx)
	if err != nil {
		return nil, err
	}
	digest := proto.Hash(roots.Digest())
	switch {
	case reg.Chain != ctx.ChainID():
		return nil, ErrWrongChain.Wrapf("chain %q, this is %q", reg.Chain, ctx.ChainID())
	case reg.Roots != digest:
		return nil, ErrWrongChain.Wrapf("attestation roots %s, this network's are %s", reg.Roots, digest)
	case !bytes.Equal(reg.Operator, operator):
		return nil, ErrOperator.Wrapf("%s registers for %x", m.Operator, reg.Operator)
	case reg.Role == proto.RoleGatekeeper && !slices.Contains(p.GatekeeperOperators, m.Operator):
		return nil, ErrNotGatekeeper.Wrap(m.Operator)
	}
	if err := commkey.PublicKey(reg.Session).Check(); err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	if err := p.Settings.allow(&reg.Settings); err != nil {
		return nil, ErrSettings.Wrap(err.Error())
	}
	if reg.Role != proto.RoleGatekeeper && len(reg.Releases) > 0 {
		return nil, ErrMalformed.Wrap("a worker releases no keys")
	}
	for _, h := range reg.Releases {
		if _, err := k.measurementUntil(ctx, proto.RoleWorker, h); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(k.trustRoot(ctx, reg.TrustHeight, reg.TrustRoot), k.recent(ctx, p, reg.Height, reg.Hash)); err != nil {
		return nil, err
	}
	ctx.GasMeter().ConsumeGas(gasSignature, "registration")
	if err := identity.Verify(identity.PublicKey(reg.Worker), reg.SignedBytes(), m.Signature); err != nil {
		return nil, ErrSignature.Wrap(err.Error())
	}
	return reg, nil
}

// gasSignature is the price of an sr25519 signature.
const gasSignature = 100 * gasPerMicrosecond

// evidence is what gatekeepers get: with the chain's collateral.
type evidence struct {
	attest.Evidence
	Platform string
}

// verifyEvidence verifies evidence with the collateral that the chain holds. Evidence
// that brings its own is refused: it could be older, from before a revocation.
func (k *Keeper) verifyEvidence(ctx sdk.Context, reg *proto.Registration, b []byte) (*attest.Verdict, *evidence, error) {
	ev, err := attest.Parse(b)
	if err != nil {
		return nil, nil, ErrEvidence.Wrap(err.Error())
	}
	if ev.Collateral != nil {
		return nil, nil, ErrEvidence.Wrap("it brings collateral, which comes by MsgUpdateCollateral")
	}
	platform, err := ev.CollateralKey()
	if err != nil {
		return nil, nil, ErrEvidence.Wrap(err.Error())
	}
	if ev.Collateral, err = k.collateral(ctx, platform); err != nil {
		return nil, nil, err
	}
	if ev.Collateral == nil {
		return nil, nil, ErrCollateral.Wrapf("the chain has none for %s: bring it by MsgUpdateCollateral", platform)
	}
	roots, err := k.attestationRoots(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx.GasMeter().ConsumeGas(gasEvidence, "attestation")
	v, err := attest.Verify(ev, roots, ctx.BlockTime())
	if err != nil {
		return nil, nil, ErrEvidence.Wrap(err.Error())
	}
	if v.ReportData != reg.ReportData() {
		return nil, nil, ErrReportData
	}
	return v, &evidence{ev, platform}, nil
}

// place gives a machine to a worker: one machine, one active worker. The worker that had
// it before is not admitted any more, or its outbox could bring it back beside the new
// one; the machine that the worker left is free. While the one that has it serves, only
// its own operator may put another in its place: a TEE without sealing is a new worker
// after each start.
func (k *Keeper) place(ctx sdk.Context, p *Params, next *proto.WorkerInfo, machine [32]byte, last *proto.Attestation) error {
	s, id := k.store.OpenKVStore(ctx), next.Worker
	holder, err := s.Get(keyMachine(machine))
	if err != nil {
		return err
	}
	if holder != nil && !bytes.Equal(holder, id[:]) {
		w, err := k.Worker(ctx, proto.WorkerID(holder))
		if err != nil {
			return err
		}
		if serving, _ := k.serving(ctx, p, w); serving && (w.Role != next.Role || !bytes.Equal(w.Operator, next.Operator)) {
			return ErrMachine.Wrapf("%x is serving as %x", machine[:8], holder)
		}
		if w != nil {
			if err := k.endAdmission(ctx, w, fmt.Sprintf("its machine serves as %s", id)); err != nil {
				return err
			}
		}
	}
	if last.Machine != machine {
		holder, err := s.Get(keyMachine(last.Machine))
		if err != nil {
			return err
		}
		if bytes.Equal(holder, id[:]) {
			if err := s.Delete(keyMachine(last.Machine)); err != nil {
				return err
			}
		}
	}
	return s.Set(keyMachine(machine), id[:])
}

// admit writes the verdict and tells worker and gatekeepers.
func (k *Keeper) admit(ctx sdk.Context, w *proto.WorkerInfo, a *proto.Attestation, old *proto.WorkerInfo, last *proto.Attestation, registration []byte, ev attest.Evidence) error {
	topic := proto.TopicWorker(w.Worker)
	if has, err := k.mq.HasTopic(ctx, topic); err != nil {
		return err
	} else if !has {
		if err := errors.Join(k.mq.CreateTopic(ctx, topic), k.mq.OpenOutbox(ctx, w.Worker)); err != nil {
			return err
		}
	}
	s := k.store.OpenKVStore(ctx)
	if old != nil {
		if err := errors.Join(s.Delete(keyEnd(old.Expires, w.Worker)), s.Delete(keyUntil(last.Until, w.Worker))); err != nil {
			return err
		}
	}
	if err := errors.Join(k.set(ctx, w), s.Set(proto.KeyAttestation(w.Worker), a.Marshal()),
		s.Set(keyEnd(w.Expires, w.Worker), mark), s.Set(keyUntil(a.Until, w.Worker), mark)); err != nil {
		return err
	}
	e := proto.WorkerRegistered{Registration: registration, Expires: w.Expires}
	if _, err := k.mq.Append(ctx, topic, []byte(ModuleName), e); err != nil {
		return err
	}
	e.Evidence = ev.Marshal()
	_, err := k.mq.Append(ctx, proto.TopicGatekeeper, []byte(ModuleName), e)
	ctx.EventManager().EmitEvent(sdk.NewEvent("worker_registered", sdk.NewAttribute("worker", w.Worker.String()),
		sdk.NewAttribute("role", w.Role.String()), sdk.NewAttribute("simulated", fmt.Sprint(w.Simulated)), sdk.NewAttribute("level", fmt.Sprint(w.Level))))
	return err
}

// Indices of admissions by the height and by the time at which they end.
func keyEnd(height uint64, w proto.WorkerID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("e/"), height), w[:]...)
}

func keyUntil(ms uint64, w proto.WorkerID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("u/"), ms), w[:]...)
}

var mark = []byte{1}
