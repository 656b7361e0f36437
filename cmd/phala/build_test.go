package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNewFails: a contract that cannot be made leaves no folder that is in the way of the
// next try, and takes none that was there.
func TestNewFails(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"1st", "日本", "ünï", "-", "..", "/"} {
		if _, _, err := phala(t, "new", "--", name); err == nil || !strings.Contains(err.Error(), "starts with a letter") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := os.MkdirAll("there/mine", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := phala(t, "new", "there"); err == nil || !strings.Contains(err.Error(), "there exists") {
		t.Errorf("a folder that is there: %v", err)
	}
	// The source that it is to be built against is not there.
	if _, _, err := phala(t, "new", "counter", "--source", "missing"); err == nil || !strings.Contains(err.Error(), "go mod tidy in counter") {
		t.Errorf("without its source: %v", err)
	}
	left, err := filepath.Glob("*")
	if err != nil || len(left) != 1 || left[0] != "there" {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat("there/mine"); err != nil {
		t.Error(err)
	}
}

func TestTypeName(t *testing.T) {
	for in, want := range map[string]string{"counter": "Counter", "my-counter": "MyCounter", "a_b.c": "ABC", "x2": "X2", "2x": "", "": "", "ä": "", "aä": "", "--": ""} {
		if got := typeName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
