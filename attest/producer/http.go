package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// maxAnswer bounds an answer of a local service, in bytes. A dstack event log
// may have some 100 KB.
const maxAnswer = 4 << 20

// jsonClient speaks JSON over HTTP with a service on the same machine.
type jsonClient struct {
	client *http.Client
	base   string
}

func unixClient(path string) *jsonClient {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	return &jsonClient{client: &http.Client{Transport: transport}, base: "http://tee"}
}

// call keeps no connection open behind it: whoever takes over the process that asked has
// no way to the service that this process could not open itself.
func (c *jsonClient) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	defer c.client.CloseIdleConnections()
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("%w: more than %d bytes", ErrAnswer, maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s %s: %s: %s", ErrAnswer, method, path, response.Status, strconv.Quote(string(b[:min(len(b), 200)])))
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return nil
}
