package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, dir string, key byte, context string) *Store {
	t.Helper()
	s, err := Open(dir, [32]byte{key}, []byte(context), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1, "net")
	secret := []byte("identity key")
	if err := s.Put("identity", secret); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get("identity")
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatal(got, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "identity"))
	if err != nil || bytes.Contains(raw, secret) {
		t.Fatal("the secret is in the file", err)
	}
	if _, err := s.Get("other"); !errors.Is(err, ErrNone) {
		t.Errorf("missing: got %v", err)
	}
	if _, err := open(t, dir, 2, "net").Get("identity"); !errors.Is(err, ErrSealed) {
		t.Errorf("another enclave: got %v", err)
	}
	if _, err := open(t, dir, 1, "other net").Get("identity"); !errors.Is(err, ErrSealed) {
		t.Errorf("another network: got %v", err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("renamed", raw)
	if _, err := s.Get("renamed"); !errors.Is(err, ErrSealed) {
		t.Errorf("renamed: got %v", err)
	}
	for n := range raw {
		write("cut", raw[:n])
		if _, err := s.Get("cut"); !errors.Is(err, ErrSealed) {
			t.Fatalf("cut to %d bytes: got %v", n, err)
		}
		edited := bytes.Clone(raw)
		edited[n] ^= 1
		write("identity", edited)
		if _, err := s.Get("identity"); !errors.Is(err, ErrSealed) {
			t.Fatalf("byte %d edited: got %v", n, err)
		}
	}
	if err := errors.Join(s.Delete("identity"), s.Delete("identity")); err != nil {
		t.Error(err)
	}
	if names, err := s.List(""); err != nil || len(names) != 2 {
		t.Error(names, err)
	}
}

// TestClear: every file goes, folders stay.
func TestClear(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, [32]byte{1}, []byte("context"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Put("a", nil), s.Put("b", []byte{1}), os.MkdirAll(filepath.Join(dir, "code"), 0o700), os.WriteFile(filepath.Join(dir, "code", "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.Clear(); err != nil {
		t.Fatal(err)
	}
	names, err := s.List("")
	if err != nil || len(names) != 1 || names[0] != "code" {
		t.Fatalf("left: %v, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "code", "x")); err != nil {
		t.Fatal(err)
	}
}

// TestLinksAreNotFollowed: the folder belongs to the process that runs contracts as well,
// and the keyring's may write more than that one.
func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, 1, "net")
	for _, name := range []string{"identity.tmp", "identity"} {
		if err := os.Symlink(other, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := s.Put("identity", []byte("secret")); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(other); err != nil || string(b) != "untouched" {
			t.Errorf("with a link at %s the other file holds %q, %v", name, b, err)
		}
		if b, err := s.Get("identity"); err != nil || string(b) != "secret" {
			t.Errorf("got %q, %v", b, err)
		}
		if err := s.Delete("identity"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamesReachTheDisk: a sealed file's name is on the disk before whoever sealed it goes
// on. What is renamed and not synced can be gone when the power is.
func TestNamesReachTheDisk(t *testing.T) {
	s, err := Open(t.TempDir(), [32]byte{1}, []byte("context"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	synced := 0
	real := s.settle
	s.settle = func(dir string) {
		if b, err := s.Get("share"); err != nil || string(b) != "secret" || dir != s.dir {
			t.Errorf("synced %s with %q, %v under the name", dir, b, err)
		}
		synced++
		real(dir)
	}
	if err := s.Put("share", []byte("secret")); err != nil || synced != 1 {
		t.Errorf("synced %d times, %v", synced, err)
	}
}

// TestNothingIsLeftOfAFailure: a file that could not be put leaves nothing behind. What was
// written of it would keep a full disk full, a part more at each try.
func TestNothingIsLeftOfAFailure(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1, "net")
	if err := os.MkdirAll(filepath.Join(dir, "state", "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("state", make([]byte, 1<<10)); err == nil {
		t.Fatal("a file took a folder's place")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "state" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestSweep: what a killed process left goes, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1, "net")
	for _, name := range []string{"state-1.tmp", "state-2.tmp", "other.tmp", "state-3"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sweep("state-"); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), "other.tmp state-3"; err != nil || got != want {
		t.Errorf("left %q, want %q, %v", got, want, err)
	}
}
