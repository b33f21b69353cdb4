package router

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Timeouts against clients that hold connections without asking for anything.
const (
	headerTimeout  = 10 * time.Second // from a request's first byte to the end of its header
	requestTimeout = 30 * time.Second // to the end of its body, where nothing else is said
	maxHeaderBytes = 16 << 10
)

// What one connection with HTTP/2 may take. Each stream costs about what a connection costs.
const (
	maxStreams          = 32
	maxConnectionBuffer = 512 << 10 // of bodies that nobody has read yet
	maxStreamBuffer     = 256 << 10
)

// A Server serves the routes over TCP. It sends archives by sendfile, cuts idle and slow-header
// connections by timeouts, and downloads only when they stall.
type Server struct {
	http    *http.Server
	secure  *http.Server // with TLS
	router  atomic.Pointer[router]
	bodies  *bodies
	idle    *idleConns
	metrics *metrics
}

// NewServer returns a server that does not listen yet.
func NewServer(c Config) (*Server, error) {
	s := &Server{bodies: newBodies()}
	s.idle = newIdleConns(func() Config { return s.router.Load().config })
	s.metrics = newMetrics(s.router.Load)
	rt, err := newRouter(c, s.bodies, s.metrics)
	if err != nil {
		return nil, err
	}
	s.router.Store(rt)
	s.http = newHTTPServer(rt.config, s.answer)
	s.http.ConnContext, s.http.ConnState = withConn, state
	s.secure = newHTTPServer(rt.config, s.answerSecure)
	s.secure.ConnState = s.idle.state
	return s, nil
}

// newHTTPServer returns a server with the timeouts that hold with TLS and without.
func newHTTPServer(c Config, h http.HandlerFunc) *http.Server {
	return &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		IdleTimeout:                  c.IdleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: maxConnectionBuffer,
			MaxReceiveBufferPerStream:     maxStreamBuffer,
		},
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
	}
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	s.router.Load().servePlain(w, r)
}

// Reload answers requests from now on as c says. Requests that are being answered end as they began.
// The logger of the connections stays, and open connections keep their stall limits.
func (s *Server) Reload(c Config) error {
	rt, err := newRouter(c, s.bodies, s.metrics)
	if err != nil {
		return err
	}
	old := s.router.Load()
	rt.limits = rt.limits.following(old.limits)
	s.router.Store(rt)
	old.closeFiles()
	return nil
}

func (rt *router) closeFiles() {
	if v := rt.view.Load(); v != nil {
		v.files.close()
	}
}

// Serve accepts connections until Shutdown or Close, and then returns http.ErrServerClosed. It closes
// l. Connections that are not TCP are served without sendfile and stall detection.
func (s *Server) Serve(l net.Listener) error {
	idle := newLot(l.Addr(), s.idle)
	resumed := make(chan error, 1)
	go func() { resumed <- s.http.Serve(idle) }()
	err := s.http.Serve(listener{l, idle})
	_ = idle.Close() // never fails
	<-resumed
	return err
}

// Metrics answers for the series, as /metrics does.
func (s *Server) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rt := s.router.Load()
		if err := rt.metricsPage(&reply{ResponseWriter: w}, r, ""); err != nil {
			http.NotFound(w, r)
		}
	})
}

// Shutdown stops listening, closes idle connections and waits for the others until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	defer func() { s.router.Load().closeFiles() }()
	ended := make(chan error, 1)
	go func() { ended <- s.secure.Shutdown(ctx) }()
	err := s.http.Shutdown(ctx)
	return errors.Join(err, <-ended)
}

// Close stops listening and closes all connections.
func (s *Server) Close() error {
	defer func() { s.router.Load().closeFiles() }()
	return errors.Join(s.http.Close(), s.secure.Close())
}

// A listener makes a conn of each TCP connection.
type listener struct {
	net.Listener
	lot *lot
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
	return newConn(tcp, l.lot)
}
