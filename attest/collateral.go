package attest

import (
	"encoding/hex"
	"time"

	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/snp"
)

// CollateralInfo is what a verified collateral is about.
type CollateralInfo struct {
	TEE TEE
	// Key is what a store holds it under: platforms with the same key share
	// collateral. See [CollateralKey].
	Key    string
	Expiry time.Time
	// DCAP or SNP has the details.
	DCAP *dcap.CollateralInfo
	SNP  *snp.CollateralInfo
}

// VerifyCollateral checks a collateral by itself, so that anyone may bring it:
// the vendor's signatures are what is trusted.
func VerifyCollateral(c *Collateral, roots Roots, now time.Time) (*CollateralInfo, error) {
	if _, err := c.fields(); err != nil {
		return nil, err
	}
	if c.SNP != nil {
		if len(roots.amd) == 0 {
			return nil, fault.New(fault.RootsUnknown, "no AMD root")
		}
		info, err := snp.VerifyCollateral(c.SNP, roots.amd, now)
		if err != nil {
			return nil, err
		}
		return &CollateralInfo{TEE: SNP, Key: keySNP(info.Product), Expiry: info.Expiry, SNP: info}, nil
	}
	if roots.intel == nil {
		return nil, fault.New(fault.RootsUnknown, "no Intel root")
	}
	info, err := dcap.VerifyCollateral(c.DCAP, roots.intel, now)
	if err != nil {
		return nil, err
	}
	if info.TEE != intelTEE(c.TEE) {
		return nil, fault.New(fault.TCBInfoTEE, info.TEE.String()+" TCB info in "+c.TEE.String()+" collateral")
	}
	return &CollateralInfo{TEE: c.TEE, Key: keyIntel(c.TEE, info.FMSPC, info.CA), Expiry: info.Expiry, DCAP: info}, nil
}

// CheckUpdate checks that next may take the place of held in a store: it
// verifies at this time, and is newer. held was verified when it was stored; it
// may have expired since. It is nil when the store has none for next's key.
func CheckUpdate(held, next *Collateral, roots Roots, now time.Time) (*CollateralInfo, error) {
	info, err := VerifyCollateral(next, roots, now)
	if err != nil || held == nil {
		return info, err
	}
	old, err := Describe(held)
	if err != nil {
		return nil, err
	}
	if err := old.Newer(info); err != nil {
		return nil, err
	}
	return info, nil
}

// CheckRetraction is [CheckUpdate] where a network takes back the TCB recovery that held
// is of: see [CollateralInfo.NewerLists].
func CheckRetraction(held, next *Collateral, roots Roots, now time.Time) (*CollateralInfo, error) {
	info, err := VerifyCollateral(next, roots, now)
	if err != nil {
		return nil, err
	}
	old, err := Describe(held)
	if err != nil {
		return nil, err
	}
	if err := old.NewerLists(info); err != nil {
		return nil, err
	}
	return info, nil
}

// Describe says what a collateral is about without checking a signature or a date: for one
// that was verified when it was stored, and may have expired since. Its Expiry is zero.
func Describe(c *Collateral) (*CollateralInfo, error) {
	if _, err := c.fields(); err != nil {
		return nil, err
	}
	if c.SNP != nil {
		info, err := snp.Describe(c.SNP)
		if err != nil {
			return nil, err
		}
		return &CollateralInfo{TEE: SNP, Key: keySNP(info.Product), SNP: info}, nil
	}
	info, err := dcap.Describe(c.DCAP)
	if err != nil {
		return nil, err
	}
	return &CollateralInfo{TEE: c.TEE, Key: keyIntel(c.TEE, info.FMSPC, info.CA), DCAP: info}, nil
}

// Newer checks that next may replace held: no part is older, one is newer.
func (held *CollateralInfo) Newer(next *CollateralInfo) error {
	switch {
	case held.Key != next.Key:
		return fault.New(fault.CollateralIncompat, held.Key+" and "+next.Key)
	case held.SNP != nil:
		return held.SNP.Newer(next.SNP)
	}
	return held.DCAP.Newer(next.DCAP)
}

// NewerLists checks that next may replace held where the TCB recovery that held is of is
// taken back: next may be of an earlier one. Revocations are no part of a recovery, so its
// lists may not be older.
func (held *CollateralInfo) NewerLists(next *CollateralInfo) error {
	switch {
	case held.Key != next.Key:
		return fault.New(fault.CollateralIncompat, held.Key+" and "+next.Key)
	case held.DCAP == nil:
		return fault.New(fault.CollateralIncompat, "AMD has no TCB recoveries")
	}
	return held.DCAP.CheckLists(next.DCAP)
}

// Evaluation is the greatest TCB evaluation number in Intel's collateral, 0 for AMD's.
func (c *CollateralInfo) Evaluation() uint32 {
	if c.DCAP == nil {
		return 0
	}
	return max(c.DCAP.Evaluation, c.DCAP.QEEvaluation)
}

// Revises reports whether next, which is newer than held, may judge a platform worse: by
// a new evaluation of TCB levels, or by revoking what was not revoked before. Other
// collateral is the same with a later date.
func (held *CollateralInfo) Revises(next *CollateralInfo) bool {
	switch {
	case held.Key != next.Key:
		return false
	case held.SNP != nil:
		return held.SNP.Revises(next.SNP)
	}
	return held.DCAP.Revises(next.DCAP)
}

func keyIntel(t TEE, fmspc [6]byte, ca dcap.CA) string {
	return t.String() + "/" + hex.EncodeToString(fmspc[:]) + "/" + string(ca)
}

func keySNP(p snp.Product) string { return SNP.String() + "/" + string(p) }

// Platform tells what a store keeps a collateral under, whether it verifies or not.
func (c *Collateral) Platform() (string, error) {
	info, err := Describe(c)
	if err != nil {
		return "", err
	}
	return info.Key, nil
}

// Newer reports whether next may take the place of held: no part is older, one is newer.
// It checks no signature; [CheckUpdate] does both.
func (held *Collateral) Newer(next *Collateral) error {
	old, err := Describe(held)
	if err != nil {
		return err
	}
	info, err := Describe(next)
	if err != nil {
		return err
	}
	return old.Newer(info)
}

// Evaluation is the greatest TCB evaluation number in Intel's collateral, 0 for AMD's. It
// checks no signature.
func (c *Collateral) Evaluation() (uint32, error) {
	info, err := Describe(c)
	if err != nil {
		return 0, err
	}
	return info.Evaluation(), nil
}

// CollateralKey tells, from evidence that nobody has verified, which collateral
// it needs: "tdx/b0c06f000000/platform", "snp/Milan". The key is a claim; a
// false one makes Verify fail.
func (e Evidence) CollateralKey() (string, error) {
	switch e.TEE {
	case SGX, TDX:
		fmspc, ca, err := dcap.Claims(e.Report)
		if err != nil {
			return "", err
		}
		return keyIntel(e.TEE, fmspc, ca), nil
	case SNP:
		p, err := snp.Claims(e.Certificate)
		if err != nil {
			return "", err
		}
		return keySNP(p), nil
	}
	return "", fault.New(fault.EvidenceTEE, e.TEE.String())
}
