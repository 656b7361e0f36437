package simulator

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/snp"
)

// FMSPC is the platform family of simulated Intel machines. No real one begins
// with DEADBEEF.
var FMSPC = [6]byte{0xde, 0xad, 0xbe, 0xef, 0x00, 0x01}

// Versions of the simulated platform's parts.
const (
	componentSVN = 2
	pceSVN       = 11
	qeISVSVN     = 8
	moduleMajor  = 1 // TDX module version
	moduleSVN    = 4
)

// qeMRSigner stands for the signer of the simulated quoting enclaves.
var qeMRSigner = sha256.Sum256([]byte("simulated quoting enclave signer"))

// Component is one entry of a TCB level.
type Component struct {
	SVN uint8 `json:"svn"`
}

// TCB is what a TCB level demands.
type TCB struct {
	SGX    *[16]Component `json:"sgxtcbcomponents,omitempty"`
	PCESVN *uint16        `json:"pcesvn,omitempty"`
	TDX    *[16]Component `json:"tdxtcbcomponents,omitempty"`
	ISVSVN *uint16        `json:"isvsvn,omitempty"`
}

// Level is a TCB level of a platform, module or quoting enclave.
type Level struct {
	TCB        TCB      `json:"tcb"`
	Date       string   `json:"tcbDate"`
	Status     string   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs,omitempty"`
}

// Module is a TDX module's identity.
type Module struct {
	ID             string  `json:"id,omitempty"`
	MRSigner       string  `json:"mrsigner"`
	Attributes     string  `json:"attributes"`
	AttributesMask string  `json:"attributesMask"`
	Levels         []Level `json:"tcbLevels,omitempty"`
}

// TCBInfo is the document of that name, version 3.
type TCBInfo struct {
	ID         string   `json:"id"`
	Version    int      `json:"version"`
	IssueDate  string   `json:"issueDate"`
	NextUpdate string   `json:"nextUpdate"`
	FMSPC      string   `json:"fmspc"`
	PCEID      string   `json:"pceId"`
	TCBType    int      `json:"tcbType"`
	Evaluation uint32   `json:"tcbEvaluationDataNumber"`
	Module     *Module  `json:"tdxModule,omitempty"`
	Modules    []Module `json:"tdxModuleIdentities,omitempty"`
	Levels     []Level  `json:"tcbLevels"`
}

// QEIdentity is a quoting enclave's identity, version 2.
type QEIdentity struct {
	ID             string  `json:"id"`
	Version        int     `json:"version"`
	IssueDate      string  `json:"issueDate"`
	NextUpdate     string  `json:"nextUpdate"`
	Evaluation     uint32  `json:"tcbEvaluationDataNumber"`
	MiscSelect     string  `json:"miscselect"`
	MiscMask       string  `json:"miscselectMask"`
	Attributes     string  `json:"attributes"`
	AttributesMask string  `json:"attributesMask"`
	MRSigner       string  `json:"mrsigner"`
	ProdID         uint16  `json:"isvprodid"`
	Levels         []Level `json:"tcbLevels"`
}

// Publication says what the vendor publishes now: everything a collateral is
// made of, before it is signed.
type Publication struct {
	TEE        attest.TEE
	TCBInfo    TCBInfo
	QEIdentity QEIdentity
	// TCBInfoText and QEIdentityText replace the documents' JSON when set.
	TCBInfoText, QEIdentityText string
	TCBSigner, QESigner         Authority
	CRLIssued, CRLNext          time.Time
	RevokedPCK                  []*big.Int // by the PCK authority
	RevokedByRoot               []*big.Int // by the root: PCK authority, TCB signer; for SNP by the ARK
}

