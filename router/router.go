package router

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/openpowerquality/box-update-server/update"
)

// A Source says which updates there are and opens them. Its methods are called concurrently.
type Source interface {
	// Catalog returns the updates that there are, never nil. It is asked on each request and must be
	// cheap: the same pointer as before unless something changed.
	Catalog() *update.Catalog

	// Open opens an update of the catalog. The file holds exactly u's bytes and is closed by the
	// caller, which only uses it by offset. An update that is gone is reported as fs.ErrNotExist.
	Open(u update.Update) (*os.File, error)

	// Blocks returns the block list of an update whose digest is known. An update that is gone is
	// reported as fs.ErrNotExist.
	Blocks(u update.Update) (update.Blocks, error)

	// Replaced reports whether the name had other bytes before.
	Replaced(n update.Name) bool
}

// Config says what a router serves and how. Source must be set; all else may be zero.
type Config struct {
	Source  Source
	Product update.Product // update.DefaultProduct if empty
	Health  Health         // nothing to report if nil

	Logger      *slog.Logger // logs nothing if nil
	LogRequests bool         // one line for each request

	// A client that takes fewer than MinRate bytes per second, averaged over StallWindow, is cut.
	// Zero means 64 bytes per second and one minute. Shorter windows cut clients with large receive
	// buffers, whose kernels acknowledge rarely.
	StallWindow time.Duration
	MinRate     int64

	Version string           // of the program, as /healthz tells it
	Now     func() time.Time // time.Now if nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Source == nil {
		return Config{}, errors.New("router: a source is required")
	}
	if c.StallWindow < 0 || c.MinRate < 0 {
		return Config{}, errors.New("router: the stall window and the least rate must not be negative")
	}
	if c.Product == "" {
		c.Product = update.DefaultProduct
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.StallWindow == 0 {
		c.StallWindow = time.Minute
	}
	if c.MinRate == 0 {
		c.MinRate = 64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// A router is the handler of all routes. It is complete under any http.Server, but only a Server sends
// archives by sendfile, cuts stalled clients and sets the timeouts.
type router struct {
	config   Config
	routes   *httprouter.Router
	coded    http.Handler // /updates.json in the coding that the client accepts
	refusals *refusals
	alive    *answer

	// Cache-Control of archives. Nobody on the way may transform them.
	cacheByName, cacheByDigest field

	view     atomic.Pointer[view]
	changing sync.Mutex // held while view is being replaced
	health   atomic.Pointer[healthView]
	asking   sync.Mutex // held while health is being replaced
}

func newRouter(c Config) (*router, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	rt := &router{
		config:        c,
		routes:        httprouter.New(),
		refusals:      newRefusals(),
		alive:         textAnswer(http.StatusOK, "ok"),
		cacheByName:   one("Cache-Control", cacheRevalidate+", no-transform"),
		cacheByDigest: one("Cache-Control", cacheForever+", no-transform"),
	}
	if rt.coded, err = rt.negotiator(); err != nil {
		return nil, err
	}
	rt.register()
	return rt, nil
}

// A handler answers one route. target is the last part of the path where the route takes one.
type handler func(w *reply, r *http.Request, target string) error

func (rt *router) register() {
	for path, h := range map[string]handler{
		"/":               rt.root,
		"/ls":             rt.list,
		"/version":        rt.version,
		"/latest":         rt.latest,
		"/updates.json":   rt.updates,
		"/update/:target": rt.byName,
		"/sha256/:target": rt.byDigest,
		"/livez":          rt.livez,
		"/readyz":         rt.readyz,
		"/healthz":        rt.healthz,
	} {
		rt.routes.GET(path, rt.answered(h))
		rt.routes.HEAD(path, rt.answered(h))
	}
}

// answered returns a route that turns the handler's error into an answer.
func (rt *router) answered(h handler) httprouter.Handle {
	return func(rw http.ResponseWriter, r *http.Request, params httprouter.Params) {
		w := rw.(*reply)
		target := ""
		if len(params) > 0 {
			target = params[0].Value
		}
		if err := h(w, r, target); err != nil {
			rt.refuse(w, r, err)
		}
	}
}

// ServeHTTP answers one request and logs it.
func (rt *router) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &reply{ResponseWriter: rw}
	if !rt.config.LogRequests {
		rt.route(w, r)
		return
	}
	start := time.Now()
	rt.route(w, r)
	rt.log(w, r, time.Since(start))
}

func (rt *router) route(w *reply, r *http.Request) {
	path, ok := routePath(r)
	if !ok {
		rt.refuse(w, r, errNotFound)
		return
	}
	if h, params, _ := rt.routes.Lookup(r.Method, path); h != nil {
		h(w, r, params)
		return
	}
	// Every route takes the same methods.
	if h, _, _ := rt.routes.Lookup(http.MethodGet, path); h != nil {
		rt.refuse(w, r, errMethod)
		return
	}
	rt.refuse(w, r, errNotFound)
}

// routePath returns the path to route by: its leading slashes are one. It reports false for a path
// that no resource has: one with percent-encoding or without a slash at its start.
func routePath(r *http.Request) (string, bool) {
	path := r.URL.Path
	if path == "" {
		return "/", true // of an absolute URI that ends with its host (RFC 9110, section 4.2.3)
	}
	if r.URL.RawPath != "" || path[0] != '/' {
		return "", false
	}
	if len(path) > 1 && path[1] == '/' {
		path = "/" + strings.TrimLeft(path, "/")
	}
	return path, true
}
