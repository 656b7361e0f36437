package ratls_test

import (
	"errors"
	"net/http"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/crypto/identity"
)

// An HTTP client whose connections only one worker's enclave can end. Worker and
// measurement come from the chain's proven state; package client does all of it.
func Example() {
	var worker identity.PublicKey
	var measurement [32]byte
	v := &ratls.Verifier{Chain: "phala-1", Worker: worker, Roots: attest.ProductionRoots(), Now: time.Now, Admit: func(v *attest.Verdict) error {
		if v.Measurement != measurement {
			return errors.New("other software than the chain admitted")
		}
		return nil
	}}
	_ = &http.Client{Transport: &http.Transport{TLSClientConfig: v.Config()}}
}
