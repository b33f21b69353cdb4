package router

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
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
	Source     Source
	Metadata   Metadata       // no /metadata/ if nil
	Signatures Signatures     // no .sig if nil
	Publisher  Publisher      // no /publish/ if nil
	Mirror     Mirror         // what is served is no copy if nil
	Product    update.Product // update.DefaultProduct if empty
	Health     Health         // nothing to report if nil
	Stats      Stats          // nothing is known beyond the catalog if nil

	// NoMetrics leaves out /metrics, and measures nothing.
	NoMetrics bool

	Logger   *slog.Logger // logs nothing if nil
	Requests *slog.Logger // has one line for each request; none if nil

	// MaxDownloads is how many archives are sent at once; who asks for one more is told to come back.
	// MaxBandwidth is how many bytes per second of all archives together are sent. Zero means no limit.
	MaxDownloads int64
	MaxBandwidth int64

	// Plain, where not nil, returns what answers requests that come without TLS instead of the routes, to which
	// it may hand on the ResponseWriter and the request that it got.
	Plain func(routes http.Handler) http.Handler

	// HSTS is for how long browsers are told, over TLS, to come with TLS only. Zero: they aren't.
	HSTS time.Duration

	// A client that takes fewer than MinRate bytes per second, averaged over StallWindow, is cut.
	// Zero means 64 bytes per second and one minute. Shorter windows cut clients with large receive
	// buffers, whose kernels acknowledge rarely.
	StallWindow time.Duration
	MinRate     int64

	// A connection on which no request comes for so long is closed. Zero means two minutes.
	IdleTimeout time.Duration

	// MaxIdle is how many such connections one address may have; one more closes the oldest. Zero means any
	// number.
	MaxIdle int64

	// A body is cut when fewer than BodyRate bytes per second of it arrive, averaged over BodyWindow. Zero
	// means 4 kB per second and 20 seconds. Memory that all bodies share waits for it meanwhile.
	BodyWindow time.Duration
	BodyRate   int64

	// TrustedProxies are reverse proxies, whose X-Forwarded-For says whose a request is.
	TrustedProxies []netip.Prefix

	Version string           // of the program, as /healthz tells it
	Now     func() time.Time // time.Now if nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Source == nil {
		return Config{}, errors.New("router: a source is required")
	}
	if c.MaxDownloads < 0 || c.MaxBandwidth < 0 || c.MaxIdle < 0 || c.HSTS < 0 {
		return Config{}, errors.New("router: limits must not be negative")
	}
	if c.StallWindow < 0 || c.MinRate < 0 || c.BodyWindow < 0 || c.BodyRate < 0 {
		return Config{}, errors.New("router: windows and least rates must not be negative")
	}
	if c.Product == "" {
		c.Product = update.DefaultProduct
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 2 * time.Minute
	}
	if c.StallWindow == 0 {
		c.StallWindow = time.Minute
	}
	if c.MinRate == 0 {
		c.MinRate = 64
	}
	if c.BodyWindow == 0 {
		c.BodyWindow = 20 * time.Second
	}
	if c.BodyRate == 0 {
		c.BodyRate = 4000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// A router is the handler of all routes. It is complete under any http.Server, but only a Server sends
// archives by sendfile, cuts stalled clients and sets the timeouts.
type router struct {
	config     Config
	routes     *httprouter.Router // by GET, whatever methods a route takes
	negotiate  func(http.Handler) http.HandlerFunc
	refusals   *refusals
	alive      *answer
	metadata   metadataFiles
	blockLists blockLists
	bodies     *bodies
	fresh      freshList
	metrics    *metrics // nil: nothing is measured
	limits     limits
	routed     http.Handler // answers requests by the routes
	plain      http.Handler // answers requests without TLS
	hsts       []string     // of answers over TLS; none: no field
	pages      *pages

	// Cache-Control of archives. Nobody on the way may transform them.
	cacheByName, cacheByDigest field

	view     atomic.Pointer[view]
	changing sync.Mutex // held while view is being replaced
	health   atomic.Pointer[healthView]
	asking   sync.Mutex // held while health is being replaced
}

func newRouter(c Config, b *bodies, m *metrics) (*router, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.NoMetrics {
		m = nil
	}
	c.Publisher = m.measured(c.Publisher)
	rt := &router{
		config:        c,
		routes:        httprouter.New(),
		refusals:      newRefusals(),
		alive:         textAnswer(http.StatusOK, "ok"),
		bodies:        b,
		metrics:       m,
		pages:         newPages(),
		limits:        newLimits(c),
		hsts:          hstsOf(c.HSTS),
		cacheByName:   one("Cache-Control", cacheRevalidate+", no-transform"),
		cacheByDigest: one("Cache-Control", cacheForever+", no-transform"),
	}
	if rt.negotiate, err = newNegotiator(); err != nil {
		return nil, err
	}
	rt.register()
	rt.routed = routed{rt}
	rt.plain = rt.routed
	if c.Plain != nil {
		rt.plain = c.Plain(rt.routed)
	}
	return rt, nil
}

// A handler answers one route. target is the last part of the path where the route takes one.
type handler func(w *reply, r *http.Request, target string) error

func (rt *router) register() {
	for path, h := range rt.handlers() {
		rt.routes.GET(path, rt.answered(path, reading(h)))
	}
	if rt.config.Publisher != nil {
		rt.routes.GET(publishRoute, rt.answered(publishRoute, rt.publish))
	}
}

const publishRoute = "/publish/*target"

// routePatterns returns the patterns of all routes.
func routePatterns() []string {
	return append(slices.Sorted(maps.Keys((&router{}).handlers())), publishRoute)
}

// handlers returns the handlers of what changes nothing, by the pattern of the route.
func (rt *router) handlers() map[string]handler {
	return map[string]handler{
		"/":                 rt.root,
		"/ls":               rt.synced(rt.list),
		"/version":          rt.synced(rt.version),
		"/latest":           rt.synced(rt.latest),
		"/updates.json":     rt.synced(rt.updates),
		"/update/:target":   rt.synced(rt.byName),
		"/sha256/:target":   rt.synced(rt.byDigest),
		"/targets/:target":  rt.synced(rt.byPath),
		"/metadata/:target": rt.synced(rt.metadataFile),
		"/livez":            rt.livez,
		"/readyz":           rt.readyz,
		"/healthz":          rt.healthz,
		"/metrics":          rt.metricsPage,
		"/page.css":         rt.pageFile(pageStyle()),
		"/page.js":          rt.pageFile(pageScript()),
	}
}

// maxRanges is how many ranges of one file are sent at once. A request for more is answered with all of it
// (RFC 9110, section 14.2): many small or overlapping ones cost far more than that.
const maxRanges = 16

// reading returns a handler for those requests alone that change nothing. Range counts for GET and in bytes,
// else it has to be ignored (RFC 9110, section 14.2).
func reading(h handler) handler {
	return func(w *reply, r *http.Request, target string) error {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return methodError("GET, HEAD")
		}
		if len(r.TransferEncoding) > 0 {
			return errChunked
		}
		if v := r.Header["Range"]; len(v) > 0 && (r.Method == http.MethodHead || !strings.HasPrefix(v[0], "bytes=") || strings.Count(v[0], ",") >= maxRanges) {
			r = withoutRange(r)
		}
		return h(w, r, target)
	}
}

