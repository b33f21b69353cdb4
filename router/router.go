package router

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"
	"github.com/klauspost/compress/gzhttp"

	"github.com/openpowerquality/box-update-server/router/page"
)

// Bounds on the kept answers, in bytes before compression.
const (
	maxMetadata   = 12 << 20
	maxBlockLists = 4 << 20
)

// A router is the handler of all routes. It works under any http.Server, but only a Server sends archives by
// sendfile, cuts stalled clients and sets the timeouts.
type router struct {
	config     Config
	routes     *httprouter.Router                  // by GET, whatever methods a route takes
	negotiate  func(http.Handler) http.HandlerFunc // by which coded.serve learns whether a client accepts gzip
	alive      *answer
	metadata   fileCache
	blockLists fileCache
	bodies     *bodies
	fresh      atomic.Pointer[freshUpdates] // the last one
	metrics    *metrics
	limits     limits
	routed     http.Handler // answers requests by the routes
	plain      http.Handler // answers requests without TLS
	hsts       []string     // Strict-Transport-Security (RFC 6797, section 6.1) of answers over TLS; none: no field
	pages      pages

	// Cache-Control of archives, which proxies must not transform.
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
	rt := &router{
		config:        c,
		routes:        httprouter.New(),
		alive:         textAnswer(http.StatusOK, "ok"),
		metadata:      fileCache{most: maxMetadata},
		blockLists:    fileCache{most: maxBlockLists},
		bodies:        b,
		metrics:       m,
		limits:        newLimits(c),
		cacheByName:   one("Cache-Control", cacheRevalidate+", no-transform"),
		cacheByDigest: one("Cache-Control", cacheForever+", no-transform"),
	}
	if rt.negotiate, err = gzhttp.NewWrapper(gzhttp.EnableZstd(false)); err != nil {
		return nil, err
	}
	if c.HSTS > 0 {
		rt.hsts = []string{"max-age=" + strconv.FormatInt(int64(c.HSTS.Seconds()), 10)}
	}
	rt.register()
	rt.routed = http.HandlerFunc(rt.serve)
	rt.plain = rt.routed
	if c.Plain != nil {
		rt.plain = c.Plain(rt.routed)
	}
	return rt, nil
}

// A handler answers one route. target is the last part of the path where the route takes one.
type handler func(w *reply, r *http.Request, target string) error

// A route answers requests for one pattern of paths.
type route struct {
	handle  handler
	copied  bool // a mirror has it only after its first sync
	changes bool // handle checks the method and the body itself; other routes take GET and HEAD, and no body
	measure *routeMetrics
}

const publishRoute = "/publish/*target"

// routePatterns returns the patterns of all routes.
func routePatterns() []string {
	return append(slices.Sorted(maps.Keys((&router{}).reading())), publishRoute)
}

// reading returns the routes that change nothing, by their patterns.
func (rt *router) reading() map[string]route {
	return map[string]route{
		"/":                 {handle: rt.root},
		"/ls":               {handle: rt.list, copied: true},
		"/version":          {handle: rt.version, copied: true},
		"/latest":           {handle: rt.latest, copied: true},
		"/updates.json":     {handle: rt.updates, copied: true},
		"/update/:target":   {handle: rt.byName, copied: true},
		"/sha256/:target":   {handle: rt.byDigest, copied: true},
		"/targets/:target":  {handle: rt.byPath, copied: true},
		"/metadata/:target": {handle: rt.metadataFile, copied: true},
		"/livez":            {handle: rt.livez},
		"/readyz":           {handle: rt.readyz},
		"/healthz":          {handle: rt.healthz},
		"/metrics":          {handle: rt.metricsPage},
		"/page.css":         {handle: serveAnswer(cachedAnswer("text/css; charset=utf-8", page.Style(), cacheRevalidate))},
		"/page.js":          {handle: serveAnswer(cachedAnswer("text/javascript; charset=utf-8", page.Script(), cacheRevalidate))},
	}
}

// register registers all routes with httprouter, which is used only to find them: the registered function notes the
// route in the reply, and answer calls its handler.
func (rt *router) register() {
	all := rt.reading()
	if rt.config.Publisher != nil {
		all[publishRoute] = route{handle: rt.publish, changes: true}
	}
	for pattern, found := range all {
		found.measure = rt.metrics.routes[pattern]
		rt.routes.GET(pattern, func(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) { w.(*reply).route = &found })
	}
}

// maxRanges is how many ranges of one file are sent at once. A request for more is answered with the whole file (RFC
// 9110, section 14.2): many small or overlapping ones cost far more than that.
const maxRanges = 16

// ServeHTTP answers one request, counts it and logs it.
func (rt *router) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rt.serveLogged(rw, r, rt.routed)
}

// serveLogged answers one request by answer, counts it and logs it.
func (rt *router) serveLogged(rw http.ResponseWriter, r *http.Request, answer http.Handler) {
	w := &reply{ResponseWriter: rw, head: r.Method == http.MethodHead, measure: rt.metrics.routes[otherRoute]}
	if len(r.TransferEncoding) > 0 {
		// No route takes a chunked body. If such a request also has a Content-Length, which net/http hides, a proxy
		// may believe that it ends elsewhere. So no request may follow on this connection (RFC 9112, section 6.1).
		w.Header()["Connection"] = []string{"close"}
	}
	start := time.Now()
	answer.ServeHTTP(w, r)
	took := time.Since(start)
	w.measure.answered(w.status, took)
	if rt.config.Requests != nil {
		rt.log(w, r, took)
	}
}

// serve answers one request by its route. rw is the *reply that serveLogged made.
func (rt *router) serve(rw http.ResponseWriter, r *http.Request) {
	w := rw.(*reply)
	// Paths have one spelling; another one is no resource.
	path, ok := routePath(r)
	if !ok {
		rt.refuse(w, r, errNotFound)
		return
	}
	// All routes are registered as GET, whatever methods they take, so that a wrong method can be told from a wrong
	// path.
	find, params, _ := rt.routes.Lookup(http.MethodGet, path)
	if find == nil {
		rt.refuse(w, r, errNotFound)
		return
	}
	find(w, r, params)
	w.measure = w.route.measure
	target := ""
	if len(params) > 0 {
		target = params[0].Value
	}
	if err := rt.answer(w, r, target); err != nil {
		rt.refuse(w, r, err)
	}
}

// answer answers a request whose route is found.
func (rt *router) answer(w *reply, r *http.Request, target string) error {
	if !w.route.changes {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return methodError("GET, HEAD")
		}
		// A chunked body may have no end.
		if len(r.TransferEncoding) > 0 {
			return errChunked
		}
		// A Range field that is not for GET or not in bytes must be ignored (RFC 9110, section 14.2).
		if v := r.Header["Range"]; len(v) > 0 && (r.Method == http.MethodHead || !strings.HasPrefix(v[0], "bytes=") || strings.Count(v[0], ",") >= maxRanges) {
			r = withoutRange(r)
		}
	}
	// Before its first sync a mirror does not know which updates exist, and clients would believe "not found".
	if m := rt.config.Mirror; w.route.copied && m != nil && !m.Synced() {
		return errNotSynced
	}
	return w.route.handle(w, r, target)
}

// routePath returns the path to route by, in which leading slashes count as one. It reports false for a path that no
// resource has: one with percent-encoding or without a slash at its start.
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
