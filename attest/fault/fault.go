package fault

import "strings"

// Code is one reason for refusing evidence.
type Code string

// Error makes a Code usable as the target of errors.Is.
func (c Code) Error() string { return "attestation refused: " + string(c) }

// Step is the part of the verification that the code belongs to.
func (c Code) Step() string {
	step, _, _ := strings.Cut(string(c), ".")
	return step
}

// Encodings and configuration.
const (
	EvidenceMalformed   Code = "evidence.malformed"    // not the encoding of an Evidence
	EvidenceTEE         Code = "evidence.tee"          // unknown TEE class
	EvidenceIncomplete  Code = "evidence.incomplete"   // collateral or certificate is missing
	RootsMalformed      Code = "roots.malformed"       // not the encoding of simulated roots
	RootsUnknown        Code = "roots.unknown"         // the roots have no anchor for this vendor or product
	RootsVendor         Code = "roots.vendor"          // simulated roots hold or imitate a vendor's root
	CollateralMalformed Code = "collateral.malformed"  // not the encoding of a Collateral
	CollateralMismatch  Code = "collateral.mismatch"   // collateral of another TEE, platform or CA
	CollateralNotNewer  Code = "collateral.not-newer"  // an update that is not newer than what is held
	CollateralIncompat  Code = "collateral.comparison" // two collaterals of different platforms were compared
)

// Intel quotes.
const (
	QuoteMalformed    Code = "quote.malformed"     // truncated, over long, trailing or inconsistent bytes
	QuoteVersion      Code = "quote.version"       // version, TEE type or key type not supported
	QuoteNotCanonical Code = "quote.not-canonical" // a malleable part is not in its one canonical form
	QuoteVendor       Code = "quote.qe-vendor"     // quoting enclave is not Intel's
	QuoteCertType     Code = "quote.cert-type"     // certification data is not a PCK chain
	QuoteKey          Code = "quote.key"           // attestation key is not a point of P-256
	QuoteSignature    Code = "quote.signature"     // attestation key did not sign this body

	PCKChain     Code = "pck.chain"      // chain is short, unlinked, wrongly signed or of wrong roles
	PCKRoot      Code = "pck.root"       // chain does not end in the pinned root
	PCKExpired   Code = "pck.expired"    // a certificate of the chain is not valid at this time
	PCKRevoked   Code = "pck.revoked"    // the PCK certificate is on the CRL
	PCKCARevoked Code = "pck.ca-revoked" // the PCK CA is on the root's CRL
	PCKExtension Code = "pck.extension"  // the SGX extension is missing or malformed

	CRLMalformed Code = "crl.malformed" // CRL cannot be parsed
	CRLSignature Code = "crl.signature" // CRL is not signed by the expected CA
	CRLExpired   Code = "crl.expired"   // CRL is not valid at this time

	TCBInfoMalformed Code = "tcbinfo.malformed" // TCB info cannot be parsed strictly
	TCBInfoChain     Code = "tcbinfo.chain"     // its signer is not a TCB signing certificate under the root
	TCBInfoRevoked   Code = "tcbinfo.revoked"   // its signer is on the root's CRL
	TCBInfoSignature Code = "tcbinfo.signature" // its signature is wrong
	TCBInfoExpired   Code = "tcbinfo.expired"   // its next update is past
	TCBInfoFuture    Code = "tcbinfo.future"    // its issue date is in the future
	TCBInfoTEE       Code = "tcbinfo.tee"       // TCB info of the other Intel TEE
	TCBInfoFMSPC     Code = "tcbinfo.fmspc"     // TCB info of another platform family or PCE
	TCBInfoStatus    Code = "tcbinfo.status"    // a status name that is not known

	QEMalformed      Code = "qe.malformed"   // QE identity cannot be parsed strictly
	QEChain          Code = "qe.chain"       // its signer is not a TCB signing certificate under the root
	QERevoked        Code = "qe.revoked"     // its signer is on the root's CRL
	QESignature      Code = "qe.signature"   // its signature is wrong
	QEExpired        Code = "qe.expired"     // its next update is past
	QEFuture         Code = "qe.future"      // its issue date is in the future
	QEID             Code = "qe.id"          // identity of the other quoting enclave
	QEReportSig      Code = "qe.report"      // the PCK did not sign the QE's report
	QEReportData     Code = "qe.report-data" // the QE's report does not bind the attestation key
	QEMiscSelect     Code = "qe.miscselect"  // QE differs from its published identity, field by field
	QEAttributes     Code = "qe.attributes"  //
	QEDebug          Code = "qe.debug"       // QE runs in debug mode
	QEMRSigner       Code = "qe.mrsigner"    //
	QEProdID         Code = "qe.isvprodid"   //
	QETCBUnsupported Code = "qe.tcb"         // QE older than any level listed
	QETCBRevoked     Code = "qe.tcb-revoked" // QE's level is revoked

	TCBUnsupported Code = "tcb.unsupported" // platform older than any level listed
	TCBRevoked     Code = "tcb.revoked"     // platform's or module's level is revoked

	ModuleUnknown     Code = "module.unknown"     // TDX module's version has no identity
	ModuleMRSigner    Code = "module.mrsigner"    // TDX module is not signed by the listed signer
	ModuleAttributes  Code = "module.attributes"  // TDX module's attributes differ from the listed ones
	ModuleUnsupported Code = "module.unsupported" // TDX module older than any level listed
)

