package pherry

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// stale is how old the last good round may be before a relayer counts as not ready.
const stale = 30 * time.Second

// Monitor serves /metrics (Prometheus), /healthz and /readyz: ready while every
// relayer's last good round is recent. more adds to the metrics.
func Monitor(relayers []*Relayer, more ...func(io.Writer)) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		for _, r := range relayers {
			if s := r.State(); time.Since(s.Last) > stale {
				http.Error(w, fmt.Sprintf("%s: no good round within %s: %s", s.Runtime, stale, s.Error), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "relaying")
	})
	m.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# HELP pherry_rounds_total rounds\n# TYPE pherry_rounds_total counter\n")
		for _, r := range relayers {
			s := r.State()
			fmt.Fprintf(w, "pherry_rounds_total{pruntime=%q} %d\n", s.Runtime, s.Rounds)
		}
		fmt.Fprint(w, "# HELP pherry_rounds_failed_total rounds that failed\n# TYPE pherry_rounds_failed_total counter\n")
		for _, r := range relayers {
			s := r.State()
			fmt.Fprintf(w, "pherry_rounds_failed_total{pruntime=%q} %d\n", s.Runtime, s.Failed)
		}
		fmt.Fprint(w, "# HELP pherry_last_good_seconds age of the last good round\n# TYPE pherry_last_good_seconds gauge\n")
		for _, r := range relayers {
			if s := r.State(); !s.Last.IsZero() {
				fmt.Fprintf(w, "pherry_last_good_seconds{pruntime=%q} %.1f\n", s.Runtime, time.Since(s.Last).Seconds())
			}
		}
		for _, f := range more {
			f(w)
		}
	})
	return m
}
