// pruntime is the runtime inside the enclave. One binary serves both roles, worker
// and gatekeeper.
package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/internal/settings"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
	"github.com/phala-go/phala/pruntime/keyring"
)

const usage = `pruntime runs confidential contracts, or as a gatekeeper releases keys, inside a TEE.

  pruntime --data DIR --chain ID --trust-root HEIGHT:HASH --operator ADDRESS [flags]
  pruntime compile DIR MODULE…     compile modules into a folder for --native

It makes its keys by itself and keeps them sealed in --data. What it is started with
the first time (chain, trust root, role, operator, attestation roots) belongs to its
identity for ever; lease, trusting period, clock drift, session interval and worst level
may be stricter later, and never go further.
A relayer (pherry) on the private address brings it the chain; clients ask on the
public one. Every flag can be given as PRUNTIME_NAME in the environment, or as a line
"name = value" in the file of --config.

Flags:
`

// keyringProcess is the one argument of the process that has the keys.
const keyringProcess = "keyring"

func main() {
	begin := run
	if slices.Equal(os.Args[1:], []string{keyringProcess}) {
		begin = keyring.Main
	}
	if err := begin(); err != nil {
		fmt.Fprintln(os.Stderr, "pruntime:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) > 1 && os.Args[1] == "compile" {
		return compile(context.Background(), os.Args[2:])
	}
	cfg := pruntime.DefaultConfig()
	f := flag.NewFlagSet("pruntime", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	data := f.String("data", "", "folder of sealed files")
	chain := f.String("chain", "", "chain id")
	root := f.String("trust-root", "", "HEIGHT:HASH of the header that the light client starts from")
	role := f.String("role", "worker", "worker or gatekeeper")
	operator := f.String("operator", "", "account that registers this enclave")
	endpoints := f.String("endpoints", "", "where clients reach the public address, comma-separated URLs")
	public := f.String("public", "127.0.0.1:8001", "address of the public API")
	secure := f.Bool("tls", false, "serve the public API by TLS, with the evidence in the certificate; --endpoints are ratls://HOST:PORT then")
	private := f.String("private", "127.0.0.1:8000", "address of the private API: keep it on this machine")
	tee := f.String("tee", "auto", "where evidence comes from: auto, configfs, dstack[:SOCKET], gramine, or simulator:ADDRESS")
	vcek := f.String("vcek", "", "SEV-SNP: file with AMD's certificate of this processor, in DER or PEM, where the host does not hand it on")
	roots := f.String("simulated-roots", "", "file with the attestation roots of a simulated network; without it the vendors' roots count")
	f.DurationVar(&cfg.Lease, "lease", cfg.Lease, "how long an answered challenge lets the enclave serve")
	f.DurationVar(&cfg.TrustingPeriod, "trusting-period", cfg.TrustingPeriod, "how old a header may be and vouch for the next; less than the unbonding period")
	f.DurationVar(&cfg.MaxClockDrift, "max-clock-drift", cfg.MaxClockDrift, "how far a header may be ahead of the clock")
	f.DurationVar(&cfg.CheckpointInterval, "checkpoint-interval", cfg.CheckpointInterval, "how often the state is sealed to disk")
	f.DurationVar(&cfg.SessionInterval, "session-interval", cfg.SessionInterval, "how long a session key is used")
	release := f.String("release-to", "", "gatekeepers: digests of measurements, besides its own, that get keys, comma-separated: the same program in other kinds of TEE")
	worst := f.Uint("worst-level", uint(cfg.WorstLevel), "gatekeepers: worst confidence level, 1 to 5, of evidence that gets keys")
	f.StringVar(&cfg.HTTP, "contract-http", cfg.HTTP, "where queries of contracts may send HTTP requests: off, public, or private (also to this machine and its network)")
	prepare := f.String("prepare", "", "modules (.wasm files, comma-separated) to compile ahead of their deployment")
	f.StringVar(&cfg.Native, "native", "", "folder that \"pruntime compile\" filled; only with a simulated TEE, because nothing measures what is in it")
	level := f.String("log-level", "info", "debug, info, warn or error")
	if err := settings.Parse(f, "PRUNTIME", os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	var lv slog.Level
	if err := lv.UnmarshalText([]byte(*level)); err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: lv}))
	if *data == "" || *chain == "" || *root == "" || *operator == "" {
		return errors.New("--data, --chain, --trust-root and --operator are needed; see pruntime --help")
	}
	for name, short := range map[string]bool{"lease": cfg.Lease <= 0, "trusting-period": cfg.TrustingPeriod <= 0, "session-interval": cfg.SessionInterval <= 0,
		"checkpoint-interval": cfg.CheckpointInterval <= 0, "max-clock-drift": cfg.MaxClockDrift < 0} {
		if short {
			return fmt.Errorf("--%s %s: too short for anything to work", name, f.Lookup(name).Value)
		}
	}
	cfg.DataDir, cfg.Chain = *data, *chain
	height, hash, ok := strings.Cut(*root, ":")
	h, err := strconv.ParseInt(height, 10, 64)
	if err != nil || !ok || cfg.Root.Hash.UnmarshalText([]byte(strings.ToLower(hash))) != nil {
		return fmt.Errorf("--trust-root %q is not HEIGHT:HASH with 64 hexadecimal digits", *root)
	}
	cfg.Root.Height = h
	switch *role {
	case "worker":
		cfg.Role = proto.RoleWorker
	case "gatekeeper":
		cfg.Role = proto.RoleGatekeeper
	default:
		return fmt.Errorf("--role %q is neither worker nor gatekeeper", *role)
	}
	if *worst < 1 || *worst > 5 {
		return fmt.Errorf("--worst-level %d is not between 1 and 5", *worst)
	}
	cfg.WorstLevel = uint8(*worst)
	for _, d := range strings.FieldsFunc(*release, func(c rune) bool { return c == ',' }) {
		var h proto.Hash
		if err := h.UnmarshalText([]byte(strings.ToLower(d))); err != nil {
			return fmt.Errorf("--release-to: %q: %w", d, err)
		}
		cfg.Releases = append(cfg.Releases, h)
	}
	if len(cfg.Releases) > 0 && cfg.Role != proto.RoleGatekeeper {
		return errors.New("--release-to is for gatekeepers: a worker releases no keys")
	}
	if cfg.Operator, err = address.Parse(*operator); err != nil {
		return fmt.Errorf("--operator: %w", err)
	}
	if *endpoints != "" {
		cfg.Endpoints = strings.Split(*endpoints, ",")
		for _, e := range cfg.Endpoints {
			if strings.HasPrefix(e, "ratls://") != *secure {
				return fmt.Errorf("--endpoints %s: an endpoint begins with ratls:// when --tls is given, and only then", e)
			}
		}
	}
	cfg.Roots = attest.ProductionRoots()
	if *roots != "" {
		b, err := os.ReadFile(*roots)
		if err != nil {
			return fmt.Errorf("--simulated-roots: %w", err)
		}
		if cfg.Roots, err = attest.SimulatedRoots(b); err != nil {
			return fmt.Errorf("--simulated-roots: %w", err)
		}
	}

	folder, err := lockFolder(*data)
	if err != nil {
		return err
	}
	defer folder.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o producer.Options
	if *vcek != "" {
		if o.VCEK, err = os.ReadFile(*vcek); err != nil {
			return fmt.Errorf("--vcek: %w", err)
		}
	}
	p, err := producer.Open(ctx, *tee, o)
	if err != nil {
		return err
	}
	if p.Simulated() {
		cfg.Log.Warn("the TEE is simulated: nothing is protected from whoever runs this machine")
		if !cfg.Roots.Simulated() {
			return errors.New("a simulated TEE cannot serve a real network: --simulated-roots names a simulated one")
		}
	}
	rt, gone, err := open(ctx, cfg, p, keyring.TEE{Interface: *tee, VCEK: o.VCEK})
	if err != nil {
		return err
	}
	for _, file := range strings.FieldsFunc(*prepare, func(c rune) bool { return c == ',' }) {
		module, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("--prepare: %w", err)
		}
		if err := rt.Prepare(module); err != nil {
			return err
		}
	}
	self := rt.Self()
	cfg.Log.Info("pruntime", "worker", hex.EncodeToString(self[:]), "role", *role, "public", *public, "private", *private)
	return serve(ctx, rt, gone, *public, *private, *secure)
}

