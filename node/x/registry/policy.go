package registry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/snp"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/registry/types"
	"github.com/phala-go/phala/proto"
)

// Keys of the policy's entries.
func keyMeasurement(r proto.Role, digest []byte) []byte {
	return append([]byte{'m', '/', byte(r)}, digest...)
}

func keyDenial(kind, subject string) []byte { return []byte("n/" + kind + "/" + subject) }
func keyFloor(platform string) []byte       { return append([]byte("g/"), platform...) }
func keyRevision(platform string) []byte    { return append([]byte("c/"), platform...) }

// Kinds of what may be denied.
const (
	denyFMSPC    = "fmspc"    // Intel's platform family
	denyProduct  = "product"  // AMD's processor line
	denyMachine  = "machine"  // a processor, by package attest's MachineID
	denyPCK      = "pck"      // serial number of Intel's certificate of a machine
	denyAdvisory = "advisory" // a vendor's advisory that a platform's status names
)

// products are AMD's processor lines.
func products() []string { return []string{string(snp.Milan), string(snp.Genoa), string(snp.Turin)} }

// subjects are what an attestation may be denied for.
func subjects(a *proto.Attestation) [][2]string {
	out := [][2]string{{denyMachine, hex.EncodeToString(a.Machine[:])}}
	if len(a.Serial) > 0 {
		out = append(out, [2]string{denyPCK, hex.EncodeToString(a.Serial)})
	}
	if parts := strings.Split(a.Platform, "/"); attest.TEE(a.TEE) == attest.SNP {
		out = append(out, [2]string{denyProduct, parts[len(parts)-1]})
	} else if len(parts) == 3 {
		out = append(out, [2]string{denyFMSPC, parts[1]})
	}
	for _, s := range a.Advisories {
		out = append(out, [2]string{denyAdvisory, s})
	}
	return out
}

// measurementUntil returns the height at which a measurement may not be used any more in a
// role, or why it may not now.
func (k *Keeper) measurementUntil(ctx context.Context, role proto.Role, digest proto.Hash) (uint64, error) {
	b, err := k.store.OpenKVStore(ctx).Get(keyMeasurement(role, digest[:]))
	if err != nil {
		return 0, err
	}
	if b == nil {
		return 0, ErrMeasurement.Wrapf("%s as %s", digest, role)
	}
	now, from, until := uint64(sdk.UnwrapSDKContext(ctx).BlockHeight()), binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if until == 0 {
		until = math.MaxUint64
	}
	if now < from || now >= until {
		return 0, ErrMeasurement.Wrapf("%s as %s is allowed from height %d up to %d", digest, role, from, until)
	}
	return until, nil
}

// allowedUntil returns the height at which policy ends the admission of what was
// attested, or why policy does not allow it now.
func (k *Keeper) allowedUntil(ctx context.Context, p *Params, w *proto.WorkerInfo, a *proto.Attestation) (uint64, error) {
	s, now := k.store.OpenKVStore(ctx), uint64(sdk.UnwrapSDKContext(ctx).BlockHeight())
	end := uint64(math.MaxUint64)
	until, err := k.measurementUntil(ctx, w.Role, w.Measurement)
	if err != nil {
		return 0, err
	}
	end = min(end, until)
	for _, d := range subjects(a) {
		b, err := s.Get(keyDenial(d[0], d[1]))
		if err != nil {
			return 0, err
		}
		if b == nil {
			continue
		}
		from := binary.BigEndian.Uint64(b)
		if now >= from {
			return 0, ErrDenied.Wrapf("%s %s since height %d", d[0], d[1], from)
		}
		end = min(end, from)
	}
	// A vendor that revoked a key, or rates versions anew, has said so in collateral that
	// came later than this evidence.
	revision, height, err := k.revision(ctx, a.Platform)
	if err != nil {
		return 0, err
	}
	if a.Revision < revision {
		last := height + p.RenewalBlocks
		if now >= last {
			return 0, ErrCollateral.Wrapf("the vendor revised %s at height %d: new evidence was due", a.Platform, height)
		}
		end = min(end, last)
	}
	if w.Level > p.WorstLevel {
		return 0, ErrLevel.Wrapf("level %d (%s), at worst %d", w.Level, a.Status, p.WorstLevel)
	}
	if err := p.Settings.allow(&a.Settings); err != nil {
		return 0, ErrSettings.Wrap(err.Error())
	}
	if err := k.aboveFloor(ctx, a); err != nil {
		return 0, err
	}
	if a.Until <= uint64(sdk.UnwrapSDKContext(ctx).BlockTime().UnixMilli()) {
		return 0, ErrEvidence.Wrap("it has expired")
	}
	return end, nil
}

