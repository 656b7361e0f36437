package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// A Field is a header's field.
type Field struct{ Name, Value string }

// A Request is what a contract asks for.
type Request struct {
	Method string
	URL    string
	Header []Field
	Body   []byte
}

// A Response is the answer.
type Response struct {
	Status int
	Header []Field
	Body   []byte
}

// ErrRequest: the request is malformed, or asks for what is not allowed.
var ErrRequest = errors.New("request refused")

// Limits of a request's form.
const (
	maxURL    = 4 << 10
	maxFields = 64
)

var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true}

// own are fields that belong to the one who sends.
var own = map[string]bool{"host": true, "connection": true, "content-length": true, "transfer-encoding": true, "upgrade": true, "te": true,
	"trailer": true, "keep-alive": true, "proxy-connection": true, "proxy-authorization": true, "expect": true, "accept-encoding": true}

// ParseRequest reads the form of the ABI: method and URL on a line, a line for each
// header field, an empty line, the body. Lines end with \n.
func ParseRequest(b []byte) (*Request, error) {
	head, body, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return nil, fmt.Errorf("%w: no empty line behind the header", ErrRequest)
	}
	lines := strings.Split(string(head), "\n")
	method, target, ok := strings.Cut(lines[0], " ")
	if !ok || !methods[method] {
		return nil, fmt.Errorf("%w: it does not begin with one of GET, HEAD, POST, PUT, PATCH, DELETE and a URL", ErrRequest)
	}
	if err := checkURL(target); err != nil {
		return nil, err
	}
	if len(lines)-1 > maxFields {
		return nil, fmt.Errorf("%w: %d header fields, at most %d", ErrRequest, len(lines)-1, maxFields)
	}
	r := &Request{Method: method, URL: target, Body: body}
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ":")
		value = strings.Trim(value, " ")
		if !ok || !isToken(name) || !isValue(value) {
			return nil, fmt.Errorf("%w: header field %q", ErrRequest, l)
		}
		if own[strings.ToLower(name)] {
			return nil, fmt.Errorf("%w: header field %s is not a contract's to set", ErrRequest, name)
		}
		r.Header = append(r.Header, Field{name, value})
	}
	return r, nil
}

func checkURL(s string) error {
	if len(s) > maxURL {
		return fmt.Errorf("%w: URL of %d bytes, at most %d", ErrRequest, len(s), maxURL)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return fmt.Errorf("%w: the URL has a space, a control character or one that is not ASCII: encode it", ErrRequest)
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the URL does not parse", ErrRequest)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%w: the URL begins with neither https:// nor http://", ErrRequest)
	case u.Hostname() == "" || u.User != nil || u.Opaque != "":
		return fmt.Errorf("%w: the URL has no host, or has a user name", ErrRequest)
	}
	return nil
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func isValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// Marshal writes the form of the ABI: the status, a line for each header field, an empty
// line, the body.
func (r *Response) Marshal() []byte {
	b := strconv.AppendInt(nil, int64(r.Status), 10)
	for _, f := range r.Header {
		b = append(append(append(append(b, '\n'), f.Name...), ": "...), f.Value...)
	}
	return append(append(b, "\n\n"...), r.Body...)
}
