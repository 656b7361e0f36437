package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/inbox"
)

// golden freezes the codes and their HTTP statuses: relayers and clients depend on them.
var golden = []struct {
	err    error
	code   string
	status int
}{
	{pruntime.ErrFatal, "stopped", 503},
	{pruntime.ErrNotReady, "not_ready", 503},
	{pruntime.ErrNotServing, "not_serving", 503},
	{pruntime.ErrBusy, "busy", 429},
	{pruntime.ErrTrustRoot, "trust_root", 409},
	{pruntime.ErrProof, "proof", 409},
	{pruntime.ErrCode, "code", 400},
	{pruntime.ErrRole, "role", 400},
	{cluster.ErrNeedCode, "need_code", 409},
	{cluster.ErrNeedKey, "need_key", 409},
	{pruntime.ErrState, "state", 409},
	{inbox.ErrMalformed, "malformed", 400},
	{inbox.ErrTopics, "topics", 409},
	{inbox.ErrTopicExists, "topics", 409},
	{inbox.ErrFold, "fold", 409},
	{inbox.ErrOrder, "order", 409},
	{inbox.ErrHeight, "height", 409},
	{inbox.ErrNotLater, "not_later", 409},
	{inbox.ErrUnknown, "unknown_kind", 409},
	{comet.ErrMalformed, "block_malformed", 400},
	{comet.ErrWrongChain, "block_wrong_chain", 409},
	{comet.ErrExpired, "block_expired", 409},
	{comet.ErrNotLater, "block_not_later", 409},
	{comet.ErrFromFuture, "block_from_future", 409},
	{comet.ErrValidators, "block_validators", 409},
	{comet.ErrTooFewSigned, "block_too_few_signed", 409},
	{comet.ErrNotTrusted, "block_not_trusted", 409},
	{comet.ErrSignature, "block_signature", 409},
	{comet.ErrNeedNextSet, "block_need_next_set", 409},
	{comet.ErrConflict, "block_conflict", 409},
	{comet.ErrHalted, "block_halted", 409},
	{comet.ErrProof, "proof", 409},
	{errRequest, "request", 400},
	{errors.New("anything else"), "internal", 500},
	// What stops the enclave is told first, whatever it was.
	{fmt.Errorf("%w: %w", pruntime.ErrFatal, comet.ErrConflict), "stopped", 503},
	{fmt.Errorf("%w: %w", pruntime.ErrProof, comet.ErrProof), "proof", 409},
}

func TestCodes(t *testing.T) {
	known := map[string]bool{"internal": true}
	for _, g := range golden {
		err := fmt.Errorf("what happened: %w", g.err)
		w := httptest.NewRecorder()
		fail(w, err)
		var body map[string]Error
		if jerr := json.Unmarshal(w.Body.Bytes(), &body); jerr != nil {
			t.Fatal(jerr)
		}
		if w.Code != g.status || body["error"].Code != g.code || body["error"].Message != err.Error() || Code(err) != g.code {
			t.Errorf("%v: HTTP %d %+v, want %d %s", g.err, w.Code, body["error"], g.status, g.code)
		}
		if w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%v: content type %q", g.err, w.Header().Get("Content-Type"))
		}
		known[g.code] = true
	}
	for _, c := range codes {
		if !known[c.code] && c.err != errNone {
			t.Errorf("code %q is not in the list", c.code)
		}
	}
}
