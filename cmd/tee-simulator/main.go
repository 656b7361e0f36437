// Command tee-simulator stands in for TEE hardware on a development network.
//
// It issues evidence in the real TDX, SGX and SNP formats, under roots that
// were made for one network and say that they are simulated. A network accepts
// them only if its genesis names them; a network that does not is real, for
// ever. Nothing that this program certifies is protected by anything.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
)

const usage = `tee-simulator stands in for TEE hardware. NOTHING IT CERTIFIES IS PROTECTED.

usage:
  tee-simulator init --dir DIR [--no-snp]
      make a simulated network's roots and print the path of roots.bin,
      which goes into the network's genesis
  tee-simulator serve --dir DIR --listen unix:PATH|HOST:PORT --class tdx|sgx|snp
                      --measurement HEX [--machine NAME]
      be one enclave on one machine: POST /evidence {"report_data": hex},
      POST /sealing-key {"label": hex}, GET /info, GET /collateral;
      below /vendor/ be Intel's and AMD's services for collateral
  tee-simulator measure --class tdx|sgx|snp --measurement HEX
      print the digest by which an allow-list names this measurement
  tee-simulator publish --dir DIR [--status STATUS] [--advisory ID]...
                        [--revoke MACHINE]
      change what the simulated vendor publishes: a TCB status of all machines,
      a machine revoked; prints one path of new collateral a line

exit status: 0 done or stopped by a signal, 1 failed, 2 wrong usage
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	commands := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"init": initialise, "serve": serve, "measure": measure, "publish": publish,
	}
	command, ok := commands[args[0]]
	if !ok {
		if slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
			fmt.Fprint(stdout, usage)
			return 0
		}
		fmt.Fprintf(stderr, "tee-simulator: unknown command %q; try tee-simulator help\n", args[0])
		return 2
	}
	switch err := command(ctx, args[1:], stdout, stderr); {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "tee-simulator %s: %v; try tee-simulator help\n", args[0], err)
		return 2
	default:
		fmt.Fprintf(stderr, "tee-simulator %s: %v\n", args[0], err)
		return 1
	}
}

// parse reads a command's flags; dir is required unless nil.
func parse(name string, args []string, define func(*flag.FlagSet)) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	define(flags)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	}
	return nil
}

func initialise(_ context.Context, args []string, stdout, _ io.Writer) error {
	var dir string
	var noSNP bool
	err := parse("init", args, func(f *flag.FlagSet) {
		f.StringVar(&dir, "dir", "", "")
		f.BoolVar(&noSNP, "no-snp", false, "")
	})
	if err != nil {
		return err
	}
	if dir == "" {
		return fmt.Errorf("%w: --dir is missing", errUsage)
	}
	if _, err := simulator.Open(dir, time.Now(), !noSNP); err != nil {
		return err
	}
	fmt.Fprintln(stdout, filepath.Join(dir, "roots.bin"))
	return nil
}

// enclave is the class and measurement of what is simulated.
func enclave(class, measurement string) (attest.TEE, []byte, error) {
	tee, err := attest.ParseTEE(class)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: --class: %v", errUsage, err)
	}
	m, err := hex.DecodeString(strings.TrimPrefix(measurement, "0x"))
	if err == nil {
		err = simulator.CheckMeasurement(tee, m)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: --measurement: %v", errUsage, err)
	}
	return tee, m, nil
}

func measure(_ context.Context, args []string, stdout, _ io.Writer) error {
	var class, measurement string
	err := parse("measure", args, func(f *flag.FlagSet) {
		f.StringVar(&class, "class", "tdx", "")
		f.StringVar(&measurement, "measurement", "", "")
	})
	if err != nil {
		return err
	}
	tee, m, err := enclave(class, measurement)
	if err != nil {
		return err
	}
	digest, err := simulator.Measurement(tee, m)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, hex.EncodeToString(digest[:]))
	return nil
}

func publish(_ context.Context, args []string, stdout, _ io.Writer) error {
	var dir, status, revoke string
	var advisories []string
	err := parse("publish", args, func(f *flag.FlagSet) {
		f.StringVar(&dir, "dir", "", "")
		f.StringVar(&status, "status", "", "")
		f.StringVar(&revoke, "revoke", "", "")
		f.Func("advisory", "", func(id string) error { advisories = append(advisories, id); return nil })
	})
	if err != nil {
		return err
	}
	if dir == "" {
		return fmt.Errorf("%w: --dir is missing", errUsage)
	}
	if status != "" && attest.ConfidenceLevel(attest.TCBStatus(status), nil) == 0 && status != "Revoked" {
		return fmt.Errorf("%w: --status %q is no TCB status", errUsage, status)
	}
	now := time.Now()
	store, err := existing(dir, now)
	if err != nil {
		return err
	}
	var revoked *simulator.Machine
	if revoke != "" {
		// A machine that is not there would be made.
		if _, err := os.Stat(filepath.Join(dir, "machines", revoke+".pem")); err != nil {
			return fmt.Errorf("machine %q: %w", revoke, err)
		}
		if revoked, err = store.Machine(revoke, now); err != nil {
			return err
		}
	}
	err = store.SetState(now, func(s *simulator.State) error {
		if status != "" {
			s.Status, s.Advisories = status, advisories
		}
		if revoked != nil {
			s.Revoked = append(s.Revoked, revoked.PCK.Cert.SerialNumber)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, tee := range store.Classes() {
		fmt.Fprintln(stdout, filepath.Join(dir, "collateral", tee.String()+".bin"))
	}
	return nil
}

// existing opens a network that must be there.
func existing(dir string, now time.Time) (*simulator.Store, error) {
	if _, err := os.Stat(filepath.Join(dir, "network.pem")); err != nil {
		return nil, fmt.Errorf("no simulated network: %w", err)
	}
	return simulator.Open(dir, now, false)
}

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var dir, listen, class, measurement, machine string
	err := parse("serve", args, func(f *flag.FlagSet) {
		f.StringVar(&dir, "dir", "", "")
		f.StringVar(&listen, "listen", "", "")
		f.StringVar(&class, "class", "tdx", "")
		f.StringVar(&measurement, "measurement", "", "")
		f.StringVar(&machine, "machine", "default", "")
	})
	if err != nil {
		return err
	}
	if dir == "" || listen == "" {
		return fmt.Errorf("%w: --dir or --listen is missing", errUsage)
	}
	tee, m, err := enclave(class, measurement)
	if err != nil {
		return err
	}
	now := time.Now()
	store, err := simulator.Open(dir, now, tee == attest.SNP)
	if err != nil {
		return err
	}
	s := &simulator.Server{Store: store, MachineName: machine, TEE: tee, Measurement: m, Now: time.Now}
	if s.Machine, err = store.Machine(machine, now); err != nil {
		return err
	}
	if _, err := store.Collateral(tee, now); err != nil {
		return err
	}
	listener, err := bind(listen)
	if err != nil {
		return err
	}
	info, err := s.Info()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	log.Warn("SIMULATED - NOT A TEE: nothing is protected", "class", info.Class, "machine", info.Machine, "measurement_digest", info.Digest)
	// One line for whoever started this and waits for it.
	fmt.Fprintln(stdout, "listening on", listener.Addr())
	return serveUntil(ctx, listener, s.Handler())
}

// bind opens the socket: a unix one, or loopback. What listens to a network
// would certify whoever reaches it.
func bind(listen string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		// A socket left behind by a killed process: nobody answers on it.
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("another process serves %s", path)
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
		old := syscall.Umask(0o077)
		defer syscall.Umask(old)
		return net.Listen("unix", path)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("%w: --listen: %v", errUsage, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%w: --listen %s: only a unix socket or a loopback address", errUsage, listen)
	}
	return net.Listen("tcp", listen)
}

// serveUntil serves until the context ends, then finishes what is under way.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(shutdown)
}
