package main

import (
	"context"
	"fmt"
	"io"

	"github.com/phala-go/phala/client"
)

func runEvents(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala events CONTRACT", "Shows what a contract emitted: its public events, those that are sealed to this account, and, for who deployed\nit, its log. Each is checked against a final receipt.")
	from := f.Uint64("from", 0, "first message of the contract's cluster to look at; the last 100 without it")
	to := f.Uint64("to", 0, "last message; up to the last final one without it")
	pos, err := need(f, args, 1, 1)
	if err != nil {
		return ignoreHelp(err)
	}
	c, id, err := a.openContract(pos[0])
	if err != nil {
		return err
	}
	ct, err := c.Contract(ctx, id)
	if err != nil {
		return err
	}
	cl, err := c.Cluster(ctx, ct.Cluster)
	if err != nil {
		return err
	}
	if *to == 0 || *to > cl.FinalSeq {
		*to = cl.FinalSeq
	}
	if *from == 0 && *to > 100 {
		*from = *to - 99
	}
	events, err := c.Events(ctx, ct.Cluster, *from, *to)
	if err != nil {
		return err
	}
	type shown struct {
		client.Event
		Data any `json:"data"`
	}
	out := []shown{}
	for _, e := range events {
		if e.Contract == id {
			out = append(out, shown{e, jsonOrString(e.Data)})
		}
	}
	return a.print(out, func(w io.Writer) {
		for _, e := range out {
			kind := "public"
			switch {
			case e.Log:
				kind = "log"
			case e.Sealed:
				kind = "sealed"
			}
			fmt.Fprintf(w, "%d.%d %s %s\n", e.Seq, e.Index, kind, e.Event.Data)
		}
	})
}
