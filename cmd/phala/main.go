// phala is the user's tool: keys, contracts, calls, queries, and a whole network on
// one machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

const usage = `phala deploys and calls confidential contracts.

  phala devnet                            run the whole network on this machine
  phala new NAME                          make a contract: code, test, ready to build
  phala build [DIR]                       build a contract to Wasm
  phala deploy FILE.wasm [ARG]            deploy it; ARG is what its Init takes
  phala call CONTRACT METHOD [ARG]        run a command through the chain
  phala query CONTRACT METHOD [ARG]       ask a worker
  phala grant CONTRACT --to ACCOUNT       let somebody query in your name
  phala revoke GRANT | --all              end that
  phala describe CONTRACT                 what a contract can do
  phala receipt CLUSTER SEQ               what the seats signed about a message
  phala events CONTRACT                   what it emitted, and its log for who deployed it
  phala keys add|list|import|export       accounts, encrypted on this disk
  phala send ACCOUNT AMOUNT               send PHA to an account
  phala validators                        the validators of an era, and who stands for the next
  phala nominate VALIDATOR…               put your stake behind validators
  phala validate | chill                  stand for election, or stop
  phala stake [bond|unbond|withdraw …]    your stake
  phala payout VALIDATOR…                 pay what validators and their nominators earned
  phala election dry-run|report [FILE]    who would be elected, why, and how proportional that is
  phala measure FILE                      the measurement of a build, for an allow-list
  phala status                            what the network says about itself
  phala verify [WORKER|CONTRACT]          follow the proof from validators' signatures to the enclave's code

CONTRACT is an id or a name that deploy gave. ARG is JSON; a text needs no quotes of
its own, and an object may be given as name=value pairs. An account is an address, a
key's name or a development account such as //Bob. Every command takes --help and
--output json, with which an error is {"error", "code"} too, code where there is one.
`

// An app is what every command needs.
type app struct {
	out, err io.Writer
	json     bool
	dir      string // devnet folder
	file     string // network that is no devnet, see networkFile
	key      string // account: a name, or a secret URI
	root     string // trust root: HEIGHT:HASH, empty for the network's
}

// errUsage: the arguments do not make sense.
var errUsage = errors.New("usage")

// A usageError is an errUsage that says why, and has the help that belongs to it.
type usageError struct {
	why  string
	help func(io.Writer)
}

func (e *usageError) Error() string        { return e.why }
func (e *usageError) Is(target error) bool { return target == errUsage }

// misused says why arguments do not make sense.
func misused(f *flag.FlagSet, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...), func(w io.Writer) {
		f.SetOutput(w)
		f.Usage()
	}}
}

// errSilent: the failure was printed already.
var errSilent = errors.New("failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	errs := printable(os.Stderr)
	err := run(ctx, os.Args[1:], printable(os.Stdout), errs)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	case errors.Is(err, errSilent):
		os.Exit(1)
	default:
		fmt.Fprintln(errs, "phala:", err)
		os.Exit(1)
	}
}

type command func(ctx context.Context, a *app, args []string) error

var commands = map[string]command{"devnet": runDevnet, "call": runCall, "query": runQuery, "grant": runGrant, "revoke": runRevoke, "deploy": runDeploy, "describe": runDescribe, "receipt": runReceipt, "events": runEvents,
	"status": runStatus, "keys": runKeys, "send": runSend, "new": runNew, "build": runBuild, "verify": runVerify,
	"election":   runElection,
	"measure":    runMeasure,
	"validators": runValidators, "nominate": runNominate, "validate": runValidate, "chill": runChill, "stake": runStake, "payout": runPayout}

func run(ctx context.Context, args []string, out, errw io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprint(out, usage)
		return nil
	}
	a := &app{out: out, err: errw, json: wantsJSON(args)}
	var err error = &usageError{fmt.Sprintf("no command %q", args[0]), func(w io.Writer) { fmt.Fprint(w, usage) }}
	if f, ok := commands[args[0]]; ok {
		err = f(ctx, a, args[1:])
	}
	if err == nil || errors.Is(err, errSilent) {
		return err
	}
	if errors.Is(err, rpc.ErrNotSent) || errors.Is(err, client.ErrTrustRoot) {
		err = fmt.Errorf("%w; %s", err, a.unreached())
	}
	var misuse *usageError
	switch {
	case a.json:
		end := errSilent
		if errors.As(err, &misuse) {
			end = errUsage
		}
		return errors.Join(end, a.print(struct {
			Error string `json:"error"`
			Code  string `json:"code,omitempty"`
		}{err.Error(), code(err)}, nil))
	case errors.As(err, &misuse):
		fmt.Fprintf(errw, "phala: %s\n\n", misuse.why)
		misuse.help(errw)
	}
	return err
}

// unreached is what to do when nothing listens where the node should, or another network's.
func (a *app) unreached() string {
	if a.file != "" {
		return "see what " + a.file + " says of the network, and that its node runs"
	}
	if a.dir != defaultDevnet {
		return "start it with: bin/phala devnet --devnet " + devnet.Quote(a.dir)
	}
	return "start it with: make devnet"
}

// wantsJSON reports whether arguments ask for it that may make no sense otherwise.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		name, value, given := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if !given && i+1 < len(args) {
			value = args[i+1]
		}
		if arg == "--" {
			break
		}
		if strings.HasPrefix(arg, "-") && name == "output" && value == "json" {
			return true
		}
	}
	return false
}

