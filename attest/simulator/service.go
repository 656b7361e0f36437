package simulator

import (
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/phala-go/phala/attest"
)

// Service answers as the vendors' services do, in their formats: Intel's provisioning
// certification service (interface version 4, and a PCCS' root list) and AMD's key
// distribution service, for a simulated network. Package pcs is its client.
type Service struct {
	Network *Network
	// Machines are those whose VCEKs it knows.
	Machines []*Machine
	// Publish gives what the vendor publishes for a class.
	Publish func(tee attest.TEE, of Edition) (*attest.Collateral, error)
}

// An Edition says of which TCB recovery of Intel's collateral is asked for: of the one that
// counts, if it is zero.
type Edition struct {
	Early  bool   // the newest, whether it counts yet or not
	Number uint32 // the one with this evaluation number; 0: not asked for by number
}

// Handler serves both interfaces.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	intel := func(path string, answer func(w http.ResponseWriter, r *http.Request, c *attest.Collateral)) {
		for _, tee := range []attest.TEE{attest.SGX, attest.TDX} {
			mux.HandleFunc("GET /"+tee.String()+"/certification/v4"+path, func(w http.ResponseWriter, r *http.Request) {
				s.publish(w, tee, r, func(c *attest.Collateral) { answer(w, r, c) })
			})
		}
	}
	intel("/tcb", func(w http.ResponseWriter, r *http.Request, c *attest.Collateral) {
		if !strings.EqualFold(r.URL.Query().Get("fmspc"), hex.EncodeToString(FMSPC[:])) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("TCB-Info-Issuer-Chain", chain(c.DCAP.TCBInfoSigner, s.Network.Root.Cert.Raw))
		fmt.Fprintf(w, `{"tcbInfo":%s,"signature":"%x"}`, c.DCAP.TCBInfo, c.DCAP.TCBInfoSignature)
	})
	intel("/qe/identity", func(w http.ResponseWriter, _ *http.Request, c *attest.Collateral) {
		w.Header().Set("SGX-Enclave-Identity-Issuer-Chain", chain(c.DCAP.QEIdentitySigner, s.Network.Root.Cert.Raw))
		fmt.Fprintf(w, `{"enclaveIdentity":%s,"signature":"%x"}`, c.DCAP.QEIdentity, c.DCAP.QEIdentitySignature)
	})
	intel("/pckcrl", func(w http.ResponseWriter, r *http.Request, c *attest.Collateral) {
		if r.URL.Query().Get("ca") != "platform" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("SGX-PCK-CRL-Issuer-Chain", chain(c.DCAP.PCKCA, s.Network.Root.Cert.Raw))
		w.Write(c.DCAP.PCKCRL)
	})
	intel("/rootcacrl", func(w http.ResponseWriter, _ *http.Request, c *attest.Collateral) {
		fmt.Fprintf(w, "%x", c.DCAP.RootCRL)
	})
	amd := "/vcek/v1/" + string(s.Network.Product)
	if s.Network.ARK.Cert == nil {
		return mux
	}
	mux.HandleFunc("GET "+amd+"/cert_chain", func(w http.ResponseWriter, r *http.Request) {
		s.publish(w, attest.SNP, r, func(c *attest.Collateral) { w.Write(pemChain(c.SNP.ASK, s.Network.ARK.Cert.Raw)) })
	})
	mux.HandleFunc("GET "+amd+"/crl", func(w http.ResponseWriter, r *http.Request) {
		s.publish(w, attest.SNP, r, func(c *attest.Collateral) { w.Write(c.SNP.CRL) })
	})
	mux.HandleFunc("GET "+amd+"/{chip}", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		want := fmt.Sprint(snpTCB.Bootloader, snpTCB.TEE, snpTCB.SNP, snpTCB.Microcode)
		for _, m := range s.Machines {
			if r.PathValue("chip") == hex.EncodeToString(m.ChipID[:]) && q.Get("blSPL")+" "+q.Get("teeSPL")+" "+q.Get("snpSPL")+" "+q.Get("ucodeSPL") == want {
				w.Write(m.VCEK.Cert.Raw)
				return
			}
		}
		http.NotFound(w, r)
	})
	return mux
}

func (s *Service) publish(w http.ResponseWriter, tee attest.TEE, r *http.Request, answer func(*attest.Collateral)) {
	q := r.URL.Query()
	of := Edition{Early: q.Get("update") == "early"}
	if text := q.Get("tcbEvaluationDataNumber"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 0 || of.Early {
			http.Error(w, "tcbEvaluationDataNumber", http.StatusBadRequest)
			return
		}
		of.Number = uint32(n)
	}
	c, err := s.Publish(tee, of)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if n, err := c.Evaluation(); err != nil || of.Number != 0 && n != of.Number {
		http.Error(w, "not published any more", http.StatusGone)
		return
	}
	answer(c)
}

func pemChain(certificates ...[]byte) []byte {
	var out []byte
	for _, der := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// chain is a chain as Intel's headers carry it.
func chain(certificates ...[]byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(pemChain(certificates...))), "+", "%20")
}
