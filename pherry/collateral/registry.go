package collateral

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/proto"
)

// gasUpdate is the chain's gas of one update.
const gasUpdate = 2_500_000

// ErrPolicy: the chain's policy does not take, or will not take, such a worker.
var ErrPolicy = errors.New("collateral: the chain's policy")

// Registry is the registry of a chain, through a node and an operator's account. What it
// reads is the node's word: it decides what is worth a transaction and a warning, and the
// chain decides anew.
type Registry struct {
	Node     *rpc.Client
	Operator *tx.Sender
}

// read reads a value; nil where there is none.
func (r *Registry) read(ctx context.Context, key []byte) ([]byte, error) {
	b, err := r.Node.Read(ctx, proto.StoreRegistry, key)
	if errors.Is(err, rpc.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// Held is the collateral that the chain has under a key.
func (r *Registry) Held(ctx context.Context, key string) (*attest.Collateral, error) {
	b, err := r.read(ctx, proto.KeyCollateral(key))
	if b == nil || err != nil {
		return nil, err
	}
	return attest.ParseCollateral(b)
}

// Greatest is the greatest TCB evaluation number of a class that governance takes.
func (r *Registry) Greatest(ctx context.Context, tee attest.TEE) (uint32, error) {
	params := struct {
		TCBEvaluations map[string]uint32 `json:"tcb_evaluations"`
	}{}
	if err := r.readJSON(ctx, []byte("params"), &params); err != nil {
		return 0, err
	}
	if greatest, ok := params.TCBEvaluations[tee.String()]; ok {
		return greatest, nil
	}
	return math.MaxUint32, nil
}

// Update sends newer collateral.
func (r *Registry) Update(ctx context.Context, c *attest.Collateral) error {
	pub := r.Operator.Key.Public()
	_, err := r.Operator.Send(ctx, gasUpdate, tx.UpdateCollateral(pub[:], c.Marshal()))
	return err
}

// Admits compares a verdict with the registry's policy: the worst level, what is denied,
// now or from a height to come, and the floors. The allow-list is about software, which
// no vendor's publication changes, and is not looked at.
func (r *Registry) Admits(ctx context.Context, v *attest.Verdict) error {
	var params struct {
		WorstLevel uint8 `json:"worst_level"`
	}
	if err := r.readJSON(ctx, []byte("params"), &params); err != nil {
		return err
	}
	if params.WorstLevel > 0 && v.ConfidenceLevel > params.WorstLevel {
		return fmt.Errorf("%w: confidence level %d (%s), at worst %d", ErrPolicy, v.ConfidenceLevel, v.TCBStatus, params.WorstLevel)
	}
	for _, s := range subjects(v) {
		b, err := r.read(ctx, []byte("n/"+s[0]+"/"+s[1]))
		if err != nil {
			return err
		}
		if len(b) == 8 {
			return fmt.Errorf("%w: %s %s is denied from height %d", ErrPolicy, s[0], s[1], binary.BigEndian.Uint64(b))
		}
	}
	return r.aboveFloor(ctx, v)
}

func (r *Registry) readJSON(ctx context.Context, key []byte, into any) error {
	b, err := r.read(ctx, key)
	if b == nil || err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("collateral: %s of the registry: %w", key, err)
	}
	return nil
}

// subjects are what a worker may be denied for, as the registry names them.
func subjects(v *attest.Verdict) [][2]string {
	out := [][2]string{{"machine", hex.EncodeToString(v.MachineID[:])}}
	if v.TEE == attest.SNP {
		out = append(out, [2]string{"product", string(v.Product)})
	} else {
		out = append(out, [2]string{"fmspc", hex.EncodeToString(v.FMSPC[:])}, [2]string{"pck", hex.EncodeToString(v.PCKSerial)})
	}
	for _, a := range v.Advisories {
		out = append(out, [2]string{"advisory", a})
	}
	return out
}

func (r *Registry) aboveFloor(ctx context.Context, v *attest.Verdict) error {
	platform := v.TEE.String()
	if v.TEE == attest.SNP {
		platform += "/" + string(v.Product)
	}
	var floor struct {
		Evaluation uint32 `json:"evaluation"`
		TCB        string `json:"tcb"`
	}
	if err := r.readJSON(ctx, []byte("g/"+platform), &floor); err != nil {
		return err
	}
	least, err := hex.DecodeString(floor.TCB)
	if err != nil {
		return fmt.Errorf("collateral: floor of %s: %w", platform, err)
	}
	if v.Evaluation < floor.Evaluation {
		return fmt.Errorf("%w: TCB evaluation number %d, at least %d", ErrPolicy, v.Evaluation, floor.Evaluation)
	}
	for i, n := range least {
		if i >= len(v.TCB) || v.TCB[i] < n {
			return fmt.Errorf("%w: versions %x, at least %x", ErrPolicy, v.TCB, least)
		}
	}
	return nil
}

// Metrics writes what the newest round found, in Prometheus' text format.
func (k *Keeper) Metrics(w io.Writer) {
	r := k.Report()
	fmt.Fprint(w, "# HELP pherry_collateral_expires_seconds until what the chain holds for a platform ends; negative or missing: it has ended\n# TYPE pherry_collateral_expires_seconds gauge\n")
	var keys []string
	for key, at := range r.Expiry {
		if !at.IsZero() {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		fmt.Fprintf(w, "pherry_collateral_expires_seconds{platform=%q} %.0f\n", key, r.Expiry[key].Sub(k.Now()).Seconds())
	}
	fmt.Fprintf(w, "# HELP pherry_collateral_problems problems of the newest round\n# TYPE pherry_collateral_problems gauge\npherry_collateral_problems %d\n", len(r.Problems))
	fmt.Fprint(w, "# HELP pherry_worker_excluded 1 for a worker that the chain does not take now, or will not take after the next TCB recovery\n# TYPE pherry_worker_excluded gauge\n")
	for _, x := range r.Warnings {
		when := "next"
		if x.Now {
			when = "now"
		}
		fmt.Fprintf(w, "pherry_worker_excluded{worker=%q,platform=%q,when=%q} 1\n", x.Worker, x.Key, when)
	}
}

var _ Chain = (*Registry)(nil)
