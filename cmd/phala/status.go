package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// A seatStatus is one seat as the chain and the worker itself report it.
type seatStatus struct {
	Worker    proto.WorkerID   `json:"worker"`
	Simulated bool             `json:"simulated"`
	Level     uint8            `json:"level"` // confidence level: 1 is best, 5 worst
	TCB       string           `json:"tcb_status"`
	Platform  string           `json:"platform"`
	Expires   uint64           `json:"expires"`
	Until     time.Time        `json:"evidence_until"`
	Endpoint  string           `json:"endpoint"`
	Answers   bool             `json:"answers"`
	Rules     uint32           `json:"known_rules"` // newest version of the rules that it knows
	Says      *pruntime.Status `json:"says,omitempty"`
	Problem   string           `json:"problem,omitempty"`
}

type networkStatus struct {
	Chain    string          `json:"chain"`
	Height   int64           `json:"height"`
	Age      float64         `json:"age_seconds"` // of the newest verified block
	Cluster  proto.ClusterID `json:"cluster"`
	Epoch    uint64          `json:"epoch"`
	FinalSeq uint64          `json:"final_seq"`
	Root     proto.Hash      `json:"final_root"`
	Rules    rulesStatus     `json:"rules"`
	Seats    []seatStatus    `json:"seats"`
	OK       bool            `json:"ok"`
	Problems []string        `json:"problems,omitempty"`
}

// A rulesStatus is under which rules the cluster runs, and who keeps it from newer ones.
type rulesStatus struct {
	Version uint32           `json:"version"`
	Wanted  uint32           `json:"wanted,omitempty"`  // 0: no other
	Missing []proto.WorkerID `json:"missing,omitempty"` // seats that have not said that they can run under it
	Differ  bool             `json:"differ,omitempty"`  // seats prepared the same codes to different images
}

// stalled says why nothing can become final in a cluster whatever its seats do; "" if it
// can.
func stalled(cl *proto.Cluster) string {
	switch {
	case len(cl.Seats) < cl.Majority():
		return fmt.Sprintf("cluster %s has %d of %d seats, and needs %d for a receipt: more workers must register", cl.ID, len(cl.Seats), cl.SeatsWanted, cl.Majority())
	case cl.EpochKey == [32]byte{}:
		return fmt.Sprintf("cluster %s has no key yet, to which commands are sealed: does a gatekeeper run?", cl.ID)
	}
	return ""
}

func rulesOf(cl *proto.Cluster) rulesStatus {
	st := rulesStatus{Version: cl.Rules, Wanted: cl.Wanted, Missing: cl.RulesMissing()}
	for _, w := range cl.Ready {
		for _, o := range cl.Ready {
			st.Differ = st.Differ || cl.HasSeat(w.Worker) && cl.HasSeat(o.Worker) && w.Seq == o.Seq && w.Images != o.Images
		}
	}
	return st
}

// print says what keeps the cluster from the version that is wanted.
func (r *rulesStatus) print(w io.Writer, seats []seatStatus) {
	if r.Wanted == 0 {
		return
	}
	fmt.Fprintf(w, "rules: version %d is wanted, %d of %d seats are ready\n", r.Wanted, len(seats)-len(r.Missing), len(seats))
	for _, s := range seats {
		switch {
		case !slices.Contains(r.Missing, s.Worker):
		case s.Rules < r.Wanted:
			fmt.Fprintf(w, "  worker %s knows up to version %d: its operator must install a newer release\n", s.Worker, s.Rules)
		default:
			fmt.Fprintf(w, "  worker %s prepares the cluster's codes\n", s.Worker)
		}
	}
	if r.Differ {
		fmt.Fprintln(w, "  seats prepared the same codes to different images: the version does not come as long as they differ")
	}
}

func runStatus(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala status", "Says what is verified about the chain and what the cluster's workers say. Exits 1 when something is wrong.")
	if _, err := need(f, args, 0, 0); err != nil {
		return ignoreHelp(err)
	}
	c, s, err := a.open()
	if err != nil {
		return err
	}
	h, err := c.Sync(ctx)
	if err != nil {
		return err
	}
	st := networkStatus{Chain: s.Chain, Height: h.Height, Age: time.Since(h.Time).Seconds(), Cluster: s.Cluster, OK: true}
	wrong := func(format string, args ...any) {
		st.OK = false
		st.Problems = append(st.Problems, fmt.Sprintf(format, args...))
	}
	if st.Age > 60 {
		wrong("the newest block is %.0f s old: is the node running?", st.Age)
	}
	cl, err := c.Cluster(ctx, s.Cluster)
	if err != nil {
		return err
	}
	st.Epoch, st.FinalSeq, st.Root = cl.Epoch, cl.FinalSeq, cl.FinalRoot
	st.Rules = rulesOf(cl)
	if why := stalled(cl); why != "" {
		wrong("%s", why)
	}
	for _, id := range cl.Seats {
		w, err := c.Worker(ctx, id)
		if err != nil {
			return err
		}
		verdict, err := c.Attestation(ctx, id)
		if err != nil {
			return err
		}
		seat := seatStatus{Worker: id, Simulated: w.Simulated, Level: w.Level, TCB: verdict.Status, Platform: verdict.Platform, Expires: w.Expires, Rules: w.Rules,
			Until: time.UnixMilli(int64(verdict.Until)).UTC()}
		if len(w.Endpoints) > 0 {
			seat.Endpoint = w.Endpoints[0]
			seat.Says, err = workerInfo(ctx, c, client.Target{Worker: id, Endpoint: seat.Endpoint, Registered: w.Registered})
		} else {
			err = errors.New("it registered no endpoint")
		}
		switch {
		case uint64(h.Height) >= w.Expires:
			seat.Problem = fmt.Sprintf("its attestation ended at height %d: its relayer must register it again", w.Expires)
		case err != nil:
			seat.Problem = err.Error()
		case !seat.Says.Serving:
			seat.Problem = seat.Says.Why
		default:
			seat.Answers = true
		}
		if seat.Problem != "" {
			wrong("worker %s: %s", id, seat.Problem)
		}
		st.Seats = append(st.Seats, seat)
	}
	err = a.print(st, func(w io.Writer) {
		fmt.Fprintf(w, "chain %s, verified height %d, %.1f s old\n", st.Chain, st.Height, st.Age)
		fmt.Fprintf(w, "cluster %s: epoch %d, rules version %d, final up to message %d, state root %s\n", st.Cluster, st.Epoch, st.Rules.Version, st.FinalSeq, st.Root)
		st.Rules.print(w, st.Seats)
		for _, s := range st.Seats {
			tee := fmt.Sprintf("confidence level %d (%s, %s)", s.Level, s.TCB, s.Platform)
			if s.Simulated {
				tee = "SIMULATED TEE, protects nothing; " + tee
			}
			what := "serving"
			if !s.Answers {
				what = "NOT serving"
			}
			fmt.Fprintf(w, "  worker %s at %s: %s, %s\n", s.Worker, s.Endpoint, what, tee)
		}
		for _, p := range st.Problems {
			fmt.Fprintf(w, "problem: %s\n", p)
		}
	})
	if !st.OK {
		return errors.Join(errSilent, err)
	}
	return err
}

func workerInfo(ctx context.Context, c *client.Client, t client.Target) (*pruntime.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	via, base, err := c.Reach(ctx, t)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/info", nil)
	if err != nil {
		return nil, err
	}
	res, err := via.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	st := new(pruntime.Status)
	return st, json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(st)
}
