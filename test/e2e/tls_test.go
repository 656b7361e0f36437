package e2e

import (
	"crypto/tls"
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
	// A contract, its worker, the gatekeeper and the chain alone: each link holds, and says that
	// all this is simulated. Another build breaks the proof, and the exit status tells.
	worker := targets[0].Worker.String()
	gatekeeper := status(t.Context(), t, n.Private("gatekeeper")).Worker.String()
	other := strings.Repeat("5a", 32)
	for _, c := range []struct {
		args   []string
		status int
		says   []string
	}{
		{[]string{"hello"}, 0, []string{"✓ seat 1 session", "SIMULATED", "all links hold"}},
		{[]string{worker}, 0, []string{"✓ software", "✓ session", "SIMULATED", "all links hold"}},
		{[]string{gatekeeper}, 0, []string{"gatekeeper " + gatekeeper[:16], "✓ software", "SIMULATED", "all links hold"}},
		{nil, 0, []string{"✓ chain", "✓ newest trust root"}},
		{[]string{"hello", "--build", other}, 1, []string{"✓ seat 1 software", "✗ seat 1 build", "BROKEN"}},
		{[]string{worker, "--build", other}, 1, []string{"✓ software", "✗ build", "SIMULATED", "BROKEN"}},
		{[]string{other}, 1, []string{"✓ chain", "✗ contract", "BROKEN"}},
	} {
		args := append(append([]string{"verify"}, c.args...), "--devnet", opt.Dir)
		cmd := exec.CommandContext(t.Context(), filepath.Join(opt.Bin, "phala"), args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != c.status {
			t.Errorf("phala %v: %v\n%s", args, err, out)
		}
		for _, text := range c.says {
			if !strings.Contains(string(out), text) {
				t.Errorf("phala %v does not say %q:\n%s", args, text, out)
			}
		}
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
	for end := time.Now().Add(15 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
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
