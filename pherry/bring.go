package pherry

import (
	"context"
	"errors"
	"fmt"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// codes fetches what the enclave asks for.
func (r *Relayer) codes(ctx context.Context, st *pruntime.Status) (errs error) {
	for _, h := range st.WantCodes {
		err := r.code(ctx, st, h)
		errs = errors.Join(errs, err)
	}
	return errs
}

// A failure is a code that could not be fetched, and from which height on it is tried
// again.
type failure struct {
	err   error
	until int64
}

func (r *Relayer) code(ctx context.Context, st *pruntime.Status, h proto.Hash) error {
	if f, ok := r.failures[h]; ok && st.TrustedHeight < f.until {
		return f.err
	}
	delete(r.failures, h)
	module, err := FetchCode(ctx, r.Node, h)
	if err != nil {
		if r.failures == nil {
			r.failures = map[proto.Hash]failure{}
		}
		r.failures[h] = failure{err, st.TrustedHeight + resubmit}
		return err
	}
	if _, err := r.Runtime.PutCode(ctx, h, module); err != nil {
		return err
	}
	r.Log.Info("code delivered", "code", h, "bytes", len(module))
	return nil
}

// FetchCode collects a code's chunks from a node, which need not be trusted: manifest
// and chunks are checked against the code's hash.
func FetchCode(ctx context.Context, node *rpc.Client, h proto.Hash) ([]byte, error) {
	b, err := node.Read(ctx, proto.StoreContracts, proto.KeyCode(h))
	if err != nil {
		return nil, err
	}
	code, err := proto.ParseCode(b)
	if err != nil {
		return nil, err
	}
	m := &code.Manifest
	if m.Hash() != h {
		return nil, fmt.Errorf("pherry: the node has the manifest of code %s for code %s", m.Hash(), h)
	}
	module := make([]byte, 0, m.Size)
	for i := range uint32(len(m.Chunks)) {
		packed, err := node.Chunk(ctx, h, i)
		if err != nil {
			return nil, err
		}
		chunk, err := m.Unpack(i, packed)
		if err != nil {
			return nil, fmt.Errorf("pherry: what the node has: %w", err)
		}
		module = append(module, chunk...)
	}
	return module, nil
}

// clusterState brings the state of a cluster that the enclave wants.
func (r *Relayer) clusterState(ctx context.Context, st *pruntime.Status) error {
	w := st.WantState
	if w == nil {
		return nil
	}
	b, err := r.Node.Read(ctx, proto.StoreContracts, proto.KeySnapshot(w.Cluster, w.Epoch))
	if errors.Is(err, rpc.ErrNotFound) {
		return nil // a newer one took its place, of which the enclave hears
	}
	if err != nil {
		return err
	}
	rec, err := proto.ParseSnapshotRecord(b)
	if err != nil {
		return err
	}
	if rec.Snapshot() == nil {
		return fmt.Errorf("pherry: the node has no agreed snapshot of cluster %s, epoch %d", w.Cluster, w.Epoch)
	}
	if !w.Described {
		if st, err = r.Runtime.PutSnapshot(ctx, rec.Snapshot()); err != nil {
			return err
		}
	}
	for st.WantState != nil && st.WantState.Epoch == w.Epoch && len(st.WantState.Pieces) > 0 {
		i := st.WantState.Pieces[0]
		piece, err := r.Node.Piece(ctx, uint32(w.Cluster), w.Epoch, uint32(i))
		if err != nil {
			return err
		}
		if st, err = r.Runtime.PutPiece(ctx, i, piece); err != nil {
			return err
		}
	}
	r.Log.Info("state delivered", "cluster", w.Cluster, "epoch", w.Epoch, "pieces", len(rec.Snapshot().Pieces))
	return nil
}
