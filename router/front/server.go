// Package front carries HTTP over TCP and TLS for many slow clients. It sends files by sendfile, cuts clients that
// stall and no others, keeps idle connections at little cost, bounds how many an address has, and says which client
// sent a request.
package front

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Timeouts against clients that hold connections without asking for anything.
const (
	headerTimeout  = 10 * time.Second // from a request's first byte to the end of its header
	RequestTimeout = 30 * time.Second // to the end of its body, unless the handler sets a deadline
	maxHeaderBytes = 16 << 10
)

// What one connection with HTTP/2 may take. Each stream costs about what a connection costs.
const (
	MaxStreams          = 32        // at once
	maxConnectionBuffer = 512 << 10 // of bodies that nobody has read yet
	maxStreamBuffer     = 256 << 10
)

// Config says what clients may do with connections.
type Config struct {
	Logger *slog.Logger

	// A client that takes fewer than MinRate bytes per second, averaged over StallWindow, is cut.
	StallWindow time.Duration
	MinRate     int64

	// A connection on which no request comes for IdleTimeout is closed. One address may have MaxIdle of them; one more
	// closes the oldest. Zero means any number.
	IdleTimeout time.Duration
	MaxIdle     int64

	TrustedProxies []netip.Prefix // may stall for long, and their idle connections are not counted
}

// A Server accepts connections over TCP and TLS. Plain serves requests without TLS, and Secure those with TLS; the
// caller supplies their handlers.
type Server struct {
	Plain, Secure *http.Server

	config func() Config
	limit  *idleLimit
}

// NewServer returns a server that does not listen yet. config is called for each new connection; its first Logger and
// IdleTimeout stay in force. plain answers requests without TLS, and secure those with it.
func NewServer(config func() Config, plain, secure http.HandlerFunc) *Server {
	s := &Server{config: config, limit: newIdleLimit(config)}
	s.Plain = newHTTPServer(config(), plain)
	s.Plain.ConnContext, s.Plain.ConnState = withConn, state
	s.Secure = newHTTPServer(config(), func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor > 1 {
			w = newStream(w, config(), r.RemoteAddr)
		}
		secure(w, r)
	})
	s.Secure.ConnState = s.limit.state
	return s
}

// newHTTPServer returns a server with the timeouts, which are the same with and without TLS.
func newHTTPServer(c Config, h http.HandlerFunc) *http.Server {
	return &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  RequestTimeout,
		IdleTimeout:                  c.IdleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          MaxStreams,
			MaxReceiveBufferPerConnection: maxConnectionBuffer,
			MaxReceiveBufferPerStream:     maxStreamBuffer,
		},
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
	}
}

// Serve accepts connections until Shutdown or Close, and then returns http.ErrServerClosed. It closes
// l. Connections that are not TCP are served without sendfile and stall detection.
func (s *Server) Serve(l net.Listener) error {
	idle := newIdleConns(l.Addr(), s.limit)
	resumed := make(chan error, 1)
	go func() { resumed <- s.Plain.Serve(idle) }()
	err := s.Plain.Serve(listener{l, idle.wrap})
	_ = idle.Close() // never fails
	<-resumed
	return err
}

// ServeTLS accepts connections with TLS until Shutdown or Close, and then returns http.ErrServerClosed. It closes l.
// It may be called once, with or without Serve. c supplies the certificates. Clients may use HTTP/2. Stalled clients
// are cut as they are without TLS.
func (s *Server) ServeTLS(l net.Listener, c *tls.Config) error {
	s.Secure.TLSConfig = c.Clone()
	secure := func(c *net.TCPConn) (net.Conn, error) { return newSecureConn(c, s.config) }
	return s.Secure.ServeTLS(listener{l, secure}, "", "")
}

// Shutdown stops listening, closes idle connections and waits for the others until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.Secure.Shutdown(ctx) }()
	err := s.Plain.Shutdown(ctx)
	return errors.Join(err, <-ended)
}

// Close stops listening and closes all connections.
func (s *Server) Close() error { return errors.Join(s.Plain.Close(), s.Secure.Close()) }

// A listener wraps each TCP connection that it accepts.
type listener struct {
	net.Listener
	wrap func(*net.TCPConn) (net.Conn, error)
}

// Accept returns the next connection.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	return l.wrap(tcp)
}
