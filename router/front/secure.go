package front

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// newSecureConn returns the connection that TLS runs over, on a TCP connection.
func newSecureConn(c *net.TCPConn, config func() Config) (net.Conn, error) {
	inner, err := newConn(c, &idleConns{config: config})
	if err != nil {
		return nil, err
	}
	inner.quiet = false // a connection with TLS has a state that idleConns could not keep
	return &secureConn{Conn: inner}, nil
}

// A secureConn is the connection that TLS runs over. TLS may write while it reads, and so from two goroutines, and it
// needs a write deadline when it closes.
type secureConn struct {
	*Conn
	mu sync.Mutex // held while Conn is written to
}

// Write writes all of p unless the client stalls, or a deadline passes.
func (c *secureConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Conn.Write(p)
}

// SetWriteDeadline sets a deadline besides the windows of the Conn, and ends the current window.
func (c *secureConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetWriteDeadline(time.Time{})
}

// Bounds on one write to a stream, in bytes. A write holds its buffer until the client has taken all of it, so writes
// are small at first and for slow clients.
const (
	LeastStreamPiece = 4 << 10
	mostStreamPiece  = 16 << 10
)

// A stream is the answer to a request over HTTP/2. A client may take everything on the connection except one stream,
// so each piece of a body has a deadline of its own.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
	allowed time.Duration // for a piece
	until   time.Time     // the deadline that is set; zero: none
	piece   int           // the size of the next piece
}

func newStream(w http.ResponseWriter, c Config, peer string) *stream {
	window, _ := c.stallLimit(peer)
	atLeast := time.Duration(float64(LeastStreamPiece) / float64(c.MinRate) * float64(time.Second))
	return &stream{w, http.NewResponseController(w), max(window, atLeast), time.Time{}, LeastStreamPiece}
}

// Unwrap serves http.ResponseController.
func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// SetWriteDeadline sets a deadline, which the next Write replaces.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.until = time.Time{}
	return s.control.SetWriteDeadline(t)
}

// Write writes all of p unless the client stalls.
func (s *stream) Write(p []byte) (n int, err error) {
	for first := true; first || n < len(p); first = false {
		began := time.Now()
		if err := s.extend(began); err != nil {
			return n, err
		}
		part, err := s.ResponseWriter.Write(p[n:min(len(p), n+s.piece)])
		n += part
		if err != nil {
			return n, err
		}
		if time.Since(began) > time.Second {
			s.piece = LeastStreamPiece
		} else {
			s.piece = min(2*s.piece, mostStreamPiece)
		}
	}
	return n, nil
}

// ReadFrom writes all of src, one piece after the other.
func (s *stream) ReadFrom(src io.Reader) (n int64, err error) {
	var buf []byte
	for {
		if len(buf) < s.piece {
			buf = make([]byte, s.piece)
		}
		k, err := src.Read(buf[:s.piece])
		if k > 0 {
			written, err := s.Write(buf[:k])
			n += int64(written)
			if err != nil {
				return n, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// extend gives the next piece its deadline. Setting a deadline costs more than sending a small piece, so it is set
// further ahead, and only now and then.
func (s *stream) extend(now time.Time) error {
	if s.until.Sub(now) >= s.allowed {
		return nil
	}
	s.until = now.Add(s.allowed + s.allowed/8)
	return s.control.SetWriteDeadline(s.until)
}

// passed returns os.ErrDeadlineExceeded after a deadline that is not zero.
func passed(deadline time.Time) error {
	if deadline.IsZero() || time.Now().Before(deadline) {
		return nil
	}
	return os.ErrDeadlineExceeded
}
