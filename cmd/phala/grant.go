package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/proto"
)

func runGrant(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala grant CONTRACT… --to ACCOUNT [--for 24h]",
		"Lets another account query contracts in your name, and prints the grant: hand it to the reader, who asks with\nphala query --grant. Nothing is sent to the network. Keep it: phala revoke takes it.")
	to := f.String("to", "", "who may read: an address, a name from phala keys, or //Name of a development account")
	term := f.String("for", "24h", "how long, as 90m, 24h or 30d; at most 366d")
	pos, err := need(f, args, 1, proto.MaxGrantContracts)
	if err != nil {
		return ignoreHelp(err)
	}
	reader, err := readerAccount(*to)
	if err != nil {
		return err
	}
	d, err := parseTerm(*term)
	if err != nil {
		return err
	}
	c, s, err := a.open()
	if err != nil {
		return err
	}
	var ids []proto.ContractID
	for _, name := range pos {
		id, err := contractID(s, name)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	g, err := c.Grant(ctx, reader, d, ids...)
	if err != nil {
		return err
	}
	text, err := g.MarshalText()
	if err != nil {
		return err
	}
	end := time.UnixMilli(int64(g.NotAfter)).UTC().Format(time.RFC3339)
	v := map[string]any{"grant": string(text), "id": hex.EncodeToString(g.ID[:]), "grantor": addressText(g.Grantor), "reader": addressText(g.Reader),
		"cluster": g.Cluster, "contracts": g.Contracts, "issued": g.Issued, "not_after": g.NotAfter}
	return a.print(v, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n", text)
		// Beside the answer, which may go into a file.
		fmt.Fprintf(a.err, "%s may query %s as %s until %s\n", addressText(g.Reader), strings.Join(pos, ", "), addressText(g.Grantor), end)
	})
}

func runRevoke(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala revoke GRANT | --all", "Ends a grant that you gave, named by its text or a file that holds it, or all that you gave until now.\nReturns when that is final: every worker of the cluster that processed it refuses the grant.")
	all := f.Bool("all", false, "every grant for contracts of the cluster that you gave until now")
	cluster := f.Uint("cluster", 0, "with --all: the cluster; the devnet's own without it")
	pos, err := need(f, args, 0, 1)
	if err != nil {
		return ignoreHelp(err)
	}
	if *all == (len(pos) == 1) {
		return misused(f, "either a grant or --all")
	}
	c, s, err := a.open()
	if err != nil {
		return err
	}
	var r *client.Receipt
	if *all {
		id := proto.ClusterID(*cluster)
		if id == 0 {
			id = s.Cluster
		}
		r, err = c.RevokeAll(ctx, id, client.CallOptions{})
	} else {
		g, gerr := readGrant(pos[0])
		if gerr != nil {
			return gerr
		}
		r, err = c.Revoke(ctx, g, client.CallOptions{})
	}
	if err != nil {
		return err
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "revoked: final at height %d, message %d of cluster %s, signed by %d of its seats\n", r.Height, r.Seq, r.Cluster, r.Seats)
	})
}

// readGrant reads a grant from its text, or from a file that holds it.
func readGrant(s string) (*proto.Grant, error) {
	g := new(proto.Grant)
	err := g.UnmarshalText([]byte(s))
	if err == nil || !errors.Is(err, proto.ErrGrantText) {
		return g, err
	}
	f, ferr := os.Open(s)
	if ferr != nil {
		return nil, fmt.Errorf("%.40q is neither a grant nor a file with one: phala grant makes one: %w", s, ferr)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4*proto.MaxGrant))
	if err != nil {
		return nil, err
	}
	if err := g.UnmarshalText(bytes.TrimSpace(b)); err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return g, nil
}

// readerAccount finds the account that a grant is for.
func readerAccount(s string) ([]byte, error) {
	if s == "" {
		return nil, errors.New("name who may read: --to ACCOUNT")
	}
	account, err := findAccount(s)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	return account, nil
}

// parseTerm reads a duration; unlike time.ParseDuration it knows days.
func parseTerm(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("--for: %q is not a number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("--for: %q is not a time as 90m, 24h or 30d", s)
	}
	return d, nil
}

func addressText(account []byte) string {
	s, err := address.Bech32(address.HRP, account)
	if err != nil {
		return hex.EncodeToString(account)
	}
	return s
}
