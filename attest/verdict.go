package attest

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/snp"
)

// TCBStatus tells how well patched the platform is.
type TCBStatus = dcap.Status

// Unrated is the status of SNP platforms: AMD signs no list of TCB levels, so
// the floor is a network's own decision, taken on [Verdict.TCB].
const Unrated TCBStatus = "Unrated"

// Field is one measured property, by the name that the vendor gives it.
type Field struct {
	Name  string
	Value []byte
}

// Verdict is what verified evidence proves. It depends on nothing but
// [Verify]'s arguments.
type Verdict struct {
	TEE TEE
	// Simulated is true on a simulated network: nothing is protected.
	Simulated bool
	// Measurement is the digest of Fields that an allow-list names, see
	// [MeasurementDigest].
	Measurement [32]byte
	// Fields are the measured properties of the software, in digest order.
	Fields []Field
	// One of these is set: the whole report.
	SGX *dcap.EnclaveReport
	TDX *dcap.TDReport
	SNP *snp.Report
	// ReportData is what the software itself put into the report.
	ReportData [64]byte

	TCBStatus  TCBStatus
	Advisories []string // vendor's identifiers, sorted
	TCBDate    time.Time
	// TCB is the platform's security version: for Intel the 16 SVN components
	// of the processor, PCESVN (big-endian), and for TDX TEE_TCB_SVN; for AMD
	// the reported FMC, boot loader, TEE, SNP and microcode versions.
	TCB []byte
	// Evaluation is Intel's tcbEvaluationDataNumber, 0 for AMD.
	Evaluation uint32
	// FMSPC is Intel's platform family, zero for AMD.
	FMSPC [6]byte
	// Product is AMD's processor line, "" for Intel.
	Product snp.Product
	// MachineID identifies the processor: one machine, one worker. SGX and TDX
	// on one machine give the same.
	MachineID [32]byte
	// PCKSerial is the serial number of Intel's PCK certificate, nil for AMD.
	PCKSerial []byte
	// RevocationChecked is false for SNP collateral without a CRL.
	RevocationChecked bool
	// Expiry is the last moment at which the evidence with this collateral
	// verifies.
	Expiry time.Time
	// ConfidenceLevel is 1 (best) to 5, see [ConfidenceLevel].
	ConfidenceLevel uint8
}

// Domain tags of the digests. Each is hashed first.
const (
	tagMeasurement = "phala/attest/measurement/v1/"
	tagMachine     = "phala/attest/machine/v1/"
)

