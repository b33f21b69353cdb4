package router

import (
	"bytes"
	"compress/gzip"
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// coded is one answer both plain and compressed with gzip. Each form is made once, not on each request, so that it
// has its own length and ETag.
type coded struct{ plain, gzipped func() *answer }

// newNegotiator returns gzhttp's wrapper for handlers, by which coded.serve learns whether a client accepts gzip.
func newNegotiator() (func(http.Handler) http.HandlerFunc, error) {
	return gzhttp.NewWrapper(gzhttp.EnableZstd(false))
}

// serve answers in the coding that the client accepts.
func (c coded) serve(rt *router, w *reply, r *http.Request) {
	if len(r.Header["Accept-Encoding"]) == 0 {
		c.plain().serve(w, r)
		return
	}
	rt.negotiate(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a := c.plain
		if _, ok := rw.(*gzhttp.GzipResponseWriter); ok {
			a = c.gzipped
		}
		a().serve(w, r)
	})).ServeHTTP(w, r)
}

// gzipAnswer returns the JSON of a, compressed with gzip.
func gzipAnswer(a *answer, cache string) *answer {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(a.body) // a bytes.Buffer takes everything
	_ = z.Close()
	return cachedAnswer("application/json", b.Bytes(), cache,
		one("Vary", "Accept-Encoding"), one("Content-Encoding", "gzip"))
}
