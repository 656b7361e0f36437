package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

func runDevnet(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala devnet [flags]", "Runs a node, a gatekeeper, workers and their relayer on this machine, with the hello example deployed.\nCtrl-C stops everything; starting again continues.")
	workers := f.Int("workers", 0, "how many workers; without it as many as there were, or one")
	validators := f.Int("validators", 0, "how many validators, each a node of its own; without it as many as there were, or one")
	secure := f.Bool("tls", false, "workers serve by TLS whose certificates carry evidence, from the first start on")
	fresh := f.Bool("fresh", false, "forget the state and start afresh")
	smoke := f.Bool("smoke", false, "fresh devnet, a call and a query, one JSON line with times and memory, stop")
	if _, err := need(f, args, 0, 0); err != nil {
		return ignoreHelp(err)
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if given["workers"] && (*workers < 1 || *workers > 8) {
		return fmt.Errorf("--workers %d: a devnet has 1 to 8", *workers)
	}
	if given["validators"] && (*validators < 1 || *validators > 16) {
		return fmt.Errorf("--validators %d: a devnet has 1 to 16", *validators)
	}
	bin, err := binDir()
	if err != nil {
		return err
	}
	opt := devnet.Options{Dir: a.dir, Bin: bin, Workers: *workers, TLS: *secure, Fresh: *fresh, Out: a.out, Hello: filepath.Join(bin, "hello.wasm")}
	for range *validators {
		opt.Bonds = append(opt.Bonds, 1_000_000)
	}
	if *smoke {
		return runSmoke(ctx, a, opt)
	}
	if a.json {
		opt.Out = a.err
	}
	n, err := devnet.Start(ctx, opt)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(opt.Out, "\nstopping")
		n.Stop()
	}()
	if err := a.print(readyReport(n), func(w io.Writer) { fmt.Fprint(w, nextCommands(n, a.dir)) }); err != nil {
		return err
	}
	return n.Watch(ctx)
}

// nextCommands is what to do with a devnet that is ready, to be pasted.
func nextCommands(n *devnet.Net, dir string) string {
	where := ""
	if dir != defaultDevnet {
		where = " --devnet " + devnet.Quote(dir)
	}
	return fmt.Sprintf(`
Ready after %.1f s. Funded account: %s (1,000,000 PHA, development only)

Next, in another terminal:

  bin/phala query hello GetGreeting%[3]s
  bin/phala call hello SetGreeting "Hi there"%[3]s
  bin/phala call hello SetGreeting "Only the enclave knows" --show chain%[3]s
  bin/phala status%[3]s

Ctrl-C stops everything.
`, n.Timings["ready_s"], n.State().Account, where)
}

// A component is one process of a devnet.
type component struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Address string `json:"address,omitempty"`
	Log     string `json:"log"`
}

// readyReport is the same for programs.
func readyReport(n *devnet.Net) any {
	s := n.State()
	v := struct {
		Chain      string                      `json:"chain"`
		Node       string                      `json:"node"`
		Simulated  bool                        `json:"simulated"`
		Account    string                      `json:"account"`
		Contracts  map[string]proto.ContractID `json:"contracts"`
		Components []component                 `json:"components"`
		Seconds    map[string]float64          `json:"seconds"`
	}{s.Chain, s.Node, s.Simulated, s.Account, s.Contracts, nil, n.Timings}
	for _, p := range n.Processes() {
		v.Components = append(v.Components, component{p.Name, p.PID(), p.Address, p.Log})
	}
	return v
}

func ignoreHelp(err error) error {
	if errors.Is(err, errHelp) {
		return nil
	}
	return err
}

// runSmoke is the newcomer's way, unattended.
func runSmoke(ctx context.Context, a *app, opt devnet.Options) error {
	dir, err := os.MkdirTemp("", "phala-smoke-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	opt.Dir, opt.Fresh, opt.Out = filepath.Join(dir, "devnet"), true, a.err
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	n, err := devnet.Start(ctx, opt)
	if err != nil {
		return err
	}
	defer n.Stop()
	step := time.Now()
	lap := func(name string) {
		n.Timings[name] = time.Since(step).Seconds()
		step = time.Now()
	}
	inner := &app{out: io.Discard, err: a.err, dir: opt.Dir}
	var out strings.Builder
	inner.out = &out
	if err := runCall(ctx, inner, []string{"hello", "SetGreeting", "smoke test", "--devnet", opt.Dir}); err != nil {
		return fmt.Errorf("smoke: call: %w: %s", err, out.String())
	}
	lap("call_s")
	out.Reset()
	if err := runQuery(ctx, inner, []string{"hello", "GetGreeting", "--devnet", opt.Dir}); err != nil {
		return fmt.Errorf("smoke: query: %w: %s", err, out.String())
	}
	lap("query_s")
	if got := strings.TrimSpace(out.String()); got != `"smoke test"` {
		return fmt.Errorf("smoke: the contract answered %s", got)
	}
	out.Reset()
	err = runCall(ctx, inner, []string{"hello", "SetGreeting", "", "--devnet", opt.Dir})
	var refused *client.CallError
	if !errors.Is(err, errSilent) && !errors.As(err, &refused) {
		return fmt.Errorf("smoke: a refused command did not fail: %v", err)
	}
	memory, total := map[string]float64{}, 0.0
	for name, b := range n.Memory() {
		memory[name] = float64(b>>10) / 1024
		total += memory[name]
	}
	// Again, from the kept state.
	n.Stop()
	opt.Fresh = false
	again, err := devnet.Start(ctx, opt)
	if err != nil {
		return fmt.Errorf("smoke: resume: %w", err)
	}
	defer again.Stop()
	out.Reset()
	if err := runQuery(ctx, inner, []string{"hello", "GetGreeting", "--devnet", opt.Dir}); err != nil || strings.TrimSpace(out.String()) != `"smoke test"` {
		return fmt.Errorf("smoke: after a restart the contract answered %s, %v", out.String(), err)
	}
	n.Timings["ready_resumed_s"] = again.Timings["ready_s"]
	b, err := json.Marshal(map[string]any{"ok": true, "seconds": n.Timings, "memory_mb": memory, "rss_mb": total})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, string(b))
	return nil
}
