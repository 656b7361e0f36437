// bench measures and writes bench.json: a list of {name, value, unit, target, limit}.
// target is what the project wants, limit what physics or arithmetic allows on this
// machine: no implementation of the same protocol can do better. Run it with make bench.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Figure is one measured number.
type Figure struct {
	Name   string   `json:"name"`
	Value  float64  `json:"value"`
	Unit   string   `json:"unit"`
	Target *float64 `json:"target"`
	Limit  *float64 `json:"limit"`
	Note   string   `json:"note,omitempty"` // what the limit is
}

// A suite is a set of Go benchmarks that report their figures by name.
type suite struct {
	dir, pkg, pattern string
	times             string // how often each runs
}

var suites = []suite{
	{".", "./npos", "^BenchmarkPhragmen(297|600|297Balanced|600Balanced|Growth|Peak|100k)$", "3x"},
	{".", "./lightclient/grandpa/...", "Grandpa|Trie|Checkpoint", "3x"},
	{".", "./attest/dcap", ".", "3x"},
	{".", "./attest/snp", ".", "3x"},
	{"node", "./x/registry", "^BenchmarkRegistrations$", "10x"},
	{"node", "./x/npos", "^BenchmarkEra$", "3x"},
	{".", "./pruntime/inbox", "Fold|Sync", "3x"},
	{".", "./pruntime/engine/image", "Clean|HostCall|GasOverhead|Compile|BenchmarkInstance", "3x"},
	{".", "./wasmprep", "Prepare/go$", "3x"},
	{".", "./pruntime/cluster", "Commands$|Scale", "3x"},
	{"test/oracle", ".", "Header", "200x"},
}

// targets and limits that are numbers of their own.
var targets = map[string]float64{"phragmen_297_ms": 250, "phragmen_600_ms": 500, "phragmen_297_balanced_ms": 2000, "phragmen_600_balanced_ms": 2000, "phragmen_peak_mb": 200, "grandpa_600_ms": 10, "grandpa_199_ms": 5, "trie_proof_us": 50,
	"sync_1m_blocks_s": 4, "tdx_verify_us": 1500, "sgx_verify_us": 1400, "registrations_block_ms": 150, "era_block_ms": 100, "ready_s": 3, "ready_resumed_s": 1.5, "rss_mb": 400, "call_clean_us": 60,
	"hostcall_ns": 100, "gas_overhead_pct": 15, "gas_overhead_worst_pct": 25, "prep_ms": 50, "instance_mb": 1.5, "commands_one_core_per_s": 5000, "queries_scale": 1.7}

// kept are the names that whoever compares runs relies on.
var kept = strings.Fields(`ready_s ready_resumed_s rss_mb header_verify_us_4 header_verify_us_21 header_verify_us_100 header_verify_us_175
	inbox_fold_ns sync_1m_blocks_s command_open_us query_qps_1 query_qps_4 query_qps_16 query_p50_us commands_per_s command_to_receipt_ms
	call_clean_us hostcall_ns gas_overhead_pct prep_ms compile_s instance_mb commands_one_core_per_s queries_scale
	tdx_verify_us sgx_verify_us snp_verify_us registrations_block_ms
	phragmen_297_ms phragmen_600_ms phragmen_peak_mb phragmen_100k_nominators_s era_block_ms
	grandpa_600_ms grandpa_199_ms trie_proof_us`)

func main() {
	quick := flag.Bool("quick", false, "leave out the Go benchmarks: measure the devnet only")
	out := flag.String("o", "bench.json", "file")
	flag.Parse()
	var figures []Figure
	if !*quick {
		for _, s := range suites {
			fs, err := s.run()
			if err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s %s: %v\n", s.dir, s.pkg, err)
				os.Exit(1)
			}
			figures = append(figures, fs...)
		}
	}
	fs, err := stack(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	figures = append(figures, fs...)
	for _, name := range kept {
		if !*quick && !slices.ContainsFunc(figures, func(f Figure) bool { return f.Name == name }) {
			fmt.Fprintf(os.Stderr, "bench: no benchmark reported %s\n", name)
			os.Exit(1)
		}
	}
	limits(figures)
	print(figures)
	b, err := json.MarshalIndent(figures, "", " ")
	if err == nil {
		err = os.WriteFile(*out, append(b, '\n'), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var metric = regexp.MustCompile(`([0-9.e+-]+) ([a-zA-Z_][a-zA-Z_0-9]*_(?:ms|us|ns|s|mb|pct|scale)(?:_[0-9]+)?)\b`)

func (s suite) run() ([]Figure, error) {
	fmt.Fprintf(os.Stderr, "measuring %s\n", s.pkg)
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", s.pattern, "-benchtime", s.times, "-cpu", "1", s.pkg)
	cmd.Dir, cmd.Stderr = s.dir, os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, b)
	}
	var out []Figure
	seen := map[string]bool{}
	for _, m := range metric.FindAllStringSubmatch(string(b), -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil || seen[m[2]] {
			continue
		}
		seen[m[2]] = true
		out = append(out, figure(m[2], v))
	}
	return out, nil
}

// figure names a number; its unit is the last part of the name.
func figure(name string, v float64) Figure {
	parts := strings.Split(name, "_")
	unit := parts[len(parts)-1]
	for _, p := range parts {
		switch p {
		case "us", "ms", "ns", "qps":
			unit = p
		}
	}
	switch {
	case strings.HasSuffix(name, "_per_s"):
		unit = "1/s"
	case unit == "scale":
		unit = "times"
	}
	f := Figure{Name: name, Value: v, Unit: unit}
	if t, ok := targets[name]; ok {
		f.Target = &t
	}
	return f
}

func print(figures []Figure) {
	fmt.Printf("%-28s %12s %-6s %10s %12s  %s\n", "name", "value", "unit", "target", "limit", "the limit is")
	show := func(p *float64) string {
		if p == nil {
			return "-"
		}
		return strconv.FormatFloat(*p, 'g', 4, 64)
	}
	for _, f := range figures {
		fmt.Printf("%-28s %12.4g %-6s %10s %12s  %s\n", f.Name, f.Value, f.Unit, show(f.Target), show(f.Limit), f.Note)
	}
}