// A floor is the oldest that a platform's versions may be.
type floor struct {
	Evaluation uint32      `json:"evaluation"`
	TCB        kv.HexBytes `json:"tcb"`
}

// floorPlatform is what a platform's floor is kept under: Intel's classes have one each,
// AMD's products one each, because AMD signs no list of versions.
func floorPlatform(a *proto.Attestation) string {
	if attest.TEE(a.TEE) == attest.SNP {
		return a.Platform
	}
	return attest.TEE(a.TEE).String()
}

func (k *Keeper) aboveFloor(ctx context.Context, a *proto.Attestation) error {
	var f floor
	if err := kv.GetJSON(k.store.OpenKVStore(ctx), keyFloor(floorPlatform(a)), &f); err != nil {
		return err
	}
	if a.Evaluation < f.Evaluation {
		return ErrFloor.Wrapf("TCB evaluation number %d, at least %d: the collateral needs an update", a.Evaluation, f.Evaluation)
	}
	for i, least := range f.TCB {
		if i >= len(a.TCB) || a.TCB[i] < least {
			return ErrFloor.Wrapf("component %d of %x, at least %x: update the firmware", i, a.TCB, []byte(f.TCB))
		}
	}
	return nil
}

func (k *Keeper) governed(authority string) error {
	if authority != k.authority {
		return ErrAuthority.Wrapf("%s is not %s", authority, k.authority)
	}
	return nil
}

// UpdateParams replaces the parameters; the sender must be governance.
func (k *Keeper) UpdateParams(ctx context.Context, m *types.MsgUpdateParams) (*types.MsgUpdateParamsResponse, error) {
	if err := k.governed(m.Authority); err != nil {
		return nil, err
	}
	p, err := ParseParams([]byte(m.Params))
	if err != nil {
		return nil, ErrParams.Wrap(err.Error())
	}
	if err := k.SetParams(ctx, p); err != nil {
		return nil, err
	}
	return &types.MsgUpdateParamsResponse{}, k.changed(ctx)
}

// An AllowedMeasurement is one entry of the allow-list.
type AllowedMeasurement struct {
	Digest proto.Hash `json:"digest"`
	Role   string     `json:"role"`
	From   uint64     `json:"from"`
	Until  uint64     `json:"until"` // 0: no end
}

func (m *AllowedMeasurement) role() (proto.Role, error) {
	for _, r := range []proto.Role{proto.RoleWorker, proto.RoleGatekeeper} {
		if m.Role == r.String() {
			return r, nil
		}
	}
	return 0, ErrParams.Wrapf("role %q is neither worker nor gatekeeper", m.Role)
}

func (m *AllowedMeasurement) check() error {
	if m.Until != 0 && m.Until <= m.From {
		return ErrParams.Wrapf("measurement %s ends before it starts", m.Digest)
	}
	_, err := m.role()
	return err
}

func (k *Keeper) setMeasurement(ctx context.Context, m *AllowedMeasurement) error {
	if err := m.check(); err != nil {
		return err
	}
	r, err := m.role()
	if err != nil {
		return err
	}
	return k.store.OpenKVStore(ctx).Set(keyMeasurement(r, m.Digest[:]), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, m.From), m.Until))
}

// SetMeasurement allows a measurement to register in a role between two heights. What
// was allowed before is replaced: to end it at once, let it end at height 1.
func (k *Keeper) SetMeasurement(ctx context.Context, m *types.MsgSetMeasurement) (*types.MsgSetMeasurementResponse, error) {
	if err := k.governed(m.Authority); err != nil {
		return nil, err
	}
	if len(m.Digest) != 32 {
		return nil, ErrParams.Wrapf("digest of %d bytes", len(m.Digest))
	}
	if err := k.setMeasurement(ctx, &AllowedMeasurement{proto.Hash(m.Digest), m.Role, m.From, m.Until}); err != nil {
		return nil, err
	}
	return &types.MsgSetMeasurementResponse{}, k.changed(ctx)
}

