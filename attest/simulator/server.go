package simulator

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/phala-go/phala/attest"
)

// MaxLabel bounds the label of a sealing key, in bytes.
const MaxLabel = 1024

// maxBody bounds a request.
const maxBody = 16 << 10

// Server answers what a TEE would, for one enclave of one class and
// measurement on one machine.
type Server struct {
	Store       *Store
	Machine     *Machine
	MachineName string
	TEE         attest.TEE
	Measurement []byte
	Now         func() time.Time

	mu sync.Mutex // guards Store
}

// Info is the answer to GET /info.
type Info struct {
	Warning string `json:"warning"`
	Class   string `json:"class"`
	// Measurement is what the server was given; Digest is what an allow-list
	// names.
	Measurement string `json:"measurement"`
	Digest      string `json:"measurement_digest"`
	Machine     string `json:"machine"`
	MachineID   string `json:"machine_id"`
	RootsDigest string `json:"roots_digest"`
	Simulated   bool   `json:"simulated"`
}

// Handler serves the HTTP interface. Below /vendor/ it answers as the vendors' services
// do, see [Service].
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, r *http.Request) {
		info, err := s.Info()
		reply(w, info, err)
	})
	mux.HandleFunc("POST /evidence", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			ReportData string `json:"report_data"`
		}
		if !request(w, r, &in) {
			return
		}
		var data [64]byte
		if b, err := hex.DecodeString(in.ReportData); err != nil || copy(data[:], b) != len(data) || len(b) != len(data) {
			refuse(w, http.StatusBadRequest, "report_data is not 64 bytes in hexadecimal")
			return
		}
		e, err := s.Evidence(data)
		if err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, map[string]string{"evidence": base64.StdEncoding.EncodeToString(e.Marshal())}, nil)
	})
	mux.HandleFunc("POST /sealing-key", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Label string `json:"label"`
		}
		if !request(w, r, &in) {
			return
		}
		label, err := hex.DecodeString(in.Label)
		if err != nil || len(label) > MaxLabel {
			refuse(w, http.StatusBadRequest, "label is not up to 1024 bytes in hexadecimal")
			return
		}
		key, err := s.Machine.SealingKey(s.TEE, s.Measurement, label)
		reply(w, map[string]string{"key": hex.EncodeToString(key[:])}, err)
	})
	mux.HandleFunc("GET /collateral", func(w http.ResponseWriter, r *http.Request) {
		c, err := s.collateral()
		if err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, map[string]string{"collateral": base64.StdEncoding.EncodeToString(c.Marshal())}, nil)
	})
	vendor := &Service{Network: s.Store.Network, Machines: []*Machine{s.Machine}, Publish: func(tee attest.TEE, _ Edition) (*attest.Collateral, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.Store.Collateral(tee, s.Now())
	}}
	mux.Handle("/vendor/", http.StripPrefix("/vendor", vendor.Handler()))
	return mux
}

// Info describes the simulated enclave.
func (s *Server) Info() (Info, error) {
	digest, err := Measurement(s.TEE, s.Measurement)
	roots := s.Store.Roots.Digest()
	return Info{
		Warning: attest.SimulatedOrganization, Simulated: true, Class: s.TEE.String(),
		Measurement: hex.EncodeToString(s.Measurement), Digest: hex.EncodeToString(digest[:]),
		Machine: s.MachineName, MachineID: MachineIDOf(s.Machine, s.TEE),
		RootsDigest: hex.EncodeToString(roots[:]),
	}, err
}

func (s *Server) collateral() (*attest.Collateral, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store.Collateral(s.TEE, s.Now())
}

// Evidence issues evidence with the collateral published now.
func (s *Server) Evidence(reportData [64]byte) (attest.Evidence, error) {
	e, err := s.Machine.Evidence(s.TEE, s.Measurement, reportData)
	if err != nil {
		return e, err
	}
	e.Collateral, err = s.collateral()
	return e, err
}

// request decodes a JSON body strictly; it answers and returns false when it
// cannot.
func request(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err = d.Decode(into); err == nil && d.More() {
			err = errors.New("text after the JSON value")
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "request: "+err.Error())
		return false
	}
	return true
}

func reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The client is gone when this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, what string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": what})
}
