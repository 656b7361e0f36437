package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClock tells, from the time that the file system gives to a file, whether this test
// runs in the present; or ten years ahead, when whoever runs it says that it should. So a
// run under the overlay cannot pass without it.
func TestClock(t *testing.T) {
	path, before := filepath.Join(t.TempDir(), "now"), time.Now()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	want := time.Duration(0)
	if os.Getenv("PHALA_FUTURE") != "" {
		want = ahead * time.Second
	}
	if at := info.ModTime().Add(want); at.Before(before.Add(-time.Minute)) || at.After(after.Add(time.Minute)) {
		t.Errorf("the clock is %v ahead of the file system's, expected %v", after.Sub(info.ModTime()), want)
	}
}

// TestOverlay: the installed Go has the one place that the overlay changes.
func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "overlay.json"))
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	if err := json.Unmarshal(text, &overlay); err != nil {
		t.Fatal(err)
	}
	for original, replacement := range overlay.Replace {
		before, err := os.ReadFile(original)
		if err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(replacement)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Replace(string(after), moved, here, 1) != string(before) {
			t.Error("the overlay differs from the runtime in more than the clock")
		}
	}
	if len(overlay.Replace) != 1 {
		t.Errorf("the overlay replaces %d files", len(overlay.Replace))
	}
	if _, err := move([]byte("package runtime\n")); err == nil {
		t.Error("a runtime without the place was changed")
	}
}
