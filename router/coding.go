package router

import (
	"bytes"
	"compress/gzip"
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// negotiator returns the handler of /updates.json. Which coding a client accepts is gzhttp's to say;
// the compressed answer is made once, not on each request, so that it has its own length and ETag.
func (rt *router) negotiator() (http.Handler, error) {
	wrap, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false))
	if err != nil {
		return nil, err
	}
	return wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a := rt.current().plain()
		if _, ok := rw.(*gzhttp.GzipResponseWriter); ok {
			a = rt.current().gzipped()
		}
		a.serve(rw.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(*reply), r)
	})), nil
}

// gzipAnswer returns the same answer, compressed.
func gzipAnswer(a *answer) *answer {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(a.body) // a bytes.Buffer takes everything
	_ = z.Close()
	return cachedAnswer("application/json", b.Bytes(), cacheRevalidate,
		one("Vary", "Accept-Encoding"), one("Content-Encoding", "gzip"))
}
