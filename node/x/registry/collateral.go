package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"
	errs "github.com/cosmos/cosmos-sdk/types/errors"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/node/x/registry/types"
	"github.com/phala-go/phala/proto"
)

// Verifying costs what it takes: a thousand gas for a microsecond on one core of the
// machine of package attest's documentation, so that a block of 500 million gas is half a
// second. It is consumed before the work, so whoever fails has paid like whoever does not.
// Figures: go test -bench 'Register|UpdateCollateral' ./x/registry.
const (
	gasPerMicrosecond = 1000
	gasEvidence       = 1200 * gasPerMicrosecond // an SNP report takes longest
	gasCollateral     = 600 * gasPerMicrosecond
)

// MaxCollateral leaves room, in the message that gatekeepers get, for the evidence that
// it belongs to.
const MaxCollateral = 40 << 10

// roots returns the network's attestation roots, parsed once.
func (k *Keeper) attestationRoots(ctx context.Context) (attest.Roots, error) {
	b, err := k.store.OpenKVStore(ctx).Get(keyRoots)
	if err != nil {
		return attest.Roots{}, err
	}
	if len(b) == 0 {
		return attest.ProductionRoots(), nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.rootBytes, b) {
		r, err := attest.SimulatedRoots(b)
		if err != nil {
			return attest.Roots{}, ErrEvidence.Wrap(err.Error())
		}
		k.rootBytes, k.roots = slices.Clone(b), r
	}
	return k.roots, nil
}

// maxVerifications is how many verifications a transaction may ask for: a worker's new
// collateral and its registration.
const maxVerifications = 2

// Reserve counts the messages that make validators verify evidence or collateral, before
// they run: also those that fail then take a place in their block. So a transaction takes
// few places, each with a message that parses and with the gas of its verification, which
// its fee is reckoned by; otherwise one that costs next to nothing could fill a block. The
// transaction's signatures and fee have been checked.
func (k *Keeper) Reserve(ctx sdk.Context, msgs []sdk.Msg, gas uint64) error {
	var n, need uint64
	for _, m := range msgs {
		switch m := m.(type) {
		case *types.MsgRegisterWorker:
			if _, err := proto.ParseRegistration(m.Registration); err != nil {
				return ErrMalformed.Wrap(err.Error())
			}
			if _, err := attest.Parse(m.Evidence); err != nil {
				return ErrEvidence.Wrap(err.Error())
			}
			n, need = n+1, need+gasSignature+gasEvidence
		case *types.MsgUpdateCollateral:
			if _, err := parseCollateral(m.Collateral); err != nil {
				return err
			}
			n, need = n+1, need+gasCollateral
		}
	}
	switch {
	case n > maxVerifications:
		return ErrBusy.Wrapf("%d in one transaction, at most %d: send them one by one", n, maxVerifications)
	case gas < need:
		return errs.ErrOutOfGas.Wrapf("gas limit %d, verifying takes %d: raise the limit", gas, need)
	}
	if n == 0 {
		return nil
	}
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	t := k.transient.OpenTransientStore(ctx)
	b, err := t.Get([]byte("n"))
	if err != nil {
		return err
	}
	if b != nil {
		n += binary.BigEndian.Uint64(b)
	}
	if n > p.RegistrationsPerBlock {
		return ErrBusy
	}
	return t.Set([]byte("n"), binary.BigEndian.AppendUint64(nil, n))
}

func parseCollateral(b []byte) (*attest.Collateral, error) {
	if len(b) > MaxCollateral {
		return nil, ErrCollateral.Wrapf("%d bytes, at most %d", len(b), MaxCollateral)
	}
	c, err := attest.ParseCollateral(b)
	if err != nil {
		return nil, ErrCollateral.Wrap(err.Error())
	}
	if c.SNP != nil && len(c.SNP.CRL) == 0 {
		return nil, ErrCollateral.Wrap("it has no revocation list")
	}
	return c, nil
}

// collateral returns what the chain holds for a platform, nil when it is nothing.
func (k *Keeper) collateral(ctx context.Context, platform string) (*attest.Collateral, error) {
	b, err := k.store.OpenKVStore(ctx).Get(proto.KeyCollateral(platform))
	if err != nil || b == nil {
		return nil, err
	}
	return attest.ParseCollateral(b)
}

// revision says how often a platform's vendor changed what its collateral judges, and at
// which height it did last.
func (k *Keeper) revision(ctx context.Context, platform string) (n, height uint64, err error) {
	b, err := k.store.OpenKVStore(ctx).Get(keyRevision(platform))
	if err != nil || b == nil {
		return 0, 0, err
	}
	return binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), nil
}

// UpdateCollateral takes newer collateral from anybody. The vendor's signatures are what
// is trusted, and no part of it may be older than what is held, nor have a TCB evaluation
// number that does not count yet. What is held already changes nothing.
func (k *Keeper) UpdateCollateral(c context.Context, m *types.MsgUpdateCollateral) (*types.MsgUpdateCollateralResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	next, err := parseCollateral(m.Collateral)
	if err != nil {
		return nil, err
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	roots, err := k.attestationRoots(ctx)
	if err != nil {
		return nil, err
	}
	ctx.GasMeter().ConsumeGas(gasCollateral, "collateral")
	// Signatures first: only then it is read, even to see which platform it is about.
	// Documents of anybody's making take longer to read than genuine ones to verify.
	info, err := attest.VerifyCollateral(next, roots, ctx.BlockTime())
	if err != nil {
		return nil, ErrCollateral.Wrap(err.Error())
	}
	held, err := k.collateral(ctx, info.Key)
	if err != nil {
		return nil, err
	}
	if held != nil && bytes.Equal(held.Marshal(), m.Collateral) {
		// Two relayers bring the same: the second one's transaction goes on.
		return &types.MsgUpdateCollateralResponse{Platform: info.Key}, nil
	}
	if err := p.TCBEvaluations.check(info); err != nil {
		return nil, err
	}
	if held != nil {
		if err := k.replace(ctx, &p, held, info); err != nil {
			return nil, err
		}
	}
	ctx.EventManager().EmitEvent(sdk.NewEvent("collateral", sdk.NewAttribute("platform", info.Key)))
	return &types.MsgUpdateCollateralResponse{Platform: info.Key}, k.store.OpenKVStore(ctx).Set(proto.KeyCollateral(info.Key), m.Collateral)
}

// replace checks that next may take the place of what is held, and counts the revision that
// it is: what was admitted before is to show evidence again, in the grace.
func (k *Keeper) replace(ctx sdk.Context, p *Params, held *attest.Collateral, next *attest.CollateralInfo) error {
	old, err := attest.Describe(held)
	if err != nil {
		return ErrCollateral.Wrap(err.Error())
	}
	newer := old.Newer
	if p.TCBEvaluations.check(old) != nil {
		newer = old.NewerLists // governance lowered the ceiling: it was taken in error
	}
	if err := newer(next); err != nil {
		return ErrCollateral.Wrap(err.Error())
	}
	if !old.Revises(next) {
		return nil
	}
	n, _, err := k.revision(ctx, next.Key)
	if err != nil {
		return err
	}
	r := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n+1), uint64(ctx.BlockHeight()))
	return errors.Join(k.store.OpenKVStore(ctx).Set(keyRevision(next.Key), r), k.changed(ctx))
}