// State is what an operator of a simulated network can change about it.
type State struct {
	Status     string   // TCB status of every machine, UpToDate by default
	Advisories []string // that the status names
	Evaluation uint32   // tcbEvaluationDataNumber, at least 1
	Revoked    []*big.Int
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// Publication returns what the vendor of a network in this state publishes.
func (n *Network) Publication(tee attest.TEE, now time.Time, s State) *Publication {
	issued, next := now.Add(-Backdate).Truncate(time.Second), now.Add(CollateralValidity).Truncate(time.Second)
	if s.Status == "" {
		s.Status = string(dcap.UpToDate)
	}
	s.Evaluation = max(s.Evaluation, 1)
	p := &Publication{TEE: tee, TCBSigner: n.TCBSigner, QESigner: n.TCBSigner, CRLIssued: issued, CRLNext: next, RevokedPCK: s.Revoked}
	date := stamp(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	svn := func(v uint16) *uint16 { return &v }
	var sgx, tdx, old [16]Component
	for i := range sgx {
		sgx[i].SVN = componentSVN
	}
	for i := 2; i < 16; i++ {
		tdx[i].SVN = componentSVN
	}
	p.TCBInfo = TCBInfo{
		ID: "SGX", Version: 3, IssueDate: stamp(issued), NextUpdate: stamp(next),
		FMSPC: strings.ToUpper(hex.EncodeToString(FMSPC[:])), PCEID: "0000", Evaluation: s.Evaluation,
		Levels: []Level{
			{TCB: TCB{SGX: &sgx, PCESVN: svn(pceSVN)}, Date: date, Status: s.Status, Advisories: s.Advisories},
			{TCB: TCB{SGX: &old, PCESVN: svn(1)}, Date: "2018-01-04T00:00:00Z", Status: string(dcap.OutOfDate), Advisories: []string{"SIMULATED-SA-00001"}},
		},
	}
	p.QEIdentity = QEIdentity{
		ID: "QE", Version: 2, IssueDate: stamp(issued), NextUpdate: stamp(next), Evaluation: s.Evaluation,
		MiscSelect: "00000000", MiscMask: "FFFFFFFF",
		Attributes: "11000000000000000000000000000000", AttributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
		MRSigner: strings.ToUpper(hex.EncodeToString(qeMRSigner[:])), ProdID: 1,
		Levels: []Level{
			{TCB: TCB{ISVSVN: svn(qeISVSVN)}, Date: date, Status: string(dcap.UpToDate)},
			{TCB: TCB{ISVSVN: svn(4)}, Date: "2018-01-04T00:00:00Z", Status: string(dcap.OutOfDate)},
			{TCB: TCB{ISVSVN: svn(2)}, Date: "2017-01-04T00:00:00Z", Status: string(dcap.Revoked)},
		},
	}
	if tee != attest.TDX {
		return p
	}
	zeros := func(n int) string { return strings.Repeat("00", n) }
	p.TCBInfo.ID, p.QEIdentity.ID, p.QEIdentity.ProdID = "TDX", "TD_QE", 2
	p.TCBInfo.Levels[0].TCB.TDX, p.TCBInfo.Levels[1].TCB.TDX = &tdx, &old
	p.TCBInfo.Module = &Module{MRSigner: zeros(48), Attributes: zeros(8), AttributesMask: strings.Repeat("FF", 8)}
	p.TCBInfo.Modules = []Module{{
		ID: dcap.ModuleID(moduleMajor), MRSigner: zeros(48), Attributes: zeros(8), AttributesMask: strings.Repeat("FF", 8),
		Levels: []Level{
			{TCB: TCB{ISVSVN: svn(moduleSVN)}, Date: date, Status: string(dcap.UpToDate)},
			{TCB: TCB{ISVSVN: svn(2)}, Date: "2018-01-04T00:00:00Z", Status: string(dcap.OutOfDate), Advisories: []string{"SIMULATED-SA-00002"}},
			{TCB: TCB{ISVSVN: svn(1)}, Date: "2017-01-04T00:00:00Z", Status: string(dcap.Revoked)},
		},
	}}
	return p
}

// Collateral signs what is published.
func (n *Network) Collateral(p *Publication) (*attest.Collateral, error) {
	if p.TEE == attest.SNP {
		if n.ARK.Cert == nil {
			return nil, errNoSNP
		}
		crl, err := n.ARK.CRL(p.CRLIssued, p.CRLNext, p.RevokedByRoot)
		if err != nil {
			return nil, err
		}
		return &attest.Collateral{TEE: attest.SNP, SNP: &snp.Collateral{ASK: n.ASK.Cert.Raw, CRL: crl}}, nil
	}
	c := &dcap.Collateral{
		TCBInfoSigner: p.TCBSigner.Cert.Raw, QEIdentitySigner: p.QESigner.Cert.Raw, PCKCA: n.PCKCA.Cert.Raw,
	}
	var err error
	if c.TCBInfo, c.TCBInfoSignature, err = signJSON(p.TCBSigner.Key, p.TCBInfo, p.TCBInfoText); err != nil {
		return nil, err
	}
	if c.QEIdentity, c.QEIdentitySignature, err = signJSON(p.QESigner.Key, p.QEIdentity, p.QEIdentityText); err != nil {
		return nil, err
	}
	if c.PCKCRL, err = n.PCKCA.CRL(p.CRLIssued, p.CRLNext, p.RevokedPCK); err != nil {
		return nil, err
	}
	if c.RootCRL, err = n.Root.CRL(p.CRLIssued, p.CRLNext, p.RevokedByRoot); err != nil {
		return nil, err
	}
	return &attest.Collateral{TEE: p.TEE, DCAP: c}, nil
}

func signJSON(key crypto.Signer, doc any, text string) (document, signature []byte, err error) {
	document = []byte(text)
	if text == "" {
		if document, err = json.Marshal(doc); err != nil {
			return nil, nil, fmt.Errorf("document: %w", err)
		}
	}
	h := sha256.Sum256(document)
	signature, err = signRaw(key, h[:])
	return document, signature, err
}
