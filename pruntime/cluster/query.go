package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// Query runs a query, whose signature was checked, on a committed state. It never
// writes. height and time are of a header that is newer than the state.
func (c *Cluster) Query(ctx context.Context, s *Snapshot, q *proto.Query, height, time uint64) (status proto.Status, out []byte, gas uint64, detail string, err error) {
	caller, reader := q.From, []byte(nil)
	if len(q.Grant) > 0 {
		g, why := c.authorise(s, q, time)
		if g == nil {
			return proto.StatusNotAuthorised, nil, 0, why, nil
		}
		caller, reader = g.Grantor, g.Reader
	}
	rec, ok := s.contract(q.To)
	if !ok {
		return proto.StatusNoContract, nil, 0, fmt.Sprintf("no contract %s in cluster %s", q.To, c.id), nil
	}
	limit := uint64(QueryGas)
	if q.GasLimit != 0 {
		limit = min(limit, q.GasLimit)
	}
	x := &exec{c: c, o: &overlay{m: s.m, rules: c.rules(s.m), known: c.programs.Rules}, height: height, time: time, random: func(uint64) io.Reader { return c.rng }, query: true}
	res, err := x.run(ctx, &call{entry: engine.EntryQuery, to: q.To, rec: rec, caller: caller, reader: reader, input: q.Input, gas: limit})
	if errors.Is(err, ErrNeedCode) {
		return proto.StatusCodeFailed, nil, res.GasUsed, notPrepared, nil // its own, or of a contract that it calls
	}
	if err != nil {
		status, detail, err = statusOf(err)
		return status, nil, res.GasUsed, detail, err
	}
	return proto.StatusOK, res.Output, res.GasUsed, "", nil
}

const notPrepared = "the worker is still preparing this contract's code: ask again"