// answered returns a route that turns the handler's error into an answer.
func (rt *router) answered(route string, h handler) httprouter.Handle {
	measure := rt.metrics.of(route)
	return func(rw http.ResponseWriter, r *http.Request, params httprouter.Params) {
		w := rw.(*reply)
		w.measure = measure
		target := ""
		if len(params) > 0 {
			target = params[0].Value
		}
		if err := h(w, r, target); err != nil {
			rt.refuse(w, r, err)
		}
	}
}

// ServeHTTP answers one request, counts it and logs it.
func (rt *router) ServeHTTP(rw http.ResponseWriter, r *http.Request) { rt.told(rw, r, rt.routed) }

// servePlain answers one request that came without TLS, counts it and logs it.
func (rt *router) servePlain(rw http.ResponseWriter, r *http.Request) { rt.told(rw, r, rt.plain) }

// told has answer answer one request, counts it and logs it.
func (rt *router) told(rw http.ResponseWriter, r *http.Request, answer http.Handler) {
	w := &reply{ResponseWriter: rw, head: r.Method == http.MethodHead, measure: rt.metrics.of(otherRoute)}
	if len(r.TransferEncoding) > 0 {
		// No route takes a chunked body. Where such a request has a Content-Length too, which net/http hides,
		// somebody on the way may see another end of it: nothing may follow (RFC 9112, section 6.1).
		w.Header()["Connection"] = []string{"close"}
	}
	if rt.config.Requests == nil && rt.metrics == nil {
		answer.ServeHTTP(w, r)
		return
	}
	start := time.Now()
	answer.ServeHTTP(w, r)
	took := time.Since(start)
	w.measure.answered(w.status, took)
	if rt.config.Requests != nil {
		rt.log(w, r, took)
	}
}

// A routed is a router for requests that are counted and logged by who calls it, with their *reply.
type routed struct{ *router }

// ServeHTTP answers one request. rw is a *reply.
func (rt routed) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := rw.(*reply)
	path, ok := routePath(r)
	if !ok {
		rt.refuse(w, r, errNotFound)
		return
	}
	if h, params, _ := rt.routes.Lookup(http.MethodGet, path); h != nil {
		h(w, r, params)
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
