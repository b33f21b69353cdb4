package router

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Timeouts against clients that hold connections without asking for anything.
const (
	headerTimeout  = 10 * time.Second // from a request's first byte to the end of its header
	requestTimeout = 30 * time.Second // to the end of its body, which no route here wants
	idleTimeout    = 2 * time.Minute  // from one request to the next
	maxHeaderBytes = 16 << 10
)

// A Server serves the routes over TCP. It sends archives by sendfile, cuts idle and slow-header
// connections by timeouts, and downloads only when they stall.
type Server struct {
	http   *http.Server
	router *router
}

// NewServer returns a server that does not listen yet.
func NewServer(c Config) (*Server, error) {
	rt, err := newRouter(c)
	if err != nil {
		return nil, err
	}
	s := &http.Server{
		Handler:                      rt,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		ConnContext:                  withConn,
		ErrorLog:                     slog.NewLogLogger(rt.config.Logger.Handler(), slog.LevelWarn),
	}
	return &Server{s, rt}, nil
}

func (rt *router) closeFiles() {
	if v := rt.view.Load(); v != nil {
		v.files.close()
	}
}

// Serve accepts connections until Shutdown or Close, and then returns http.ErrServerClosed. It closes
// l. Connections that are not TCP are served without sendfile and stall detection.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(listener{l, s.router.config}) }

// Shutdown stops listening, closes idle connections and waits for the others until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.router.closeFiles()
	return s.http.Shutdown(ctx)
}

// Close stops listening and closes all connections.
func (s *Server) Close() error {
	defer s.router.closeFiles()
	return s.http.Close()
}

type listener struct {
	net.Listener
	config Config
}

// Accept returns the next connection, as a conn where it is TCP.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	return newConn(tcp, l.config)
}
