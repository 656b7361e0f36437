package grandpatest

import (
	"os"
	"path/filepath"
	"testing"
)

// Shared returns a file of the shared substrate data: from $PHALA_SHARED, or from the folder "shared" beside the
// repository. The test is skipped, saying what was looked for, where it is missing.
func Shared(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(SharedPath(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// SharedPath returns the path of such a file.
func SharedPath(t testing.TB, name string) string {
	t.Helper()
	rel := filepath.Join("data", "substrate", name)
	if dir := os.Getenv("PHALA_SHARED"); dir != "" {
		path := filepath.Join(dir, rel)
		if _, err := os.Stat(path); err != nil {
			t.Skipf("real chain data missing: no %s under $PHALA_SHARED", rel)
		}
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		path := filepath.Join(dir, "..", "shared", rel)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Skipf("real chain data missing: no ../shared/%s beside the repository and $PHALA_SHARED is not set", rel)
		}
		dir = parent
	}
}
