package contract

import (
	"errors"
	"strconv"
	"strings"
)

// An HTTPField is a header's field.
type HTTPField struct{ Name, Value string }

// An HTTPRequest is a request that a query makes.
type HTTPRequest struct {
	Method string // GET without it
	URL    string // https://…, or http://…, which anybody on the way can read and change
	Header []HTTPField
	Body   []byte
}

// An HTTPResponse is the answer to a request, whatever its status.
type HTTPResponse struct {
	Status int
	Header []HTTPField
	Body   []byte
}

// Fetch makes an HTTP request. The worker's host carries it: with https it sees and
// decides to whom, when and whether, but reads and forges nothing. There are limits to
// size, time, number and redirects, and no way to private addresses (docs/abi.md).
func (q *Query) Fetch(r *HTTPRequest) (*HTTPResponse, error) {
	req, err := r.encode()
	if err != nil {
		return nil, err
	}
	status, answer := q.host.Fetch(req)
	if status != 0 {
		_, detail := failure(answer)
		return nil, errors.New("fetch " + r.URL + ": " + detail)
	}
	return decodeResponse(answer)
}

// encode writes method and URL, a line for each field, an empty line and the body.
func (r *HTTPRequest) encode() ([]byte, error) {
	method := r.Method
	if method == "" {
		method = "GET"
	}
	b := []byte(method + " " + r.URL + "\n")
	for _, f := range r.Header {
		b = append(b, f.Name+": "+f.Value+"\n"...)
	}
	if strings.Count(string(b), "\n") != 1+len(r.Header) {
		return nil, errors.New("a line break in an HTTP request's method, URL or header")
	}
	return append(append(b, '\n'), r.Body...), nil
}

func decodeResponse(b []byte) (*HTTPResponse, error) {
	bad := errors.New("malformed HTTP answer")
	head, body, ok := strings.Cut(string(b), "\n\n")
	if !ok {
		return nil, bad
	}
	lines := strings.Split(head, "\n")
	status, err := strconv.Atoi(lines[0])
	if err != nil {
		return nil, bad
	}
	r := &HTTPResponse{Status: status, Body: []byte(body)}
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ": ")
		if !ok {
			return nil, bad
		}
		r.Header = append(r.Header, HTTPField{name, value})
	}
	return r, nil
}
