package producer

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/phala-go/phala/attest"
)

// simulatorClient talks to a tee-simulator. It is a client only: what issues
// simulated evidence is another program, and no part of this one.
type simulatorClient struct {
	http *jsonClient
	tee  attest.TEE
}

func openSimulator(ctx context.Context, address string) (Producer, error) {
	var c *jsonClient
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		c = unixClient(path)
	} else {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("%w: simulator address %q is neither unix:PATH nor a loopback HOST:PORT", ErrNoTEE, address)
		}
		c = &jsonClient{client: &http.Client{Transport: &http.Transport{}}, base: "http://" + address}
	}
	var info struct {
		Class     string `json:"class"`
		Simulated bool   `json:"simulated"`
	}
	if err := c.call(ctx, http.MethodGet, "/info", nil, &info); err != nil {
		return nil, fmt.Errorf("%w: tee-simulator at %s: %w", ErrNoTEE, address, err)
	}
	tee, err := attest.ParseTEE(info.Class)
	if err != nil || !info.Simulated {
		return nil, fmt.Errorf("%w: what answers at %s is no tee-simulator", ErrAnswer, address)
	}
	return &simulatorClient{c, tee}, nil
}

func (s *simulatorClient) Name() string    { return "simulator" }
func (s *simulatorClient) TEE() attest.TEE { return s.tee }
func (s *simulatorClient) Simulated() bool { return true }

func (s *simulatorClient) Evidence(ctx context.Context, reportData [64]byte) (attest.Evidence, error) {
	var out struct {
		Evidence string `json:"evidence"`
	}
	in := map[string]string{"report_data": hex.EncodeToString(reportData[:])}
	if err := s.http.call(ctx, http.MethodPost, "/evidence", in, &out); err != nil {
		return attest.Evidence{}, fmt.Errorf("tee-simulator: %w", err)
	}
	b, err := base64.StdEncoding.DecodeString(out.Evidence)
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	e, err := attest.Parse(b)
	if err == nil && e.TEE != s.tee {
		err = fmt.Errorf("evidence of %s instead of %s", e.TEE, s.tee)
	}
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return e, checkReportData(e, reportData)
}

func (s *simulatorClient) SealingKey(ctx context.Context, label []byte) (key [32]byte, err error) {
	var out struct {
		Key string `json:"key"`
	}
	in := map[string]string{"label": hex.EncodeToString(label)}
	if err := s.http.call(ctx, http.MethodPost, "/sealing-key", in, &out); err != nil {
		return key, fmt.Errorf("tee-simulator: %w", err)
	}
	b, err := hex.DecodeString(out.Key)
	if err != nil || len(b) != len(key) {
		return key, fmt.Errorf("%w: sealing key is not 32 bytes", ErrAnswer)
	}
	copy(key[:], b)
	return key, nil
}
