package router

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzhttp"

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

// gzipped returns a, compressed with gzip. If a has an ETag, the result has one of its own.
func (a *answer) gzipped() *answer {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(a.body) // a bytes.Buffer takes everything
	_ = z.Close()
	out := &answer{a.status, append(slices.Clone(a.fields), one("Content-Encoding", "gzip")), b.Bytes()}
	for i, f := range out.fields {
		switch f.key {
		case "Content-Length":
			out.fields[i] = one(f.key, strconv.Itoa(b.Len()))
		case "Etag":
			out.fields[i] = one(f.key, etag(update.Sum(b.Bytes())))
		}
	}
	return out
}

// coded is one answer both plain and compressed with gzip. Each form is made when it is first needed, and then kept.
type coded struct{ plain, gzipped func() *answer }

// marshal returns a value as JSON. No value of the types that are sent fails to marshal.
func marshal(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return body
}

// newCoded returns the two forms of what render makes. The answer's Vary must name Accept-Encoding.
func newCoded(render func() *answer) coded {
	plain := sync.OnceValue(render)
	return coded{plain, sync.OnceValue(func() *answer { return plain().gzipped() })}
}

// jsonFile returns a cached answer in JSON that has a compressed form.
func jsonFile(body []byte, cache string) *answer {
	return cachedAnswer("application/json", body, cache, one("Vary", "Accept-Encoding"))
}

// serve answers in the coding that the client accepts, as gzhttp judges.
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

// answerOverhead is the memory that a kept file takes besides its bytes, in bytes.
const answerOverhead = 1 << 10

// fileCache keeps the answers for files by name. When their bytes exceed most, it starts anew.
type fileCache struct {
	most int

	mu     sync.Mutex
	byName map[string]cachedFile
	bytes  int
}

// A cachedFile is a file with its answers.
type cachedFile struct {
	raw []byte
	coded
}

func (c *fileCache) find(name string) (cachedFile, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.byName[name]
	return f, ok
}

// keep returns the kept answers for a file if raw is the same slice as before, without comparing bytes. Otherwise it
// keeps those that render makes, unless raw alone takes all the room.
func (c *fileCache) keep(name string, raw []byte, render func() *answer) coded {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, had := c.byName[name]
	if had && len(old.raw) == len(raw) && len(raw) > 0 && &old.raw[0] == &raw[0] {
		return old.coded
	}
	answers, size := newCoded(render), len(raw)+answerOverhead
	if size > c.most {
		return answers
	}
	if had {
		c.bytes -= len(old.raw) + answerOverhead
	}
	if c.bytes += size; c.bytes > c.most || c.byName == nil {
		c.byName, c.bytes = map[string]cachedFile{}, size
	}
	c.byName[name] = cachedFile{raw, answers}
	return answers
}
