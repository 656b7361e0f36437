package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// An endpoint that begins with schemeRATLS is reached by TLS whose certificate carries
// evidence (package ratls). The worker's registration says so, and the chain's state
// proves it: nobody on the way can have a client do without.
const schemeRATLS = "ratls://"

// keyRoots is where store registry keeps a simulated network's attestation roots.
var keyRoots = []byte("roots")

// Roots reads the network's attestation roots. A chain without any is a real one, of the
// vendors' roots: a node that hides a simulated network's has its evidence refused.
func (c *Client) Roots(ctx context.Context) (attest.Roots, error) {
	r, err := read(ctx, c, proto.StoreRegistry, keyRoots, func(b []byte) (*attest.Roots, error) {
		r, err := attest.SimulatedRoots(b)
		return &r, err
	})
	if errors.Is(err, rpc.ErrNotFound) {
		return attest.ProductionRoots(), nil
	}
	if err != nil {
		return attest.Roots{}, err
	}
	return *r, nil
}

// Collateral reads what the chain holds of a vendor's publications under a key
// (attest.Evidence.CollateralKey).
func (c *Client) Collateral(ctx context.Context, key string) (*attest.Collateral, error) {
	return read(ctx, c, proto.StoreRegistry, proto.KeyCollateral(key), attest.ParseCollateral)
}

// Certificate asks a worker for its certificate (package ratls), in DER. Nothing about it
// is checked: that is Verifier's.
func (c *Client) Certificate(ctx context.Context, w *proto.WorkerInfo) ([]byte, error) {
	var failed error
	for _, e := range w.Endpoints {
		der, err := certificate(ctx, e)
		if err == nil {
			return der, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

func certificate(ctx context.Context, endpoint string) ([]byte, error) {
	if host, ok := strings.CutPrefix(endpoint, schemeRATLS); ok {
		d := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}
		conn, err := d.DialContext(ctx, "tcp", host)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		peers := conn.(*tls.Conn).ConnectionState().PeerCertificates
		if len(peers) != 1 {
			return nil, fmt.Errorf("%w: a chain of %d", ratls.ErrCertificate, len(peers))
		}
		return peers[0].Raw, nil
	}
	return request(ctx, queryClient, http.MethodGet, endpoint+"/v1/certificate", nil)
}

// Verifier decides whether a TLS certificate is a worker's, as the chain has admitted it.
func (c *Client) Verifier(ctx context.Context, w *proto.WorkerInfo) (*ratls.Verifier, error) {
	roots, err := c.Roots(ctx)
	if err != nil {
		return nil, err
	}
	admitted, err := c.Attestation(ctx, w.Worker)
	if err != nil {
		return nil, err
	}
	collateral := func(key string) (*attest.Collateral, error) { return c.Collateral(ctx, key) }
	return &ratls.Verifier{Chain: c.net.Chain, Worker: identity.PublicKey(w.Worker), Roots: roots, Now: time.Now, Collateral: collateral, Admit: func(v *attest.Verdict) error {
		switch {
		case proto.Hash(v.Measurement) != w.Measurement:
			return fmt.Errorf("its software measures %x, the chain admitted %s", v.Measurement, w.Measurement)
		case v.MachineID != admitted.Machine:
			// Whoever forges quotes on a machine of his own has no other's.
			return fmt.Errorf("it is on machine %x…, the chain admitted %x…", v.MachineID[:8], admitted.Machine[:8])
		case v.Simulated != w.Simulated:
			return errors.New("the chain has it as another class of TEE")
		}
		return nil
	}}, nil
}

// connections are the HTTP clients of attested endpoints: a connection belongs to one
// worker as it was when it was admitted, and to no other.
type connections struct {
	mu sync.Mutex
	by map[string]*http.Client
}

// maxConnections bounds the clients that are kept.
const maxConnections = 256

// Reach returns how to reach a target and the base of its URLs. An endpoint of scheme
// ratls is reached by connections that only the worker's enclave can end.
func (c *Client) Reach(ctx context.Context, t Target) (*http.Client, string, error) {
	host, attested := strings.CutPrefix(t.Endpoint, schemeRATLS)
	if !attested {
		return queryClient, t.Endpoint, nil
	}
	key := fmt.Sprintf("%s %s %d", t.Worker, host, t.Registered)
	c.connections.mu.Lock()
	known := c.connections.by[key]
	c.connections.mu.Unlock()
	if known != nil {
		return known, "https://" + host, nil
	}
	w, err := c.Worker(ctx, t.Worker)
	if err != nil {
		return nil, "", err
	}
	v, err := c.Verifier(ctx, w)
	if err != nil {
		return nil, "", err
	}
	h := &http.Client{Timeout: queryClient.Timeout, Transport: &http.Transport{TLSClientConfig: v.Config(), MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}}
	c.connections.mu.Lock()
	defer c.connections.mu.Unlock()
	if c.connections.by == nil || len(c.connections.by) >= maxConnections {
		for _, old := range c.connections.by {
			old.CloseIdleConnections()
		}
		c.connections.by = map[string]*http.Client{}
	}
	c.connections.by[key] = h
	return h, "https://" + host, nil
}
