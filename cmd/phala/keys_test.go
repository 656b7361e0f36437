package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestKeyNames: every key that is made can be named afterwards, and a name that may be a
// secret is not repeated.
func TestKeyNames(t *testing.T) {
	t.Setenv("PHALA_KEYS", t.TempDir())
	t.Setenv("PHALA_PASSPHRASE", "x")
	for _, name := range []string{"bob", "Zoë-2_b", strings.Repeat("a", 63)} {
		if _, err := saveKey(name, "//"+name); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if _, err := (&app{}).findKey(name); err != nil {
			t.Errorf("%q was made and is not found: %v", name, err)
		}
	}
	seed := strings.Repeat("5c", 32)
	for _, name := range []string{"", "my key", "0xabc", "a\nb", "../x", "a.b", "a/b", `a\b`, "\xff", seed, strings.Repeat("a", 65)} {
		if _, err := saveKey(name, "//Bob"); err == nil {
			t.Errorf("a key of the name %q", name)
		}
	}
	if _, err := (&app{}).findKey(seed); err == nil || strings.Contains(err.Error(), seed) || !strings.Contains(err.Error(), "begins with 0x") {
		t.Errorf("a seed without 0x: %v", err)
	}
	if _, err := (&app{}).findKey("nobody"); err == nil || !strings.Contains(err.Error(), `no key "nobody"`) {
		t.Errorf("no such key: %v", err)
	}
}

// TestKeyFiles: a key lies under a passphrase that is not empty, in a file of its owner's
// that nothing writes over.
func TestKeyFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	t.Setenv("PHALA_KEYS", dir)
	t.Setenv("PHALA_PASSPHRASE", "")
	if _, err := saveKey("open", "//Open"); err == nil || !strings.Contains(err.Error(), "passphrase is empty") {
		t.Errorf("an empty passphrase: %v", err)
	}
	t.Setenv("PHALA_PASSPHRASE", "x")
	var wg sync.WaitGroup
	made := make([]error, 4)
	for i := range made {
		wg.Go(func() { _, made[i] = saveKey("one", "//One") })
	}
	wg.Wait()
	won := 0
	for _, err := range made {
		if err == nil {
			won++
		} else if !strings.Contains(err.Error(), `there is a key "one" already`) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of one name were made", won)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "one.json"): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
}
