package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/inbox"
	"github.com/phala-go/phala/pruntime/keyring"
)

// Limits of request bodies, bytes.
const (
	maxQuery = 1<<20 + 4096
	maxSmall = 1 << 20
)

// Code returns the stable code of an error.
func Code(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "internal"
}

var codes = []struct {
	err    error
	code   string
	status int
}{
	{pruntime.ErrFatal, "stopped", http.StatusServiceUnavailable},
	{keyring.ErrGone, "stopped", http.StatusServiceUnavailable},
	{pruntime.ErrNotReady, "not_ready", http.StatusServiceUnavailable},
	{pruntime.ErrNotServing, "not_serving", http.StatusServiceUnavailable},
	{pruntime.ErrBusy, "busy", http.StatusTooManyRequests},
	{pruntime.ErrTrustRoot, "trust_root", http.StatusConflict},
	{pruntime.ErrProof, "proof", http.StatusConflict},
	{pruntime.ErrCode, "code", http.StatusBadRequest},
	{pruntime.ErrState, "state", http.StatusConflict},
	{pruntime.ErrRole, "role", http.StatusBadRequest},
	{cluster.ErrNeedCode, "need_code", http.StatusConflict},
	{cluster.ErrNeedKey, "need_key", http.StatusConflict},
	{inbox.ErrMalformed, "malformed", http.StatusBadRequest},
	{inbox.ErrTopics, "topics", http.StatusConflict},
	{inbox.ErrFold, "fold", http.StatusConflict},
	{inbox.ErrOrder, "order", http.StatusConflict},
	{inbox.ErrHeight, "height", http.StatusConflict},
	{inbox.ErrNotLater, "not_later", http.StatusConflict},
	{inbox.ErrTopicExists, "topics", http.StatusConflict},
	{inbox.ErrUnknown, "unknown_kind", http.StatusConflict},
	{comet.ErrMalformed, "block_malformed", http.StatusBadRequest},
	{comet.ErrWrongChain, "block_wrong_chain", http.StatusConflict},
	{comet.ErrExpired, "block_expired", http.StatusConflict},
	{comet.ErrNotLater, "block_not_later", http.StatusConflict},
	{comet.ErrFromFuture, "block_from_future", http.StatusConflict},
	{comet.ErrValidators, "block_validators", http.StatusConflict},
	{comet.ErrTooFewSigned, "block_too_few_signed", http.StatusConflict},
	{comet.ErrNotTrusted, "block_not_trusted", http.StatusConflict},
	{comet.ErrSignature, "block_signature", http.StatusConflict},
	{comet.ErrNeedNextSet, "block_need_next_set", http.StatusConflict},
	{comet.ErrConflict, "block_conflict", http.StatusConflict},
	{comet.ErrHalted, "block_halted", http.StatusConflict},
	{comet.ErrProof, "proof", http.StatusConflict},
	{errRequest, "request", http.StatusBadRequest},
	{errNone, "none", http.StatusNotFound},
}

var (
	errRequest = errors.New("api: bad request")
	errNone    = errors.New("api: there is none")
)

// Conflict is the answer of GET /v1/conflict: the encodings of package comet.
type Conflict struct {
	Trusted []byte `json:"trusted"` // Header
	Other   []byte `json:"other"`   // LightBlock
}

// An Error is the body of a failed request.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	for _, c := range codes {
		if errors.Is(err, c.err) {
			status = c.status
			break
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]Error{"error": {Code(err), err.Error()}})
}

func reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errRequest, err)
	}
	return b, nil
}

// Public serves clients.
func Public(rt *pruntime.Runtime) http.Handler {
	m := http.NewServeMux()
	public(m, rt)
	return cors(m)
}

func public(m *http.ServeMux, rt *pruntime.Runtime) {
	m.HandleFunc("GET /v1/info", func(w http.ResponseWriter, _ *http.Request) { reply(w, rt.Status(), nil) })
	m.HandleFunc("GET /v1/certificate", func(w http.ResponseWriter, r *http.Request) {
		c, err := rt.Certificate(r.Context())
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/pkix-cert")
		w.Write(c.Certificate[0])
	})
	m.HandleFunc("GET /v1/conflict", func(w http.ResponseWriter, _ *http.Request) {
		trusted, other, ok := rt.Conflict()
		if !ok {
			fail(w, errNone)
			return
		}
		reply(w, Conflict{trusted, other}, nil)
	})
	d := make(desk, largeBodies)
	m.HandleFunc("POST /v1/query", func(w http.ResponseWriter, r *http.Request) {
		b, err := d.query(w, r)
		if err == nil {
			b, err = rt.Query(r.Context(), b)
		}
		answered(w)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(b)
	})
}

