// tcb reports the enclave's trusted code base: the lines of Go that the pruntime
// binary links, by module, beside the standard library. It fails when third-party code
// grows past its budget, or when something is linked that must not be.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// budget is the most third-party lines that the enclave may link, of which the Wasm
// engine has the greater part.
const budget = 120_000

// forbidden may not be linked into the enclave: chain and RPC frameworks, the issuer of
// simulated evidence, and whatever moves things outside.
var forbidden = []string{"github.com/cosmos/cosmos-sdk", "github.com/cometbft", "google.golang.org/grpc", "github.com/phala-go/phala/attest/simulator",
	"github.com/phala-go/phala/pherry", "github.com/phala-go/phala/client", "github.com/phala-go/phala/internal/devnet"}

type pkg struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct{ Path string }
	GoFiles    []string
	SFiles     []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tcb:", err)
		os.Exit(1)
	}
}

func run() error {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,Module,GoFiles,SFiles", "./cmd/pruntime")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	lines, own, third := map[string]int{}, 0, 0
	var bad []string
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if p.Standard || p.Module == nil {
			continue
		}
		for _, f := range forbidden {
			if p.ImportPath == f || strings.HasPrefix(p.ImportPath, f+"/") {
				bad = append(bad, p.ImportPath)
			}
		}
		n, err := count(p.Dir, append(p.GoFiles, p.SFiles...))
		if err != nil {
			return err
		}
		lines[p.Module.Path] += n
		if p.Module.Path == "github.com/phala-go/phala" {
			own += n
		} else {
			third += n
		}
	}
	var names []string
	for m := range lines {
		names = append(names, m)
	}
	slices.SortFunc(names, func(a, b string) int { return lines[b] - lines[a] })
	for _, m := range names {
		fmt.Printf("%8d  %s\n", lines[m], m)
	}
	fmt.Printf("%8d  ours\n%8d  third-party, of a budget of %d\n", own, third, budget)
	if len(bad) > 0 {
		return fmt.Errorf("the enclave links %s", strings.Join(bad, ", "))
	}
	if third > budget {
		return fmt.Errorf("third-party code is %d lines above the budget", third-budget)
	}
	return nil
}

func count(dir string, files []string) (int, error) {
	n := 0
	for _, name := range files {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return 0, err
		}
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<22)
		for s.Scan() {
			n++
		}
		f.Close()
		if err := s.Err(); err != nil {
			return 0, err
		}
	}
	return n, nil
}
