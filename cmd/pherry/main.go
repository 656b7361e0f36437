// pherry relays between a node and one or many pruntimes. It is not trusted and keeps
// nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/internal/settings"
	"github.com/phala-go/phala/pherry"
)

const usage = `pherry brings the chain to pruntimes and their answers to the chain.

  pherry --node URL --pruntime URL[,URL…] --operator-key-file FILE

It holds the operator's account, which registers the enclaves, and no other secret.
It can be stopped, started again or run twice at any time. Every flag can be given as
PHERRY_NAME in the environment, or as a line "name = value" in the file of --config.

Flags:
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pherry:", err)
		os.Exit(1)
	}
}

func run() error {
	f := flag.NewFlagSet("pherry", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	node := f.String("node", "http://127.0.0.1:26657", "RPC of a node")
	runtimes := f.String("pruntime", "http://127.0.0.1:8000", "private APIs of pruntimes, comma-separated")
	keyFile := f.String("operator-key-file", "", "file with the operator's secret URI: a phrase, or 0x and a 32-byte seed")
	interval := f.Duration("interval", 50*time.Millisecond, "pause between rounds")
	pccs := f.String("pccs", "", "keep Intel's collateral fresh on the chain, from this PCCS' URL, or \"intel\" for Intel's own service")
	kds := f.String("kds", "", "keep AMD's collateral fresh on the chain, from this service's URL, or \"amd\" for AMD's own")
	listen := f.String("listen", "", "address for /metrics, /healthz and /readyz; none without it")
	level := f.String("log-level", "info", "debug, info, warn or error")
	if err := settings.Parse(f, "PHERRY", os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	var lv slog.Level
	if err := lv.UnmarshalText([]byte(*level)); err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: lv}))
	if *keyFile == "" {
		return errors.New("--operator-key-file is needed; see pherry --help")
	}
	pruntimes, err := urls(*runtimes)
	if err != nil {
		return fmt.Errorf("--pruntime: %w", err)
	}
	if nodes, err := urls(*node); err != nil || len(nodes) != 1 {
		return fmt.Errorf("--node %q is not one URL such as http://127.0.0.1:26657", *node)
	}
	uri, err := os.ReadFile(*keyFile)
	if err != nil {
		return err
	}
	key, err := identity.FromURI(strings.TrimSpace(string(uri)))
	if err != nil {
		return fmt.Errorf("%s: %w", *keyFile, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n := rpc.New(*node)
	var chain string
	waiting := false
	for {
		st, err := n.Status(ctx)
		if err == nil {
			chain = st.Chain
			break
		}
		if !waiting {
			log.Info("waiting for the node", "error", err)
			waiting = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(*interval):
		}
	}
	sender := &tx.Sender{Node: n, Chain: chain, Key: key}
	var wg sync.WaitGroup
	var relayers []*pherry.Relayer
	for _, url := range pruntimes {
		r := &pherry.Relayer{Node: n, Runtime: pherry.NewRuntime(url), Operator: sender, Interval: *interval, Log: log.With("pruntime", url)}
		relayers = append(relayers, r)
		wg.Add(1)
		go func() { defer wg.Done(); r.Run(ctx) }()
	}
	var metrics []func(io.Writer)
	if *pccs != "" || *kds != "" {
		keeper, err := newKeeper(ctx, n, sender, relayers, *pccs, *kds, log)
		if err != nil {
			return err
		}
		metrics = append(metrics, keeper.Metrics)
		wg.Add(1)
		go func() { defer wg.Done(); keeper.Run(ctx) }()
	}
	if *listen != "" {
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: pherry.Monitor(relayers, metrics...), ReadHeaderTimeout: 5 * time.Second}
		go srv.Serve(l)
		defer srv.Close()
	}
	wg.Wait()
	return nil
}