// MeasurementDigest is SHA-256 over the tag "phala/attest/measurement/v1/" and
// the class's name, then over each field's name and value, every string after
// its length in four bytes, big-endian.
func MeasurementDigest(tee TEE, fields []Field) [32]byte {
	b := appendPart(nil, []byte(tagMeasurement+tee.String()))
	for _, f := range fields {
		b = appendPart(b, []byte(f.Name))
		b = appendPart(b, f.Value)
	}
	return sha256.Sum256(b)
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func le16(v uint16) []byte { return binary.LittleEndian.AppendUint16(nil, v) }

// SGXFields returns the measured properties of an enclave. Numbers are
// little-endian, as in the report.
func SGXFields(r *dcap.EnclaveReport) []Field {
	return []Field{
		{"MRENCLAVE", r.MRENCLAVE[:]},
		{"MRSIGNER", r.MRSIGNER[:]},
		{"ISVPRODID", le16(r.ISVProdID)},
		{"ISVSVN", le16(r.ISVSVN)},
		{"ATTRIBUTES", r.Attributes[:]},
		{"MISCSELECT", le32(r.MiscSelect)},
		{"CONFIGID", r.ConfigID[:]},
		{"CONFIGSVN", le16(r.ConfigSVN)},
		{"ISVEXTPRODID", r.ISVExtProdID[:]},
		{"ISVFAMILYID", r.ISVFamilyID[:]},
	}
}

// TDXFields returns the measured properties of a trust domain. The TDX
// module's own measurement is not among them: Intel's TCB info judges it.
func TDXFields(r *dcap.TDReport) []Field {
	return []Field{
		{"MRTD", r.MRTD[:]},
		{"RTMR0", r.RTMR[0][:]},
		{"RTMR1", r.RTMR[1][:]},
		{"RTMR2", r.RTMR[2][:]},
		{"RTMR3", r.RTMR[3][:]},
		{"MRCONFIGID", r.MRConfigID[:]},
		{"MROWNER", r.MROwner[:]},
		{"MROWNERCONFIG", r.MROwnerConfig[:]},
		{"MRSERVICETD", r.MRServiceTD[:]},
		{"TDATTRIBUTES", le64(r.TDAttributes)},
		{"XFAM", le64(r.XFAM)},
	}
}

// SNPFields returns the measured properties of a guest.
func SNPFields(r *snp.Report) []Field {
	return []Field{
		{"MEASUREMENT", r.Measurement[:]},
		{"HOST_DATA", r.HostData[:]},
		{"POLICY", le64(r.Policy)},
		{"VMPL", le32(r.VMPL)},
		{"GUEST_SVN", le32(r.GuestSVN)},
		{"FAMILY_ID", r.FamilyID[:]},
		{"IMAGE_ID", r.ImageID[:]},
		{"ID_KEY_DIGEST", r.IDKeyDigest[:]},
		{"AUTHOR_KEY_DIGEST", r.AuthorKeyDigest[:]},
	}
}

// MachineID is the identity of a processor: SHA-256 over the tag
// "phala/attest/machine/v1/" and its vendor, and over the vendor's identifier
// of it (Intel's PPID, AMD's CHIP_ID), each after its length in four bytes,
// big-endian.
func MachineID(tee TEE, id []byte) [32]byte {
	vendor := "intel"
	if tee == SNP {
		vendor = "amd"
	}
	return sha256.Sum256(appendPart(appendPart(nil, []byte(tagMachine+vendor)), id))
}

// harmless are the advisories that the configuration statuses may name
// without leaving level 3. The list is the original network's.
var harmless = []string{"INTEL-SA-00219", "INTEL-SA-00334", "INTEL-SA-00381", "INTEL-SA-00389"}

// ConfidenceLevel is the original network's view of a TCB status:
//
//	1  UpToDate
//	2  SWHardeningNeeded
//	3  ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, with advisories
//	   INTEL-SA-00219, -00334, -00381 and -00389 at most
//	4  the same with any other advisory
//	5  OutOfDate, OutOfDateConfigurationNeeded
//
// SNP platforms are [Unrated]: level 3 when the firmware reports its current
// and committed version, which no host can roll back behind, 4 otherwise (see
// Verify). 0 is no level: a status that Verify never returns.
func ConfidenceLevel(status TCBStatus, advisories []string) uint8 {
	switch status {
	case dcap.UpToDate:
		return 1
	case dcap.SWHardeningNeeded:
		return 2
	case dcap.ConfigurationNeeded, dcap.ConfigurationAndSWHardeningNeeded:
		for _, a := range advisories {
			if !slices.Contains(harmless, a) {
				return 4
			}
		}
		return 3
	case dcap.OutOfDate, dcap.OutOfDateConfigurationNeeded:
		return 5
	}
	return 0
}

// Verify checks evidence against a network's roots at the given time, which on
// a chain is the block's. It is a pure function: the same arguments give the
// same verdict on every machine, in every year. The error is a refusal that
// names the failing step (package fault).
func Verify(ev Evidence, roots Roots, now time.Time) (*Verdict, error) {
	if ev.Collateral == nil {
		return nil, fault.New(fault.EvidenceIncomplete, "no collateral")
	}
	if ev.Collateral.TEE != ev.TEE {
		return nil, fault.New(fault.CollateralMismatch, ev.Collateral.TEE.String()+" collateral for "+ev.TEE.String()+" evidence")
	}
	if _, err := ev.Collateral.fields(); err != nil {
		return nil, err
	}
	switch ev.TEE {
	case SGX, TDX:
		return verifyIntel(ev, roots, now)
	case SNP:
		return verifyAMD(ev, roots, now)
	}
	return nil, fault.New(fault.EvidenceTEE, ev.TEE.String())
}

func intelTEE(t TEE) dcap.TEE {
	if t == TDX {
		return dcap.TDX
	}
	return dcap.SGX
}

func verifyIntel(ev Evidence, roots Roots, now time.Time) (*Verdict, error) {
	if roots.intel == nil {
		return nil, fault.New(fault.RootsUnknown, "no Intel root")
	}
	if len(ev.Certificate) != 0 {
		return nil, fault.New(fault.EvidenceMalformed, "a certificate beside an Intel quote")
	}
	r, err := dcap.Verify(ev.Report, ev.Collateral.DCAP, roots.intel, now)
	if err != nil {
		return nil, err
	}
	if r.Quote.TEE != intelTEE(ev.TEE) {
		return nil, fault.New(fault.EvidenceTEE, r.Quote.TEE.String()+" quote in "+ev.TEE.String()+" evidence")
	}
	v := &Verdict{
		TEE: ev.TEE, Simulated: roots.simulated,
		SGX: r.Quote.Enclave, TDX: r.Quote.TD, ReportData: r.Quote.ReportData(),
		TCBStatus: r.Status, Advisories: r.Advisories, TCBDate: r.TCBDate,
		Evaluation: r.Evaluation, FMSPC: r.Platform.FMSPC,
		MachineID: MachineID(ev.TEE, r.Platform.PPID[:]), PCKSerial: r.PCKSerial,
		RevocationChecked: true, Expiry: r.Expiry,
		ConfidenceLevel: ConfidenceLevel(r.Status, r.Advisories),
	}
	v.TCB = binary.BigEndian.AppendUint16(bytesOf(r.Platform.SVN), r.Platform.PCESVN)
	if v.TDX != nil {
		v.TCB = append(v.TCB, v.TDX.TEETCBSVN[:]...)
		v.Fields = TDXFields(v.TDX)
	} else {
		v.Fields = SGXFields(v.SGX)
	}
	v.Measurement = MeasurementDigest(v.TEE, v.Fields)
	return v, nil
}

func bytesOf(a [16]uint8) []byte { return a[:] }

func verifyAMD(ev Evidence, roots Roots, now time.Time) (*Verdict, error) {
	if len(roots.amd) == 0 {
		return nil, fault.New(fault.RootsUnknown, "no AMD root")
	}
	if len(ev.Certificate) == 0 {
		return nil, fault.New(fault.EvidenceIncomplete, "no VCEK")
	}
	r, err := snp.Verify(ev.Report, ev.Certificate, ev.Collateral.SNP, roots.amd, now)
	if err != nil {
		return nil, err
	}
	tcb := r.Reported.Bytes()
	v := &Verdict{
		TEE: SNP, Simulated: roots.simulated,
		SNP: r.Report, ReportData: r.Report.ReportData, Fields: SNPFields(r.Report),
		TCBStatus: Unrated, TCB: tcb[:], Product: r.Product,
		MachineID:         MachineID(SNP, r.Report.ChipID[:]),
		RevocationChecked: r.RevocationChecked, Expiry: r.Expiry,
		ConfidenceLevel: 4,
	}
	if r.Reported == r.Current && r.Committed == r.Current {
		v.ConfidenceLevel = 3
	}
	v.Measurement = MeasurementDigest(SNP, v.Fields)
	return v, nil
}
