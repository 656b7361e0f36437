package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
)

// slowReceipt is after how long a caller is told what a command waits for.
const slowReceipt = 10 * time.Second

func runCall(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala call CONTRACT METHOD [ARG]", "Seals a command, sends it through the chain and waits until a majority of the cluster's seats signed the\nsame receipt. Exits 1 when the contract refused.")
	show := false
	f.Func("show", "chain: also show what a node's operator sees of it", func(s string) error {
		if show = s == "chain"; !show {
			return fmt.Errorf("there is only chain to show, no %q", s)
		}
		return nil
	})
	gas := f.Uint64("gas", client.DefaultGas, "gas limit")
	deposit := f.Uint64("deposit", client.DefaultDeposit, "most of this account's money that new storage may bind, base units; the rest returns")
	expiry := f.Uint64("expiry", client.DefaultExpiry, "blocks within which it may run")
	pos, err := need(f, args, 2, 64)
	if err != nil {
		return ignoreHelp(err)
	}
	c, id, err := a.openContract(pos[0])
	if err != nil {
		return err
	}
	arg, err := argument(ctx, c, id, pos[1], "command", pos[2:])
	if err != nil {
		return err
	}
	input, err := client.Input(pos[1], arg)
	if err != nil {
		return err
	}
	p, err := c.Push(ctx, id, input, client.CallOptions{GasLimit: *gas, DepositLimit: *deposit, Expiry: *expiry})
	if err != nil {
		return err
	}
	ordered := fmt.Sprintf("the command is message %d of cluster %s and has no final receipt yet", p.Seq, p.Cluster)
	slow := time.AfterFunc(slowReceipt, func() {
		fmt.Fprintf(a.err, "%s: see with phala status whether its workers serve; Ctrl-C leaves it to them\n", ordered)
	})
	r, err := c.Wait(ctx, p)
	slow.Stop()
	var refused *client.CallError
	if err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("%s: %w; phala receipt %s %d shows it when it is there", ordered, err, p.Cluster, p.Seq)
	}
	v := struct {
		*client.Receipt
		Return json.RawMessage `json:"return,omitempty"`
		Code   string          `json:"code,omitempty"`
		Shows  *chainView      `json:"chain_shows,omitempty"`
	}{Receipt: r, Return: jsonOrString(r.Return)}
	if refused != nil {
		v.Code = r.Status
	}
	if show {
		v.Shows = &chainView{p.Cluster, len(p.Envelope) - envelope.Overhead, p.GasTier, hex.EncodeToString(p.Envelope)}
	}
	perr := a.print(v, func(w io.Writer) {
		if show {
			showChain(w, v.Shows, p, input)
		}
		if refused == nil && len(r.Return) > 0 && string(r.Return) != "null" {
			fmt.Fprintf(w, "%s\n", r.Return)
		}
		fmt.Fprintf(w, "receipt: %s, height %d, message %d of cluster %s, gas %d, signed by %d of its seats\n", r.Status, r.Height, r.Seq, r.Cluster, r.GasUsed, r.Seats)
		if refused != nil {
			fmt.Fprintf(w, "refused: %s\n", r.Error)
		}
	})
	if refused != nil {
		return errors.Join(errSilent, perr)
	}
	return perr
}

// A chainView is what a node's operator sees of a command, and everybody who reads the chain.
type chainView struct {
	Cluster    proto.ClusterID `json:"cluster"`
	Size       int             `json:"size_bucket"` // bytes
	GasTier    uint8           `json:"gas_tier"`
	Ciphertext string          `json:"ciphertext"` // the whole envelope
}

// showChain puts side by side what the operator of a node sees and what the caller does.
func showChain(w io.Writer, v *chainView, p *client.Pending, input []byte) {
	left := []string{"cluster        " + v.Cluster.String(), "size bucket    " + strconv.Itoa(v.Size) + " bytes",
		"gas tier       " + strconv.Itoa(int(v.GasTier)), "ciphertext     " + v.Ciphertext[90:118] + "…"}
	right := []string{"cluster        " + p.Cluster.String(), "contract       " + p.Contract.String()[:16] + "…",
		"input          " + string(input[:min(len(input), 60)]), "nonce          " + hex.EncodeToString(p.Nonce[:])}
	fmt.Fprintf(w, "%-48s | %s\n%-48s | %s\n", "what the node's operator sees", "what the caller sees", strings.Repeat("-", 48), strings.Repeat("-", 48))
	for i := range left {
		fmt.Fprintf(w, "%-48s | %s\n", left[i], right[i])
	}
	fmt.Fprintln(w)
}

