package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/crypto/address"
)

// asPruntime makes this test's binary run as pruntime.
const asPruntime = "PHALA_TEST_AS_PRUNTIME"

func TestMain(m *testing.M) {
	if os.Getenv(asPruntime) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// refused runs the program with flags that are in order but for its TEE, which is nowhere,
// and others after them. It says what it wrote.
func refused(t *testing.T, data string, args ...string) string {
	t.Helper()
	operator, err := address.Bech32(address.HRP, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append([]string{"--data", data, "--chain", "c-1", "--trust-root", "1:" + strings.Repeat("11", 32), "--operator", operator,
		"--tee", "simulator:unix:" + filepath.Join(t.TempDir(), "nobody")}, args...)...)
	cmd.Env = append(os.Environ(), asPruntime+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, not with status 1; it said %s", err, out)
	}
	return string(out)
}

// TestOneInAFolder: a second pruntime does not start in the folder of one that runs.
func TestOneInAFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	first, err := lockFolder(data)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if out := refused(t, data); !strings.Contains(out, errInUse.Error()) {
		t.Errorf("a second one says %q", out)
	}
	if out := refused(t, filepath.Join(t.TempDir(), "other")); !strings.Contains(out, "no TEE interface") {
		t.Errorf("one in another folder says %q", out)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if out := refused(t, data); !strings.Contains(out, "no TEE interface") {
		t.Errorf("one that follows says %q", out)
	}
}

// TestDurations: settings under which nothing can work, and which an identity would keep for
// ever, are refused before there is one.
func TestDurations(t *testing.T) {
	for _, arg := range []string{"--lease=0s", "--lease=-5m", "--trusting-period=0s", "--session-interval=-1s", "--checkpoint-interval=0s", "--max-clock-drift=-1s"} {
		name, _, _ := strings.Cut(arg, "=")
		if out := refused(t, t.TempDir(), arg); !strings.Contains(out, "pruntime: "+name+" ") {
			t.Errorf("%s: %q", arg, out)
		}
	}
	if out := refused(t, t.TempDir(), "--max-clock-drift=0s"); !strings.Contains(out, "no TEE interface") {
		t.Errorf("no drift at all: %q", out)
	}
}

// TestReleaseTo: a worker that is told to release keys says which flag is wrong.
func TestReleaseTo(t *testing.T) {
	digest := "--release-to=" + strings.Repeat("22", 32)
	if out := refused(t, t.TempDir(), digest); !strings.Contains(out, "--release-to is for gatekeepers") {
		t.Errorf("a worker: %q", out)
	}
	if out := refused(t, t.TempDir(), digest, "--role=gatekeeper"); !strings.Contains(out, "no TEE interface") {
		t.Errorf("a gatekeeper: %q", out)
	}
}