// open starts the runtime. A worker runs contracts of strangers, so its keys are in another
// process wherever that is possible; where it is not, the log and the status say why. A
// real TEE that ought to keep two processes apart and does not is not used. gone is closed
// when the process with the keys has ended.
func open(ctx context.Context, cfg pruntime.Config, p producer.Producer, tee keyring.TEE) (rt *pruntime.Runtime, gone <-chan struct{}, err error) {
	why := ""
	switch {
	case cfg.Role == proto.RoleGatekeeper:
		rt, err = pruntime.Open(ctx, cfg, p)
		return rt, nil, err
	case p.Name() == "gramine":
		why = "a second process in Gramine would be another enclave"
	case !keyring.Supported && p.Simulated():
		why = "only Linux keeps two processes apart"
	}
	if why != "" {
		cfg.Log.Warn("the keys are in the process that runs contracts", "why", why)
		rt, err = pruntime.Open(ctx, cfg, p)
		return rt, nil, err
	}
	ring, err := cfg.Keyring(ctx, tee, keyringProcess)
	if err != nil {
		return nil, nil, err
	}
	gaps, err := keyring.Confine(cfg.DataDir, os.TempDir())
	switch {
	case err != nil && !p.Simulated():
		return nil, nil, errors.Join(err, ring.Close())
	case err != nil:
		ring.Place += ", open to this one"
		cfg.Log.Warn("the process that runs contracts can read the keys of the other", "error", err)
	case len(gaps) > 0:
		ring.Place += ", without " + strings.Join(gaps, " and ")
		cfg.Log.Warn("this kernel cannot confine the process that runs contracts as it should be", "lacks", gaps)
	}
	if rt, err = pruntime.OpenWorker(ctx, cfg, ring); err != nil {
		return nil, nil, errors.Join(err, ring.Close())
	}
	return rt, ring.Gone(), nil
}

// serve runs both servers until the context ends or the keys are gone, then stops cleanly.
func serve(ctx context.Context, rt *pruntime.Runtime, gone <-chan struct{}, public, private string, secure bool) error {
	done := make(chan error, 2)
	var servers []*http.Server
	for _, s := range []struct {
		addr string
		h    http.Handler
	}{{public, api.Public(rt)}, {private, api.Private(rt)}} {
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: s.h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
		if s.addr == public {
			srv, l = api.Server(s.h), api.Limit(l, api.MaxConns)
		}
		servers = append(servers, srv)
		if secure && s.addr == public {
			l = tls.NewListener(l, rt.TLS())
		}
		go func() { done <- srv.Serve(l) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-done:
	case <-gone:
		err = keyring.ErrGone
	}
	end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for _, s := range servers {
		s.Shutdown(end)
	}
	return errors.Join(err, rt.Close(end))
}