func runQuery(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala query CONTRACT METHOD [ARG]", "Seals a query to a worker's session key and asks it. Exits 1 when the contract refused.")
	anonymous := f.Bool("anonymous", false, "do not sign: the contract sees no caller")
	minHeight := f.Uint64("min-height", 0, "refuse an answer from an older state")
	granted := f.String("grant", "", "ask in the name of who gave you this read grant: its text, or a file that holds it")
	pos, err := need(f, args, 2, 64)
	if err != nil {
		return ignoreHelp(err)
	}
	c, id, err := a.openContract(pos[0])
	if err != nil {
		return err
	}
	arg, err := argument(ctx, c, id, pos[1], "query", pos[2:])
	if err != nil {
		return err
	}
	o := client.QueryOptions{Anonymous: *anonymous, MinHeight: *minHeight}
	if *granted != "" {
		if o.Grant, err = readGrant(*granted); err != nil {
			return err
		}
	}
	ans, err := c.Query(ctx, id, pos[1], arg, o)
	if err != nil {
		return err
	}
	v := map[string]any{"return": jsonOrString(ans.Return), "height": ans.Height, "state_root": ans.StateRoot, "gas_used": ans.GasUsed, "seq": ans.Seq}
	return a.print(v, func(w io.Writer) { fmt.Fprintf(w, "%s\n", ans.Return) })
}

// jsonOrString is b where it is JSON, else b as a JSON string.
func jsonOrString(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if json.Valid(b) && utf8.Valid(b) {
		return b
	}
	s, _ := json.Marshal(string(b))
	return s
}

// describe asks a contract what it can do.
func describe(ctx context.Context, c *client.Client, id proto.ContractID) (*contract.Description, error) {
	ans, err := c.Query(ctx, id, "describe", nil, client.QueryOptions{Anonymous: true})
	if err != nil {
		return nil, err
	}
	d := new(contract.Description)
	if err := json.Unmarshal(ans.Return, d); err != nil {
		return nil, fmt.Errorf("the contract's description: %w", err)
	}
	return d, nil
}

// argument makes a method's argument of what was typed, checked against the contract's
// own description where it has one.
func argument(ctx context.Context, c *client.Client, id proto.ContractID, method, kind string, words []string) (any, error) {
	d, err := describe(ctx, c, id)
	if err != nil {
		var qe *client.QueryError
		if !errors.As(err, &qe) {
			return nil, err
		}
		return plainArgument(words, nil)
	}
	for _, m := range d.Methods {
		if m.Name != method {
			continue
		}
		if m.Kind == "init" {
			return nil, fmt.Errorf("%s is the constructor, which runs once: use phala deploy", method)
		}
		if m.Kind != kind {
			return nil, fmt.Errorf("%s is a %s: use phala %s", method, m.Kind, map[string]string{"command": "call", "query": "query"}[m.Kind])
		}
		if m.Arg == nil && len(words) > 0 {
			return nil, fmt.Errorf("%s takes no argument", method)
		}
		if m.Arg != nil && len(words) == 0 {
			return nil, fmt.Errorf("%s takes %s", method, typeText(m.Arg))
		}
		return plainArgument(words, m.Arg)
	}
	var names []string
	for _, m := range d.Methods {
		if m.Kind == kind {
			names = append(names, m.Name)
		}
	}
	return nil, fmt.Errorf("%s has no %s %q; it has: %s", d.Name, kind, method, strings.Join(names, ", "))
}

// plainArgument reads words as a value of a type; nil takes any JSON.
func plainArgument(words []string, t *contract.Type) (any, error) {
	if len(words) == 0 {
		return nil, nil
	}
	for _, w := range words {
		if !utf8.ValidString(w) {
			return nil, errors.New("the argument is not UTF-8, and would arrive as another one: encode bytes as text")
		}
	}
	if t != nil && t.Kind == "object" && words[0] != "null" && !strings.HasPrefix(strings.TrimSpace(words[0]), "{") {
		out := map[string]any{}
		for _, w := range words {
			name, value, ok := strings.Cut(w, "=")
			if !ok {
				return nil, fmt.Errorf("%q is not name=value; the argument is %s", w, typeText(t))
			}
			var ft *contract.Type
			for _, f := range t.Fields {
				if f.Name == name {
					ft = f.Type
				}
			}
			if ft == nil {
				return nil, fmt.Errorf("no field %q; the argument is %s", name, typeText(t))
			}
			if _, twice := out[name]; twice {
				return nil, fmt.Errorf("%s is given twice", name)
			}
			v, err := plainArgument([]string{value}, ft)
			if err != nil {
				return nil, err
			}
			out[name] = v
		}
		for _, f := range t.Fields {
			if _, given := out[f.Name]; !given && !f.Optional {
				return nil, fmt.Errorf("%s is missing; the argument is %s", f.Name, typeText(t))
			}
		}
		return out, nil
	}
	if len(words) > 1 {
		return nil, fmt.Errorf("one argument is wanted, %d were given: quote a text with spaces", len(words))
	}
	if t != nil && t.Kind == "account" && !strings.HasPrefix(words[0], `"`) {
		return accountText(words[0])
	}
	text := t != nil && t.Kind == "string"
	if text && !(strings.HasPrefix(words[0], `"`) && json.Valid([]byte(words[0]))) {
		if _, err := base64.StdEncoding.DecodeString(words[0]); t.Go == goBytes && err != nil {
			return nil, fmt.Errorf("%q is not %s", words[0], typeText(t))
		}
		return words[0], nil
	}
	if !json.Valid([]byte(words[0])) {
		if t == nil {
			return words[0], nil
		}
		if t.Kind == "any" {
			return nil, fmt.Errorf("%q is not JSON; here a text has quotes of its own: '\"hi\"'", words[0])
		}
		return nil, fmt.Errorf("%q is not %s", words[0], typeText(t))
	}
	if t != nil {
		// A contract would refuse it too, at its caller's cost.
		if z, ok := plainTypes[t.Go]; ok && json.Unmarshal([]byte(words[0]), reflect.New(reflect.TypeOf(z)).Interface()) != nil {
			return nil, fmt.Errorf("%q is not %s (%s)", words[0], typeText(t), t.Go)
		}
	}
	return json.RawMessage(words[0]), nil
}

