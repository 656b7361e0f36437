package pcs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/snp"
)

// The vendors' own endpoints.
const (
	Intel        = "https://api.trustedservices.intel.com"
	IntelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	AMD          = "https://kdsintf.amd.com"
)

// Options say where to ask and what to accept.
type Options struct {
	// Intel is the base URL of Intel's service or of a PCCS; Intel's own without it.
	Intel string
	// AMD is the base URL of AMD's service; AMD's own without it.
	AMD string
	// Roots are the network's. What does not verify under them is refused.
	Roots attest.Roots
	// Now is the time at which answers must verify; time.Now without it.
	Now func() time.Time
}

// A Client asks the vendors' services. It is safe for concurrent use.
type Client struct {
	intel, rootCRL, amd string
	roots               attest.Roots
	now                 func() time.Time
	http                *http.Client
}

// New returns a client. It asks nothing yet.
func New(o Options) (*Client, error) {
	c := &Client{roots: o.Roots, now: o.Now, http: newHTTP()}
	if c.now == nil {
		c.now = time.Now
	}
	var err error
	if c.intel, err = base(o.Intel, Intel); err != nil {
		return nil, err
	}
	if c.amd, err = base(o.AMD, AMD); err != nil {
		return nil, err
	}
	c.rootCRL = c.intel + "/sgx/certification/v4/rootcacrl"
	if c.intel == Intel {
		c.rootCRL = IntelRootCRL
	}
	return c, nil
}

// base checks a base URL.
func base(given, otherwise string) (string, error) {
	if given == "" {
		return otherwise, nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", &Error{Code: CodeEndpoint, What: given, Err: errors.New("it is not a base URL like https://pccs.example:8081")}
	}
	return strings.TrimRight(given, "/"), nil
}

// Collateral fetches the collateral of a key as attest names them,
// "tdx/b0c06f000000/platform", "sgx/…/processor", "snp/Milan", and verifies it.
func (c *Client) Collateral(ctx context.Context, key string) (*attest.Collateral, *attest.CollateralInfo, error) {
	return c.collateral(ctx, key, standard)
}

// Early is Collateral with the newest TCB recovery that Intel has published, also
// while it is not yet enforced: a platform that it refuses will be refused soon. AMD
// has no such thing; the answer is Collateral's.
func (c *Client) Early(ctx context.Context, key string) (*attest.Collateral, *attest.CollateralInfo, error) {
	return c.collateral(ctx, key, url.Values{"update": {"early"}})
}

// Of is Collateral of one TCB recovery of Intel's, by its evaluation number, which Intel
// renews for some time after the next one counts; then the answer is [CodeStatus]. AMD has
// no such thing; the answer is Collateral's.
func (c *Client) Of(ctx context.Context, key string, number uint32) (*attest.Collateral, *attest.CollateralInfo, error) {
	out, info, err := c.collateral(ctx, key, url.Values{"tcbEvaluationDataNumber": {strconv.FormatUint(uint64(number), 10)}})
	if err == nil && info.DCAP != nil && (info.DCAP.Evaluation != number || info.DCAP.QEEvaluation != number) {
		err = fmt.Errorf("evaluation numbers %d and %d, asked for %d", info.DCAP.Evaluation, info.DCAP.QEEvaluation, number)
		return nil, nil, &Error{Code: CodeRefused, What: "collateral of " + key, Err: err}
	}
	return out, info, err
}

// standard asks for the TCB recovery that counts.
var standard = url.Values{}

// collateral fetches and verifies; edition says of which TCB recovery, in Intel's terms.
func (c *Client) collateral(ctx context.Context, key string, edition url.Values) (*attest.Collateral, *attest.CollateralInfo, error) {
	out, err := c.fetch(ctx, key, edition)
	if err != nil {
		return nil, nil, err
	}
	info, err := attest.VerifyCollateral(out, c.roots, c.now())
	if err == nil && info.Key != key {
		err = fmt.Errorf("it is about %s", info.Key)
	}
	if err != nil {
		return nil, nil, &Error{Code: CodeRefused, What: "collateral of " + key, Err: err}
	}
	return out, info, nil
}

func (c *Client) fetch(ctx context.Context, key string, edition url.Values) (*attest.Collateral, error) {
	parts := strings.Split(key, "/")
	tee, err := attest.ParseTEE(parts[0])
	switch {
	case err != nil:
	case tee == attest.SNP && len(parts) == 2:
		s, err := c.amdCollateral(ctx, snp.Product(parts[1]))
		return &attest.Collateral{TEE: tee, SNP: s}, err
	case tee != attest.SNP && len(parts) == 3:
		ca := dcap.CA(parts[2])
		if b, err := hex.DecodeString(parts[1]); err == nil && len(b) == 6 && (ca == dcap.PlatformCA || ca == dcap.ProcessorCA) {
			d, err := c.intelCollateral(ctx, tee, parts[1], ca, edition)
			return &attest.Collateral{TEE: tee, DCAP: d}, err
		}
	}
	return nil, &Error{Code: CodeKey, What: key, Err: errors.New("keys look like tdx/b0c06f000000/platform and snp/Milan")}
}

// Complete fills in what hardware leaves out, the collateral and for SNP the VCEK, and
// verifies the whole: evidence that it returns was accepted.
func (c *Client) Complete(ctx context.Context, ev attest.Evidence) (attest.Evidence, *attest.Verdict, error) {
	fail := func(err error) (attest.Evidence, *attest.Verdict, error) { return attest.Evidence{}, nil, err }
	if ev.TEE == attest.SNP && len(ev.Certificate) == 0 {
		return c.completeSNP(ctx, ev)
	}
	key, err := ev.CollateralKey()
	if err != nil {
		return fail(&Error{Code: CodeRefused, What: "evidence", Err: err})
	}
	if ev.Collateral, _, err = c.Collateral(ctx, key); err != nil {
		return fail(err)
	}
	v, err := attest.Verify(ev, c.roots, c.now())
	if err != nil {
		return fail(&Error{Code: CodeRefused, What: "evidence", Err: err})
	}
	return ev, v, nil
}

// Error codes.
const (
	CodeEndpoint    Code = "pcs.endpoint"    // the configured URL is not one
	CodeKey         Code = "pcs.key"         // no such kind of collateral
	CodeUnreachable Code = "pcs.unreachable" // no answer
	CodeStatus      Code = "pcs.status"      // an HTTP status other than 200
	CodeTooLarge    Code = "pcs.too-large"   // an answer beyond its bound
	CodeMalformed   Code = "pcs.malformed"   // an answer of another form
	CodeRefused     Code = "pcs.refused"     // attest does not accept it
)

// Code is one class of failure; test with errors.Is.
type Code string

// Error gives the code as text.
func (c Code) Error() string { return string(c) }

// Error says which request failed and why.
type Error struct {
	Code Code
	What string // the URL, or what was asked for
	Err  error
}

// Error gives the code, what was asked for and the cause as one line.
func (e *Error) Error() string { return string(e.Code) + ": " + e.What + ": " + e.Err.Error() }

// Unwrap gives code and cause, so that errors.Is and errors.As find both.
func (e *Error) Unwrap() []error { return []error{e.Code, e.Err} }
