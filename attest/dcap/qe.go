package dcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/phala-go/phala/attest/fault"
)

// qeIdentity is Intel's enclave identity of a quoting enclave, version 2.
type qeIdentity struct {
	id             string
	issueDate      time.Time
	nextUpdate     time.Time
	evaluation     uint32
	miscSelect     [4]byte
	miscMask       [4]byte
	attributes     [16]byte
	attributesMask [16]byte
	mrSigner       [32]byte
	prodID         uint16
	levels         []svnLevel
}

func parseQEIdentity(b []byte) (*qeIdentity, error) {
	v, err := parseJSON(b)
	if err != nil {
		return nil, fault.Wrap(fault.QEMalformed, "", err)
	}
	o := v.object("QE identity")
	q := &qeIdentity{id: o.str("id")}
	if o.uint("version", 1<<16) != 2 {
		o.fail("is not of version 2")
	}
	q.issueDate, q.nextUpdate = o.time("issueDate"), o.time("nextUpdate")
	q.evaluation = uint32(o.uint("tcbEvaluationDataNumber", 1<<31))
	// Written as big-endian numbers for miscselect, as bytes for the others.
	o.hex("miscselect", q.miscSelect[:])
	o.hex("miscselectMask", q.miscMask[:])
	o.hex("attributes", q.attributes[:])
	o.hex("attributesMask", q.attributesMask[:])
	o.hex("mrsigner", q.mrSigner[:])
	q.prodID = uint16(o.uint("isvprodid", 0xffff))
	if o.err == nil {
		if q.levels, err = parseSVNLevels(o); err != nil {
			var f *fault.Error
			if errors.As(err, &f) && f.Code == fault.TCBInfoMalformed {
				return nil, fault.Wrap(fault.QEMalformed, "", f.Err)
			}
			return nil, err
		}
	}
	if err := o.done(); err != nil {
		return nil, fault.Wrap(fault.QEMalformed, "", err)
	}
	return q, nil
}

// sgxDebug is the DEBUG bit of an enclave's attributes.
const sgxDebug = 1 << 1

// check compares the quoting enclave's report with its identity and finds its
// level.
func (q *qeIdentity) check(r *EnclaveReport) (standing, error) {
	misc := binary.BigEndian.Uint32(q.miscSelect[:])
	mask := binary.BigEndian.Uint32(q.miscMask[:])
	if r.MiscSelect&mask != misc&mask {
		return standing{}, fault.New(fault.QEMiscSelect, "")
	}
	if r.Attributes[0]&sgxDebug != 0 {
		return standing{}, fault.New(fault.QEDebug, "")
	}
	var have, want [16]byte
	for i := range have {
		have[i] = r.Attributes[i] & q.attributesMask[i]
		want[i] = q.attributes[i] & q.attributesMask[i]
	}
	switch {
	case have != want:
		return standing{}, fault.New(fault.QEAttributes, "")
	case !bytes.Equal(r.MRSIGNER[:], q.mrSigner[:]):
		return standing{}, fault.New(fault.QEMRSigner, "")
	case r.ISVProdID != q.prodID:
		return standing{}, fault.New(fault.QEProdID, "")
	}
	s, err := matchSVN(q.levels, r.ISVSVN, fault.QETCBUnsupported)
	if err == nil && s.status == Revoked {
		return s, fault.New(fault.QETCBRevoked, "")
	}
	return s, err
}
