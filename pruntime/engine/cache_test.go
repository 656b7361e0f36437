package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// TestCacheBreaks: a cache that somebody cleared is made anew, and a module is prepared
// without one that does not work.
func TestCacheBreaks(t *testing.T) {
	b := new(wasmtest.Builder)
	b.Memory(1, 1)
	for _, entry := range []string{EntryDeploy, EntryCall, EntryQuery} {
		b.Func(entry, nil, nil, nil)
	}
	dir := filepath.Join(t.TempDir(), "cache")
	prepare := func() error {
		t.Helper()
		e, err := New(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Prepare(t.Context(), b.Bytes())
		return errors.Join(err, e.Close(t.Context()))
	}
	if err := errors.Join(prepare(), os.RemoveAll(dir), prepare()); err != nil {
		t.Fatalf("after the cache was cleared: %v", err)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++ // a folder stands where compiled code is to be
		return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700))
	})
	if err != nil || files == 0 {
		t.Fatal(files, err)
	}
	if err := prepare(); err != nil {
		t.Errorf("where files of the cache do not open: %v", err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := prepare(); err != nil {
		t.Errorf("where there can be no cache: %v", err)
	}
}
