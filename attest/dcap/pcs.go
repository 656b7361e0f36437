package dcap

import (
	"encoding/hex"
	"errors"

	"github.com/phala-go/phala/attest/fault"
)

// Responses are the answers of Intel's provisioning certification service (or
// of a caching proxy of it) from which a collateral is made. Issuer chains are
// the values of the response headers, URL-encoded or not.
type Responses struct {
	TCBInfo         []byte // body of GET …/tcb
	TCBInfoChain    string // TCB-Info-Issuer-Chain
	QEIdentity      []byte // body of GET …/qe/identity
	QEIdentityChain string // SGX-Enclave-Identity-Issuer-Chain
	PCKCRL          []byte // body of GET …/pckcrl?encoding=der
	PCKCRLChain     string // SGX-PCK-CRL-Issuer-Chain
	RootCRL         []byte // DER
}

// Collateral takes the signed parts out of the responses. It verifies nothing
// but their form: chains of exactly two certificates, the second of which is
// left out, since a verifier has its own root.
func (r *Responses) Collateral() (*Collateral, error) {
	c := &Collateral{PCKCRL: r.PCKCRL, RootCRL: r.RootCRL}
	var err error
	if c.TCBInfo, c.TCBInfoSignature, err = splitSigned(r.TCBInfo, "tcbInfo"); err != nil {
		return nil, fault.Wrap(fault.TCBInfoMalformed, "response", err)
	}
	if c.QEIdentity, c.QEIdentitySignature, err = splitSigned(r.QEIdentity, "enclaveIdentity"); err != nil {
		return nil, fault.Wrap(fault.QEMalformed, "response", err)
	}
	for _, p := range []struct {
		header string
		code   fault.Code
		dst    *[]byte
	}{
		{r.TCBInfoChain, fault.TCBInfoChain, &c.TCBInfoSigner},
		{r.QEIdentityChain, fault.QEChain, &c.QEIdentitySigner},
		{r.PCKCRLChain, fault.PCKChain, &c.PCKCA},
	} {
		chain, err := decodeChain(percentDecode(p.header), 2, p.code)
		if err != nil {
			return nil, err
		}
		*p.dst = chain[0]
	}
	return c, nil
}

// splitSigned takes {"<name>": document, "signature": hex} apart; the document
// stays the text that was signed.
func splitSigned(body []byte, name string) (document, signature []byte, err error) {
	v, err := parseJSON(body)
	if err != nil {
		return nil, nil, err
	}
	o := v.object("response")
	signed := o.get(name, jsonObject, false)
	sig := o.str("signature")
	if err := o.done(); err != nil {
		return nil, nil, err
	}
	signature, err = hex.DecodeString(sig)
	if err != nil || len(signature) != signatureSize {
		return nil, nil, errors.New("signature is not 64 bytes in hexadecimal")
	}
	return signed.raw, signature, nil
}

// percentDecode undoes URL encoding as far as it is one. A plus sign stays: it
// belongs to base64, and the service encodes spaces as %20.
func percentDecode(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				out = append(out, b[0])
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}
