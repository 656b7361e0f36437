// future writes an overlay for the go command with which everything that is built
// believes to run ten years from now:
//
//	go run ./internal/future DIR
//	go test -overlay DIR/overlay.json ./...
//
// Evidence, collateral, certificates and blocks all end some day. A test that reads the
// clock where it should be given a time passes today and fails then, or worse, passes
// only today. The overlay moves the wall clock in the one function of Go's runtime behind
// time.Now; timers, monotonic times and synctest's own clocks stay as they are. The file
// is made from the installed Go and is no part of this repository.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ahead is how far the clock is moved, in seconds: ten years of 365.25 days.
const ahead = 315_576_000

// here is what time_runtimeNow of the runtime returns outside of synctest's bubbles.
const here = "\treturn time_now()\n"

// moved takes its place, in one line, so that no position in the file changes. Contracts
// get their time from a block, so their platform keeps it; and so do its modules' hashes.
var moved = "\tif sec, nsec, mono = time_now(); GOOS != \"wasip1\" { sec += " + strconv.Itoa(ahead) + " }; return sec, nsec, mono\n"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/future DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "future:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(out)), "src", "runtime", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return err
	}
	if text, err = move(text); err != nil {
		return fmt.Errorf("%s: %w", original, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	replacement := filepath.Join(dir, "time.go")
	if err := os.WriteFile(replacement, text, 0o644); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644)
}

// move changes the runtime's clock in the text of its time.go.
func move(text []byte) ([]byte, error) {
	if n := bytes.Count(text, []byte(here)); n != 1 {
		return nil, errors.New("this Go reads its clock elsewhere: expected one " + strconv.Quote(here) + ", found " + strconv.Itoa(n))
	}
	return bytes.Replace(text, []byte(here), []byte(moved), 1), nil
}
