package api

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/phala-go/phala/pruntime"
)

// Strangers reach the public port. What one of them may hold there ends by itself, and
// what all of them hold together is bounded: the relayer and the sealed files need memory
// and descriptors of the same process.
const (
	// MaxConns is how many connections the public port has at once; others wait.
	MaxConns = 1024
	// patience is how long a request may take to come, and an answer to go.
	patience = 30 * time.Second
	// smallBody is the size up to which a query is read whenever it comes; longer ones are
	// read largeBodies at a time.
	smallBody   = 64<<10 + 4096
	largeBodies = 64
)

// Server returns a server of the public port.
func Server(h http.Handler) *http.Server { return server(h, patience) }

func server(h http.Handler, patience time.Duration) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: min(patience, 5*time.Second), ReadTimeout: patience, WriteTimeout: patience,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
}

// A desk reads what comes with requests.
type desk chan struct{}

// query reads a query. The time that it then takes to answer is bounded by its gas, so the
// clock of the request stops here.
func (d desk) query(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > smallBody {
		select {
		case d <- struct{}{}:
			defer func() { <-d }()
		default:
			return nil, fmt.Errorf("%w: %d long ones are on their way", pruntime.ErrBusy, cap(d))
		}
	}
	b, err := body(w, r, maxQuery)
	if err == nil {
		http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	return b, err
}

// answered starts the time that an answer has to go.
func answered(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
}

// Limit returns a listener that has at most n connections at once.
func Limit(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

// Accept waits for a free place, then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends the listener, and an Accept that waits.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	free func()
}

// Close closes the connection and frees its place.
func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