// code is what programs tell an error by: the chain's codespace and number, a status of
// the protocol, a code of the worker's API, or one of this program's own; "" where it is
// none of these.
func code(err error) string {
	var chain *tx.Refused
	var query *client.QueryError
	var call *client.CallError
	var worker *client.WorkerError
	switch {
	case errors.Is(err, errUsage):
		return "usage"
	case errors.Is(err, tx.ErrUnsure):
		return "unsure" // it may have taken effect, or may yet
	case errors.Is(err, tx.ErrLost):
		return "lost" // as far as its sender knows
	case errors.As(err, &chain):
		return fmt.Sprintf("%s %d", chain.Space, chain.Code)
	case errors.As(err, &query):
		return query.Answer.Status.String()
	case errors.As(err, &call):
		return call.Receipt.Status
	case errors.As(err, &worker):
		return worker.Code
	}
	return ""
}

// defaultDevnet is the folder of the devnet, without another word.
const defaultDevnet = ".devnet"

// flags returns a flag set with the flags of every command. The first line of help
// is the command's form.
func (a *app) flags(form, help string) *flag.FlagSet {
	f := flag.NewFlagSet("phala", flag.ContinueOnError)
	f.SetOutput(a.err)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "%s\n\n%s\n\nFlags:\n", form, help)
		f.PrintDefaults()
	}
	f.Func("output", "json for machine-readable output", func(s string) error {
		a.json = s == "json"
		if s != "json" && s != "text" {
			return fmt.Errorf("%q is neither text nor json", s)
		}
		return nil
	})
	f.StringVar(&a.dir, "devnet", env("PHALA_DEVNET", defaultDevnet), "folder of the devnet to use")
	f.StringVar(&a.file, "network", env("PHALA_NETWORK", ""), "file that describes another network to use: {chain, node, root_height, root}")
	f.StringVar(&a.key, "key", "", "account to act as: a name from phala keys, or a secret URI, which others on this machine see in a command: PHALA_KEY hides it; a devnet's own account without it, none elsewhere")
	a.key = os.Getenv("PHALA_KEY") // no flag's default, which help prints
	f.StringVar(&a.root, "trust-root", env("PHALA_TRUST_ROOT", ""), "HEIGHT:HASH of the header to verify the chain from, which phala verify prints; the network's own without it")
	return f
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// parse allows flags behind the arguments, where people put them.
func parse(f *flag.FlagSet, args []string) ([]string, error) {
	var pos []string
	for {
		out := f.Output()
		f.SetOutput(io.Discard) // what it would say is in its error
		err := f.Parse(args)
		f.SetOutput(out)
		if errors.Is(err, flag.ErrHelp) {
			f.Usage()
			return nil, errHelp
		}
		if err != nil {
			for _, arg := range args {
				if len(arg) > 1 && arg[0] == '-' && arg[1] >= '0' && arg[1] <= '9' {
					return nil, misused(f, "%v; a negative number goes behind two dashes: … -- %s", err, arg)
				}
			}
			return nil, misused(f, "%v", err)
		}
		if f.NArg() == 0 {
			return pos, nil
		}
		if used := len(args) - f.NArg(); used > 0 && args[used-1] == "--" {
			return append(pos, f.Args()...), nil
		}
		pos, args = append(pos, f.Arg(0)), f.Args()[1:]
	}
}

// errHelp: help was asked for and printed.
var errHelp = errors.New("help")

// need parses and checks the number of arguments.
func need(f *flag.FlagSet, args []string, least, most int) ([]string, error) {
	pos, err := parse(f, args)
	if err != nil {
		return nil, err
	}
	switch {
	case len(pos) < least:
		return nil, misused(f, "too few arguments: %d, at least %d are needed", len(pos), least)
	case len(pos) > most:
		return nil, misused(f, "too many arguments: %d, at most %d are taken", len(pos), most)
	}
	return pos, nil
}

func (a *app) print(v any, text func(w io.Writer)) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	text(a.out)
	return nil
}

// open opens the network as an account.
func (a *app) open() (*client.Client, *devnet.State, error) {
	s, err := a.network()
	if err != nil {
		return nil, nil, err
	}
	uri := a.key
	if uri == "" {
		uri = s.Account
	}
	if uri == "" {
		return client.Open(s.Network, nil), s, nil
	}
	key, err := a.findKey(uri)
	if err != nil {
		return nil, nil, err
	}
	return client.Open(s.Network, key), s, nil
}

// findKey makes a key of a secret URI, or opens one from the key folder.
func (a *app) findKey(name string) (*identity.KeyPair, error) {
	if strings.ContainsAny(name, "/ ") || strings.HasPrefix(name, "0x") {
		return identity.FromURI(name)
	}
	return openKey(name)
}

// openContract opens the network as an account and finds a contract.
func (a *app) openContract(name string) (*client.Client, proto.ContractID, error) {
	c, s, err := a.open()
	if err != nil {
		return nil, proto.ContractID{}, err
	}
	id, err := contractID(s, name)
	return c, id, err
}

// contractID finds a contract by id or by the name that deploy gave it.
func contractID(s *devnet.State, name string) (proto.ContractID, error) {
	if id, ok := s.Contracts[name]; ok {
		return id, nil
	}
	var id proto.ContractID
	if err := id.UnmarshalText([]byte(name)); err != nil {
		var names []string
		for n := range s.Contracts {
			names = append(names, n)
		}
		return id, fmt.Errorf("no contract %q: give an id of 64 hexadecimal digits or one of the names %v", name, names)
	}
	return id, nil
}

// binDir is where this program is: the others are beside it.
func binDir() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.Dir(exe), nil
}
