package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
)

// TestAttestedTLS: workers that serve by TLS with evidence in their certificates. Commands
// and queries work, the tools find their way, and nothing else is spoken on the port.
func TestAttestedTLS(t *testing.T) {
	n, opt := startWith(t, devnet.Options{Workers: 1, TLS: true})
	hello := n.State().Contracts["hello"]
	if _, err := n.Client.Call(t.Context(), hello, "SetGreeting", "inside", client.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	targets, err := n.Client.Targets(t.Context(), hello)
	if err != nil || !strings.HasPrefix(targets[0].Endpoint, "ratls://") {
		t.Fatalf("%+v, %v", targets, err)
	}
	a, err := n.Client.Query(t.Context(), hello, "GetGreeting", nil, client.QueryOptions{})
	if err != nil || string(a.Return) != `"inside"` {
		t.Fatalf("%v, %v", a, err)
	}
	for _, args := range [][]string{{"verify", "hello", "--build", filepath.Join(opt.Bin, "pruntime")}, {"status"}} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(opt.Bin, "phala"), append(args, "--devnet", opt.Dir)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ratls://") {
			t.Errorf("phala %v: %v\n%s", args, err, out)
		}
	}
	// Another build breaks the proof, and the exit status tells.
	other := strings.Repeat("5a", 32)
	out, err := exec.CommandContext(t.Context(), filepath.Join(opt.Bin, "phala"), "verify", "hello", "--build", other, "--devnet", opt.Dir).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "✗ seat 1 build") || !strings.Contains(string(out), "BROKEN") || strings.Contains(string(out), "all links hold") {
		t.Errorf("phala verify with another build: %v\n%s", err, out)
	}
	address := strings.TrimPrefix(targets[0].Endpoint, "ratls://")
	plain := &http.Client{Timeout: 5 * time.Second}
	if res, err := plain.Get("http://" + address + "/v1/info"); err == nil {
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("the port speaks plain HTTP")
		}
	}
	if res, err := plain.Get("https://" + address + "/v1/info"); err == nil {
		res.Body.Close()
		t.Error("an ordinary client takes the certificate")
	}
	// The same key for every connection of a day, and none after a restart.
	serial := func() string {
		t.Helper()
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return fmt.Sprintf("%x", c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	}
	first := serial()
	if serial() != first {
		t.Error("another key for the second connection")
	}
	if err := n.Restart("worker-1", 0); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err = n.Client.Query(t.Context(), hello, "GetGreeting", nil, client.QueryOptions{}); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if serial() == first {
		t.Error("the key survived the restart")
	}
}