// What the measured software itself may be.
const (
	Debug         Code = "policy.debug"           // debuggable enclave, trust domain or guest
	ReservedBits  Code = "policy.reserved-bits"   // reserved attribute or policy bits are set
	NotInit       Code = "policy.not-initialised" // SGX enclave's INIT attribute is not set
	SeptVE        Code = "policy.sept-ve"         // TDX: SEPT_VE_DISABLE is not set
	ProtectionKey Code = "policy.pks"             // TDX: supervisor protection keys are on
	KeyLocker     Code = "policy.kl"              // TDX: key locker is on
	Migratable    Code = "policy.migratable"      // the guest may be migrated off the machine
)

// AMD reports.
const (
	ReportMalformed    Code = "report.malformed"     // truncated, over long, or inconsistent bytes
	ReportVersion      Code = "report.version"       // report version not supported
	ReportNotCanonical Code = "report.not-canonical" // the signature is not in its one canonical form
	ReportSigner       Code = "report.signer"        // report not signed by a VCEK
	ReportMasked       Code = "report.masked"        // chip identity is masked: no machine identity
	ReportSignature    Code = "report.signature"     // the VCEK did not sign this report
	ReportTCB          Code = "report.tcb"           // TCB versions contradict each other
	ReportVMPL         Code = "report.vmpl"          // not requested by the most privileged level of the guest

	VCEKChain     Code = "vcek.chain"     // chain is unlinked, wrongly signed or of wrong roles
	VCEKExpired   Code = "vcek.expired"   // a certificate of the chain is not valid at this time
	VCEKExtension Code = "vcek.extension" // an AMD extension is missing or malformed
	VCEKProduct   Code = "vcek.product"   // product differs from the chain's
	VCEKTCB       Code = "vcek.tcb"       // VCEK was derived for another TCB than the report claims
	VCEKChip      Code = "vcek.chip"      // VCEK belongs to another chip than the report names
	ASKRevoked    Code = "ask.revoked"    // the ASK is on the ARK's CRL
)

// Error is a refusal: its code, what was refused, and the cause if there is
// one.
type Error struct {
	Code   Code
	Detail string
	Err    error
}

// New returns a refusal.
func New(code Code, detail string) error { return &Error{Code: code, Detail: detail} }

// Wrap returns a refusal with a cause.
func Wrap(code Code, detail string, err error) error {
	return &Error{Code: code, Detail: detail, Err: err}
}

// Error says the code, then what happened to what.
func (e *Error) Error() string {
	s := e.Code.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is this refusal's Code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// CodeOf returns the outermost Code in err's chain, or "" when it has none.
func CodeOf(err error) Code {
	for err != nil {
		switch e := err.(type) {
		case *Error:
			return e.Code
		case Code:
			return e
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return ""
		}
		err = u.Unwrap()
	}
	return ""
}