// SetDenial denies a subject from a height on, which gives those who are admitted time
// until then, or takes a denial back.
func (k *Keeper) SetDenial(ctx context.Context, m *types.MsgSetDenial) (*types.MsgSetDenialResponse, error) {
	if err := k.governed(m.Authority); err != nil {
		return nil, err
	}
	size, named := map[string]int{denyFMSPC: 6, denyMachine: 32, denyPCK: -1}[m.Kind]
	switch raw, err := hex.DecodeString(m.Subject); {
	case !named && m.Kind != denyProduct && m.Kind != denyAdvisory:
		return nil, ErrParams.Wrapf("kind %q is none of fmspc, product, machine, pck and advisory", m.Kind)
	case m.Subject == "" || len(m.Subject) > 64:
		return nil, ErrParams.Wrapf("subject of %d characters, 1 to 64 are allowed", len(m.Subject))
	case named && (err != nil || hex.EncodeToString(raw) != m.Subject || size >= 0 && len(raw) != size):
		return nil, ErrParams.Wrapf("subject %q is not what a %s is, in lower-case hexadecimal", m.Subject, m.Kind)
	case m.Kind == denyPCK && (raw[0] >= 0x80 || raw[0] == 0 && (len(raw) < 2 || raw[1] < 0x80)):
		// It would match no certificate, and nobody would see that.
		return nil, ErrParams.Wrapf("subject %q is no serial number as a certificate has it: one that begins with 80 to ff has 00 before it, and no other has", m.Subject)
	case m.Kind == denyProduct && !slices.Contains(products(), m.Subject):
		return nil, ErrParams.Wrapf("subject %q is none of %s", m.Subject, strings.Join(products(), ", "))
	}
	s, key := k.store.OpenKVStore(ctx), keyDenial(m.Kind, m.Subject)
	if m.Lift {
		return &types.MsgSetDenialResponse{}, s.Delete(key)
	}
	if err := s.Set(key, binary.BigEndian.AppendUint64(nil, m.From)); err != nil {
		return nil, err
	}
	return &types.MsgSetDenialResponse{}, k.changed(ctx)
}

// SetFloor sets how old a platform's versions may be.
func (k *Keeper) SetFloor(ctx context.Context, m *types.MsgSetFloor) (*types.MsgSetFloorResponse, error) {
	if err := k.governed(m.Authority); err != nil {
		return nil, err
	}
	platforms := []string{attest.SGX.String(), attest.TDX.String()}
	for _, p := range products() {
		platforms = append(platforms, attest.SNP.String()+"/"+p)
	}
	switch {
	case !slices.Contains(platforms, m.Platform):
		return nil, ErrParams.Wrapf("platform %q is none of %s", m.Platform, strings.Join(platforms, ", "))
	case len(m.Tcb) > 64:
		return nil, ErrParams.Wrapf("%d components", len(m.Tcb))
	}
	if err := kv.SetJSON(k.store.OpenKVStore(ctx), keyFloor(m.Platform), floor{m.Evaluation, m.Tcb}); err != nil {
		return nil, err
	}
	return &types.MsgSetFloorResponse{}, k.changed(ctx)
}

// SettingsBounds are how far the settings of an enclave may go, in milliseconds.
type SettingsBounds struct {
	Lease           uint64 `json:"lease_ms"`
	TrustingPeriod  uint64 `json:"trusting_period_ms"`
	ClockDrift      uint64 `json:"clock_drift_ms"`
	SessionInterval uint64 `json:"session_interval_ms"`
}

func (b *SettingsBounds) allow(s *proto.Settings) error {
	for _, c := range []struct {
		name       string
		set, bound uint64
	}{{"lease", s.Lease, b.Lease}, {"trusting period", s.TrustingPeriod, b.TrustingPeriod}, {"clock drift", s.ClockDrift, b.ClockDrift},
		{"session interval", s.SessionInterval, b.SessionInterval}} {
		if c.set > c.bound {
			return fmt.Errorf("%s of %d ms, at most %d", c.name, c.set, c.bound)
		}
	}
	return nil
}