// goBytes is the type whose JSON is a string of base64.
const goBytes = "[]uint8"

// plainTypes are Go types whose JSON is known: types with a name of their own may read what
// they like. An int has 64 bits where contracts run.
var plainTypes = map[string]any{"bool": false, "string": "", goBytes: []byte(nil), "float32": float32(0), "float64": float64(0),
	"int": int64(0), "int8": int8(0), "int16": int16(0), "int32": int32(0), "int64": int64(0),
	"uint": uint64(0), "uint8": uint8(0), "uint16": uint16(0), "uint32": uint32(0), "uint64": uint64(0)}

func typeText(t *contract.Type) string {
	switch t.Kind {
	case "object":
		var fields []string
		for _, f := range t.Fields {
			fields = append(fields, f.Name+": "+typeText(f.Type))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case "list":
		return "list of " + typeText(t.Elem)
	case "map":
		return "map of " + typeText(t.Elem)
	case "string":
		if t.Go == goBytes {
			return "bytes in base64"
		}
	}
	return t.Kind
}

func runDescribe(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala describe CONTRACT", "Asks a contract what it can do.")
	pos, err := need(f, args, 1, 1)
	if err != nil {
		return ignoreHelp(err)
	}
	c, id, err := a.openContract(pos[0])
	if err != nil {
		return err
	}
	d, err := describe(ctx, c, id)
	if err != nil {
		return err
	}
	return a.print(d, func(w io.Writer) {
		fmt.Fprintln(w, d.Name)
		for _, m := range d.Methods {
			arg, ret := "", ""
			if m.Arg != nil {
				arg = " " + typeText(m.Arg)
			}
			if m.Return != nil {
				ret = " -> " + typeText(m.Return)
			}
			fmt.Fprintf(w, "  %-8s %s%s%s\n", m.Kind, m.Name, arg, ret)
		}
	})
}

func runDeploy(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala deploy FILE.wasm [ARG]", "Uploads a contract's code, makes a contract of it, and waits until its constructor's receipt is final.")
	name := f.String("name", "", "name under which this devnet remembers it; the file's name without it")
	cluster := f.Uint("cluster", 0, "cluster; the devnet's own without it")
	salt := f.String("salt", "", "decides the contract's id, with the code and the account; a random one without it, so that each deployment is a new contract")
	pos, err := need(f, args, 1, 64)
	if err != nil {
		return ignoreHelp(err)
	}
	module, err := os.ReadFile(pos[0])
	if err != nil {
		return err
	}
	c, s, err := a.open()
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintln(a.err, "preparing the module, as the cluster's workers will")
	}
	known, err := inspect(ctx, module)
	if err != nil {
		return fmt.Errorf("%s: %w", pos[0], err)
	}
	arg, err := initArgument(known, pos[1:])
	if err != nil {
		return err
	}
	if *name == "" {
		*name = strings.TrimSuffix(filepath.Base(pos[0]), ".wasm")
	}
	if *salt == "" {
		*salt = rand.Text()
	}
	id := proto.ClusterID(*cluster)
	if id == 0 {
		id = s.Cluster
	}
	d, err := c.Deploy(ctx, id, module, []byte(*salt), arg, func(done, total int) {
		if !a.json {
			fmt.Fprintf(a.err, "\ruploading %d of %d", done, total)
			if done == total {
				fmt.Fprintln(a.err, "; the cluster's workers prepare the code")
			}
		}
	})
	var refused *client.CallError
	switch {
	case errors.As(err, &refused):
	case err != nil && d != nil:
		return fmt.Errorf("%w; it may start yet, as contract %s: phala describe %s answers when it runs", err, d.Contract, d.Contract)
	case err != nil:
		return err
	default:
		if err := a.remember(*name, d.Contract); err != nil {
			return fmt.Errorf("%s runs, as contract %s, and its name was not kept: %w", *name, d.Contract, err)
		}
	}
	perr := a.print(d, func(w io.Writer) {
		if refused != nil {
			fmt.Fprintf(w, "the constructor ended with %s: %s\n", d.Receipt.Status, d.Receipt.Error)
			return
		}
		fmt.Fprintf(w, "%s is contract %s in cluster %s (height %d, gas %d)\n", *name, d.Contract, d.Cluster, d.Receipt.Height, d.Receipt.GasUsed)
	})
	if refused != nil {
		return errors.Join(errSilent, perr)
	}
	return perr
}
