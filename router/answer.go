package router

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// A field is a header field that is built once. The key is in canonical form; the slice is shared by all answers and
// never changed.
type field struct {
	key    string
	values []string
}

func one(key, value string) field { return field{key, []string{value}} }

// Cache-Control values.
const (
	cacheRevalidate = "no-cache"
	cacheNever      = "no-store"
	cacheForever    = "public, max-age=31536000, immutable"
)

// An answer is a complete answer in memory, which is built once and sent many times.
type answer struct {
	status int
	fields []field
	body   []byte
}

func newAnswer(status int, contentType string, body []byte, fields ...field) *answer {
	return &answer{status, append([]field{
		one("Content-Type", contentType),
		one("Content-Length", strconv.Itoa(len(body))),
		one("X-Content-Type-Options", "nosniff"),
	}, fields...), body}
}

// textAnswer returns a plain-text answer that must not be cached.
func textAnswer(status int, text string, fields ...field) *answer {
	return newAnswer(status, "text/plain", []byte(text), append(fields, one("Cache-Control", cacheNever))...)
}

// cachedAnswer returns a successful answer with an ETag made of its body.
func cachedAnswer(contentType string, body []byte, cache string, fields ...field) *answer {
	return newAnswer(http.StatusOK, contentType, body, append(fields,
		one("Cache-Control", cache), one("Etag", etag(update.Sum(body))))...)
}

func etag(d update.Digest) string { return `"` + d.String() + `"` }

// serve answers a request, which may be conditional or for a range. The status of a must be 200.
func (a *answer) serve(w *reply, r *http.Request) {
	if !conditional(r) {
		a.send(w)
		return
	}
	a.head(w)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}

// send answers in full. net/http drops the body if the request is HEAD.
func (a *answer) send(w *reply) {
	a.head(w)
	w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = w.Write(a.body) // the error stays in w
	}
}

func (a *answer) head(w *reply) {
	h := w.Header()
	for _, f := range a.fields {
		h[f.key] = f.values
	}
}

// conditional reports whether a request has a field that may change the answer's status.
func conditional(r *http.Request) bool {
	for k := range r.Header {
		switch k {
		case "Range", "If-Match", "If-None-Match", "If-Range":
			return true
		}
	}
	return false
}
