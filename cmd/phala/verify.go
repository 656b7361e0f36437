package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/verify"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/lightclient/grandpa/verifycli"
	"github.com/phala-go/phala/proto"
)

func runVerify(ctx context.Context, a *app, args []string) error {
	if len(args) > 0 && args[0] == "substrate" {
		if code := verifycli.Run(args[1:], a.out, a.err, time.Now()); code != 0 {
			return errSilent
		}
		return nil
	}
	f := a.flags("phala verify [WORKER|CONTRACT]", `Follows the chain of proof from the validators' signatures to the code in the enclave: of a worker or gatekeeper, of a
contract and all seats of its cluster, or of the chain alone. Prints each link, and stops at the first that does not
hold; exits 1 then. phala verify substrate checks proofs of Substrate chains, offline.`)
	build := f.String("build", "", "measurement that the enclaves must have: its digest, or a file that phala measure takes")
	code := f.String("code", "", "module (.wasm) that the contract must run")
	pos, err := need(f, args, 0, 1)
	if err != nil {
		return ignoreHelp(err)
	}
	s, err := a.network()
	if err != nil {
		return err
	}
	var o verify.Options
	if o.Build, err = expectedBuild(*build); err != nil {
		return err
	}
	if *code != "" {
		module, err := os.ReadFile(*code)
		if err != nil {
			return err
		}
		h := proto.NewCodeManifest(module).Hash()
		o.Code = &h
	}
	c := client.Open(s.Network, nil)
	r, err := verifyNamed(ctx, c, s, pos, o)
	if err != nil {
		return err
	}
	err = a.print(r, func(w io.Writer) {
		for _, l := range r.Links {
			mark := "✓"
			if !l.OK {
				mark = "✗"
			}
			fmt.Fprintf(w, "%s %-20s %s\n", mark, l.Name, l.Detail)
		}
		switch {
		case !r.OK:
			fmt.Fprintln(w, "BROKEN: nothing after this link is proven")
		case r.Simulated:
			fmt.Fprintln(w, "all links hold; but this network's TEEs are SIMULATED and protect nothing")
		default:
			fmt.Fprintln(w, "all links hold")
		}
	})
	if !r.OK {
		return errors.Join(errSilent, err)
	}
	return err
}

// verifyNamed verifies what the argument names: a contract by name or id, a worker by id,
// the chain without one.
func verifyNamed(ctx context.Context, c *client.Client, s *devnet.State, pos []string, o verify.Options) (*verify.Report, error) {
	if len(pos) == 0 {
		return verify.Chain(ctx, c, o), nil
	}
	if _, named := s.Contracts[pos[0]]; !named && len(pos[0]) == 64 && o.Code == nil {
		var id proto.WorkerID
		if err := id.UnmarshalText([]byte(pos[0])); err == nil {
			// An id may be either's. Which one the chain has is proven.
			if _, err := c.Worker(ctx, id); err == nil {
				return verify.Worker(ctx, c, id, o), nil
			}
		}
	}
	id, err := contractID(s, pos[0])
	if err != nil {
		return nil, err
	}
	return verify.Contract(ctx, c, id, o), nil
}

// expectedBuild is a digest, or what phala measure says of a file on the enclave's class of
// TEE and under the network's roots.
func expectedBuild(build string) (func(context.Context, attest.TEE, attest.Roots) (proto.Hash, error), error) {
	if build == "" {
		return nil, nil
	}
	var h proto.Hash
	if b, err := hex.DecodeString(build); err == nil && len(b) == len(h) {
		copy(h[:], b)
		return func(context.Context, attest.TEE, attest.Roots) (proto.Hash, error) { return h, nil }, nil
	}
	file, err := os.ReadFile(build)
	if err != nil {
		return nil, fmt.Errorf("--build is neither a digest nor a file: %w", err)
	}
	return func(ctx context.Context, tee attest.TEE, roots attest.Roots) (h proto.Hash, err error) {
		m, err := measureFile(ctx, file, measureOptions{class: tee.String(), roots: roots})
		if err != nil {
			return h, fmt.Errorf("%s: %w", build, err)
		}
		if m.Class != tee.String() {
			return h, fmt.Errorf("%w: %s is a build for %s, the enclave is in %s", verify.ErrBuild, build, m.Class, tee)
		}
		return h, h.UnmarshalText([]byte(strings.ToLower(m.Digest)))
	}, nil
}
