package pcs

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/snp"
)

// Bounds of one request. Intel's largest answer has some 20 KB, AMD's some 10 KB.
const (
	maxBody    = attest.MaxCollateral
	maxHeaders = 64 << 10
	timeout    = 30 * time.Second
)

func newHTTP() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeaders
	return &http.Client{
		Transport:     t,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get fetches one answer.
func (c *Client) get(ctx context.Context, address string) ([]byte, http.Header, error) {
	fail := func(code Code, err error) ([]byte, http.Header, error) {
		return nil, nil, &Error{Code: code, What: address, Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fail(CodeEndpoint, err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is in the error already
		}
		return fail(CodeUnreachable, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fail(CodeStatus, errors.New(res.Status))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case err != nil:
		return fail(CodeUnreachable, err)
	case len(body) > maxBody:
		return fail(CodeTooLarge, fmt.Errorf("more than %d bytes", maxBody))
	}
	return body, res.Header, nil
}

// intelCollateral asks Intel's service. What it answers is taken apart by package dcap.
func (c *Client) intelCollateral(ctx context.Context, tee attest.TEE, fmspc string, ca dcap.CA, edition url.Values) (*dcap.Collateral, error) {
	var r dcap.Responses
	tcb, identity := maps.Clone(edition), edition
	tcb.Set("fmspc", strings.ToUpper(fmspc))
	class := "/" + tee.String() + "/certification/v4"
	for _, part := range []struct {
		address string
		query   url.Values
		header  string
		body    *[]byte
		chain   *string
	}{
		{c.intel + class + "/tcb", tcb, "TCB-Info-Issuer-Chain", &r.TCBInfo, &r.TCBInfoChain},
		{c.intel + class + "/qe/identity", identity, "SGX-Enclave-Identity-Issuer-Chain", &r.QEIdentity, &r.QEIdentityChain},
		{c.intel + "/sgx/certification/v4/pckcrl", url.Values{"ca": {string(ca)}, "encoding": {"der"}}, "SGX-PCK-CRL-Issuer-Chain", &r.PCKCRL, &r.PCKCRLChain},
		{c.rootCRL, nil, "", &r.RootCRL, nil},
	} {
		address := part.address
		if len(part.query) > 0 {
			address += "?" + part.query.Encode()
		}
		body, header, err := c.get(ctx, address)
		if err != nil {
			return nil, err
		}
		*part.body = body
		if part.chain != nil {
			*part.chain = header.Get(part.header)
		}
	}
	r.PCKCRL, r.RootCRL = unhex(r.PCKCRL), unhex(r.RootCRL)
	out, err := r.Collateral()
	if err != nil {
		return nil, &Error{Code: CodeMalformed, What: c.intel, Err: err}
	}
	return out, nil
}

// unhex undoes what a PCCS does to revocation lists, which Intel gives as they are.
func unhex(b []byte) []byte {
	if out, err := hex.DecodeString(string(bytes.TrimSpace(b))); err == nil {
		return out
	}
	return b
}

// certificates decodes PEM text of exactly two certificates.
func certificates(text []byte) ([][]byte, error) {
	var out [][]byte
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || len(out) == 2 {
			return nil, errors.New("not a chain of two PEM certificates")
		}
		out, text = append(out, block.Bytes), rest
	}
	if len(out) != 2 {
		return nil, fmt.Errorf("%d certificates, expected two", len(out))
	}
	return out, nil
}

func (c *Client) amdCollateral(ctx context.Context, p snp.Product) (*snp.Collateral, error) {
	address := c.amd + "/vcek/v1/" + url.PathEscape(string(p))
	body, _, err := c.get(ctx, address+"/cert_chain")
	if err != nil {
		return nil, err
	}
	chain, err := certificates(body)
	if err != nil {
		return nil, &Error{Code: CodeMalformed, What: address + "/cert_chain", Err: err}
	}
	crl, _, err := c.get(ctx, address+"/crl")
	if err != nil {
		return nil, err
	}
	return &snp.Collateral{ASK: chain[0], CRL: crl}, nil
}

// completeSNP fetches the VCEK too. Reports of version 2 do not say of which product
// they are; the service knows a chip under its own product alone.
func (c *Client) completeSNP(ctx context.Context, ev attest.Evidence) (attest.Evidence, *attest.Verdict, error) {
	fail := func(err error) (attest.Evidence, *attest.Verdict, error) { return attest.Evidence{}, nil, err }
	r, err := snp.ParseReport(ev.Report)
	if err != nil {
		return fail(&Error{Code: CodeRefused, What: "evidence", Err: err})
	}
	products := []snp.Product{snp.Milan, snp.Genoa}
	if p, ok := r.Product(); ok {
		products = []snp.Product{p}
	}
	for i, p := range products {
		ev.Certificate, _, err = c.get(ctx, c.amd+r.VCEKPath(p))
		if err == nil {
			return c.Complete(ctx, ev)
		}
		if i < len(products)-1 && !errors.Is(err, CodeStatus) {
			break
		}
	}
	return fail(err)
}
