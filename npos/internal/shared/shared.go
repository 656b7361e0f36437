// Package shared serves the tests of npos: data from outside the repository, and
// golden files.
package shared

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// File reads a file of the shared election data, which lie in data/elections of the
// folder $PHALA_SHARED or, without it, of a folder "shared" beside the repository
// (any folder above the test's). The test is skipped where the file is missing. A
// name ending in .gz is decompressed.
func File(t testing.TB, name string) []byte {
	t.Helper()
	path := filepath.Join("data", "elections", name)
	var roots []string
	if dir := os.Getenv("PHALA_SHARED"); dir != "" {
		roots = []string{dir}
	} else {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			roots = append(roots, filepath.Join(dir, "shared"))
		}
	}
	for _, root := range roots {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			continue
		}
		if strings.HasSuffix(name, ".gz") {
			data = gunzip(t, data)
		}
		return data
	}
	t.Skipf("no %s in %s; set PHALA_SHARED to the shared folder", path, strings.Join(roots, ", "))
	return nil
}

func gunzip(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Golden compares with the file testdata/name of the package under test, or writes
// it when PHALA_UPDATE is set.
func Golden(t testing.TB, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if os.Getenv("PHALA_UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (PHALA_UPDATE=1 rewrites it); got\n%s", name, got)
	}
}
