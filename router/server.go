package router

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/openpowerquality/box-update-server/router/front"
)

// A Server serves the routes over TCP. It sends archives by sendfile, cuts idle and slow-header
// connections by timeouts, and downloads only when they stall.
type Server struct {
	front   *front.Server
	router  atomic.Pointer[router]
	bodies  *bodies
	metrics *metrics
}

// NewServer returns a server that does not listen yet.
func NewServer(c Config) (*Server, error) {
	s := &Server{bodies: newBodies()}
	s.metrics = newMetrics(s.router.Load)
	rt, err := newRouter(c, s.bodies, s.metrics)
	if err != nil {
		return nil, err
	}
	s.router.Store(rt)
	s.front = front.NewServer(func() front.Config { return s.router.Load().config.Front }, s.servePlain, s.serveSecure)
	return s, nil
}

func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) {
	rt := s.router.Load()
	rt.serveLogged(w, r, rt.plain)
}

func (s *Server) serveSecure(w http.ResponseWriter, r *http.Request) {
	rt := s.router.Load()
	if rt.hsts != nil {
		w.Header()["Strict-Transport-Security"] = rt.hsts
	}
	rt.ServeHTTP(w, r)
}

// Reload applies c to new requests. Requests under way finish with the old configuration. The logger of the
// connections stays, and open connections keep their stall limits. After an error nothing has changed.
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
func (s *Server) Serve(l net.Listener) error { return s.front.Serve(l) }

// ServeTLS accepts connections with TLS until Shutdown or Close, and then returns http.ErrServerClosed. It closes l.
// It may be called once, with or without Serve. c supplies the certificates. Clients may use HTTP/2. Stalled clients
// are cut as they are without TLS.
func (s *Server) ServeTLS(l net.Listener, c *tls.Config) error { return s.front.ServeTLS(l, c) }

// Metrics returns a handler that answers as /metrics does.
func (s *Server) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.router.Load().config.NoMetrics {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", cacheNever)
		s.metrics.handler.ServeHTTP(w, r)
	})
}

// Shutdown stops listening, closes idle connections and waits for the others until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	defer func() { s.router.Load().closeFiles() }()
	return s.front.Shutdown(ctx)
}

// Close stops listening and closes all connections.
func (s *Server) Close() error {
	defer func() { s.router.Load().closeFiles() }()
	return s.front.Close()
}