// cors lets web pages ask: everything on the public port is public or sealed.
func cors(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Registration is the answer of GET /v1/registration.
type Registration struct {
	Registration []byte `json:"registration"`
	Signature    []byte `json:"signature"`
	Evidence     []byte `json:"evidence"`
}

// Outbox is the answer of GET /v1/outbox.
type Outbox struct {
	First   uint64        `json:"first"`
	Entries []OutboxEntry `json:"entries"`
}

// OutboxEntry is one signed entry.
type OutboxEntry struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

// Acknowledge is the body of POST /v1/acknowledge.
type Acknowledge struct {
	Position []byte `json:"position"` // proto.Cursor
	IAVL     []byte `json:"iavl"`
	Store    []byte `json:"store"`
}

// Block is an element of the body of POST /v1/blocks: a block's hash, with the proof of
// the chain's record of it.
type Block struct {
	Height uint64     `json:"height"`
	Hash   proto.Hash `json:"hash"`
	IAVL   []byte     `json:"iavl"`
	Store  []byte     `json:"store"`
}

// Private serves the relayer and the operator.
func Private(rt *pruntime.Runtime) http.Handler {
	m := http.NewServeMux()
	public(m, rt)
	binary := func(pattern string, limit int64, f func(*http.Request, []byte) error) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			b, err := body(w, r, limit)
			if err == nil {
				err = f(r, b)
			}
			reply(w, rt.Status(), err)
		})
	}
	m.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, rt.Status(), nil) })
	binary("POST /v1/trust-header", maxSmall, func(_ *http.Request, b []byte) error { return rt.TrustHeader(b) })
	binary("POST /v1/advance", inbox.MaxAdvance, func(_ *http.Request, b []byte) error { return rt.Advance(b) })
	binary("POST /v1/messages", inbox.MaxAdvance, func(_ *http.Request, b []byte) error { return rt.Hold(b) })
	binary("POST /v1/headers", inbox.MaxAdvance, func(_ *http.Request, b []byte) error { return rt.SyncHeaders(b) })
	binary("PUT /v1/code/{hash}", proto.MaxCode, func(r *http.Request, b []byte) error {
		var h proto.Hash
		if err := h.UnmarshalText([]byte(r.PathValue("hash"))); err != nil {
			return fmt.Errorf("%w: %v", errRequest, err)
		}
		return rt.PutCode(h, b)
	})
	binary("PUT /v1/state", maxSmall, func(_ *http.Request, b []byte) error { return rt.PutSnapshot(b) })
	binary("PUT /v1/state/{piece}", proto.PieceSize, func(r *http.Request, b []byte) error {
		i, err := strconv.Atoi(r.PathValue("piece"))
		if err != nil {
			return fmt.Errorf("%w: piece %q", errRequest, r.PathValue("piece"))
		}
		return rt.PutPiece(i, b)
	})
	binary("POST /v1/acknowledge", maxSmall, func(_ *http.Request, b []byte) error {
		var a Acknowledge
		if err := json.Unmarshal(b, &a); err != nil {
			return fmt.Errorf("%w: %v", errRequest, err)
		}
		position, err := proto.ParseCursor(a.Position)
		if err != nil {
			return fmt.Errorf("%w: %v", errRequest, err)
		}
		return rt.Acknowledge(position, comet.StoreProof{IAVL: a.IAVL, Store: a.Store})
	})
	binary("POST /v1/blocks", maxSmall, func(_ *http.Request, b []byte) error {
		var list []Block
		if err := json.Unmarshal(b, &list); err != nil {
			return fmt.Errorf("%w: %v", errRequest, err)
		}
		var blocks []pruntime.BlockProof
		for _, x := range list {
			blocks = append(blocks, pruntime.BlockProof{Height: x.Height, Hash: x.Hash, Proof: comet.StoreProof{IAVL: x.IAVL, Store: x.Store}})
		}
		return rt.ConfirmBlocks(blocks)
	})
	m.HandleFunc("GET /v1/registration", func(w http.ResponseWriter, r *http.Request) {
		reg, sig, ev, err := rt.Register(r.Context())
		reply(w, Registration{reg, sig, ev}, err)
	})
	m.HandleFunc("GET /v1/outbox", func(w http.ResponseWriter, r *http.Request) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || limit < 1 || limit > proto.MaxEntries {
			limit = proto.MaxEntries
		}
		first, entries, err := rt.Outbox(limit)
		out := Outbox{First: first, Entries: []OutboxEntry{}}
		for _, e := range entries {
			out.Entries = append(out.Entries, OutboxEntry{e.Payload, e.Signature[:]})
		}
		reply(w, out, err)
	})
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if s := rt.Status(); s.Fatal != "" {
			http.Error(w, s.Fatal, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := rt.Status(); !s.Serving {
			http.Error(w, s.Why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "serving")
	})
	m.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { metrics(w, rt.Status()) })
	return m
}

// metrics writes the Prometheus text format.
func metrics(w io.Writer, s pruntime.Status) {
	gauge := func(name, help string, v any) {
		fmt.Fprintf(w, "# HELP pruntime_%s %s\n# TYPE pruntime_%s gauge\npruntime_%s %v\n", name, help, name, name, v)
	}
	flag := map[bool]int{true: 1}
	gauge("serving", "1 while the enclave answers", flag[s.Serving])
	gauge("trusted_height", "newest verified header", s.TrustedHeight)
	gauge("height", "height up to which messages are delivered", s.Height)
	gauge("cluster_seq", "last processed message of the cluster", s.Seq)
	gauge("waiting", "messages delivered and not yet processed", s.Waiting)
	gauge("rules", "version of the rules under which the cluster runs here, 0 before its state is here", s.Rules)
	gauge("known_rules", "newest version of the rules that this build knows, 0 for a gatekeeper", s.KnownRules)
	gauge("outbox", "entries that the chain does not have", s.Outbox.Count)
	gauge("simulated", "1 when the TEE is simulated and protects nothing", flag[s.Simulated])
}
