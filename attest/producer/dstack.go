package producer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/phala-go/phala/attest"
)

// dstackSockets are the places of the guest agent's socket, tried in turn.
var dstackSockets = []string{
	"/var/run/dstack.sock", "/run/dstack.sock",
	"/var/run/dstack/dstack.sock", "/run/dstack/dstack.sock",
}

// dstack talks to the guest agent of a dstack virtual machine. The variable by
// which its own tools can be pointed at a simulator is not looked at.
type dstack struct{ http *jsonClient }

func openDstack(ctx context.Context, socket string, o Options) (Producer, error) {
	places := dstackSockets
	if socket != "" {
		places = []string{socket}
	}
	for _, path := range places {
		path = filepath.Join(o.root, path)
		if _, err := os.Stat(path); err != nil {
			if missing(err) {
				continue
			}
			return nil, fmt.Errorf("dstack guest agent: %w", err)
		}
		d := &dstack{unixClient(path)}
		var info struct {
			AppID string `json:"app_id"`
		}
		if err := d.http.call(ctx, http.MethodPost, "/Info", struct{}{}, &info); err != nil {
			return nil, fmt.Errorf("dstack guest agent at %s: %w", path, err)
		}
		return d, nil
	}
	return nil, fmt.Errorf("%w: no dstack guest agent at %s", ErrNoTEE, strings.Join(places, ", "))
}

func (d *dstack) Name() string    { return "dstack" }
func (d *dstack) TEE() attest.TEE { return attest.TDX }
func (d *dstack) Simulated() bool { return false }

func (d *dstack) Evidence(ctx context.Context, reportData [64]byte) (attest.Evidence, error) {
	var out struct {
		Quote string `json:"quote"`
	}
	in := map[string]string{"report_data": hex.EncodeToString(reportData[:])}
	if err := d.http.call(ctx, http.MethodPost, "/GetQuote", in, &out); err != nil {
		return attest.Evidence{}, fmt.Errorf("dstack guest agent: %w", err)
	}
	quote, err := hex.DecodeString(strings.TrimPrefix(out.Quote, "0x"))
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("%w: quote: %w", ErrAnswer, err)
	}
	return finish(attest.TDX, quote, nil, reportData)
}

// SealingKey refuses: the keys that dstack's agent gives come from a key
// management service, whose operator has them too.
func (d *dstack) SealingKey(context.Context, []byte) ([32]byte, error) {
	return [32]byte{}, errors.Join(ErrNoSealing, errors.New("dstack's keys come from its key management service"))
}
