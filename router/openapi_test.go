package router

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// TestOpenAPI compares docs/openapi.yaml with running servers. Each route is in it, and all that is in it is a route. Each answer is
// one that it describes: status, media type, body and every header field. Each answer that it describes is seen.
func TestOpenAPI(t *testing.T) {
	s := openSurface(t)
	s.comparePaths(t)
	s.askReading(t)
	s.askEmpty(t)
	s.askFailing(t)
	s.askMirror(t)
	s.askHealth(t)
	s.askPublisher(t)
	for _, path := range s.doc.Paths.InMatchingOrder() {
		for method, op := range s.doc.Paths.Value(path).Operations() {
			for code := range op.Responses.Map() {
				if answer := method + " " + path + " " + code; !s.seen[answer] {
					t.Errorf("no answer like it was seen: %s", answer)
				}
			}
		}
	}
}

// A surface is the document, and which of the answers that it describes were seen.
type surface struct {
	doc  *openapi3.T
	seen map[string]bool
}

func openSurface(t *testing.T) *surface {
	t.Helper()
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true // of docs/schema
	doc, err := loader.LoadFromFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &surface{doc, map[string]bool{}}
}

// comparePaths compares the paths of the document with the routes. Routes below /publish/ are told apart by their path alone.
func (s *surface) comparePaths(t *testing.T) {
	digest := update.Sum(nil).String()
	samples := strings.NewReplacer("{id}", digest, "{digest}", digest, "{block}", "0", "{offset}", "0", "{version}", "1", "{name}", newName, "{file}", "timestamp.json")
	rt, err := newRouter(Config{Source: newFake(t), Publisher: newFakePublisher()}, newBodies(), newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	patterns, kinds := map[string]bool{}, map[publishKind]bool{}
	for _, path := range s.doc.Paths.InMatchingOrder() {
		sample := samples.Replace(path)
		find, _, _ := rt.routes.Lookup(http.MethodGet, sample)
		if find == nil {
			t.Errorf("%s is no route", path)
			continue
		}
		w := &reply{ResponseWriter: httptest.NewRecorder()}
		find(w, nil, nil)
		for _, pattern := range routePatterns() {
			if rt.metrics.routes[pattern] == w.route.measure {
				patterns[pattern] = true
			}
		}
		if target, below := strings.CutPrefix(sample, "/publish"); below {
			p, err := parsePublishPath(target)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			kinds[p.kind] = true
			for method := range s.doc.Paths.Value(path).Operations() {
				if !strings.Contains(p.allow(), method) {
					t.Errorf("%s takes %s, and not %s", path, p.allow(), method)
				}
			}
			if want := strings.Count(p.allow(), ",") + 1; len(s.doc.Paths.Value(path).Operations()) != want && p.allow() != "GET, HEAD" {
				t.Errorf("%s takes %s", path, p.allow())
			}
		}
	}
	for _, pattern := range routePatterns() {
		if !patterns[pattern] {
			t.Errorf("%s is not described", pattern)
		}
	}
	for kind := publishState; kind <= publishCommit; kind++ {
		if !kinds[kind] {
			t.Errorf("the kind %d of paths below /publish/ is not described", kind)
		}
	}
}

// saw checks an answer to a request whose path is of that template.
func (s *surface) saw(t *testing.T, method, template, path string, body []byte, want int, g got) {
	t.Helper()
	label := fmt.Sprintf("%s %s: %d", method, path, g.status)
	if g.status != want {
		t.Errorf("%s, expected %d: %.200q", label, want, g.body)
		return
	}
	op := s.doc.Paths.Value(template).GetOperation(method)
	if op == nil {
		t.Errorf("%s is not described", label)
		return
	}
	s.seen[fmt.Sprint(method, " ", template, " ", g.status)] = true
	req := httptest.NewRequest(method, "http://test"+path, bytes.NewReader(body))
	if len(body) > 0 { // clients need no Content-Type: the body is what its path says
		req.Header.Set("Content-Type", slices.Collect(maps.Keys(op.RequestBody.Value.Content))[0])
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req, QueryParams: req.URL.Query(), PathParams: pathParams(template, req.URL.Path),
		Route: &routers.Route{Spec: s.doc, Path: template, PathItem: s.doc.Paths.Value(template), Method: method, Operation: op},
	}
	if g.status < 300 {
		if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil {
			t.Errorf("%s: the request: %v", label, err)
		}
	}
	header := g.header.Clone()
	if out := header.Get("Content-Type"); strings.HasPrefix(out, "multipart/") {
		header.Set("Content-Type", "multipart/byteranges")
	}
	if header.Get("Content-Encoding") == "gzip" && g.status == http.StatusOK {
		g.body = gunzip(t, g.body)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: g.status, Header: header, Body: io.NopCloser(strings.NewReader(g.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	if err := openapi3filter.ValidateResponse(t.Context(), out); err != nil {
		t.Errorf("%s: %v", label, err)
	}
	described := op.Responses.Status(g.status)
	if described == nil {
		t.Errorf("%s is not described", label)
		return
	}
	for key := range g.header {
		named := slices.ContainsFunc(slices.Collect(maps.Keys(described.Value.Headers)), func(k string) bool { return http.CanonicalHeaderKey(k) == key })
		if !named && !slices.Contains([]string{"Content-Type", "Content-Length", "Date"}, key) {
			t.Errorf("%s: the field %s is not described", label, key)
		}
	}
	for key, h := range described.Value.Headers {
		if h.Value.Required && g.header.Get(key) == "" {
			t.Errorf("%s: the field %s is missing", label, key)
		}
	}
	if g.body != "" && described.Value.Content == nil {
		t.Errorf("%s: a body is not described: %.100q", label, g.body)
	}
}

// pathParams returns the parts of a path that a template names.
func pathParams(template, path string) map[string]string {
	name := regexp.MustCompile(`\\\{(\w+)\\\}`)
	m := regexp.MustCompile("^" + name.ReplaceAllString(regexp.QuoteMeta(template), `(?P<$1>[^/]+?)`) + "$")
	out := map[string]string{}
	for i, value := range m.FindStringSubmatch(path) {
		if i > 0 {
			out[m.SubexpNames()[i]] = value
		}
	}
	return out
}

// get asks for a path, and expects that status.
func (s *surface) get(t *testing.T, addr, template, path string, want int, fields ...string) {
	t.Helper()
	s.saw(t, http.MethodGet, template, path, nil, want, get(t, addr, path, fields...))
}

// put sends a body, and expects that status.
func (s *surface) put(t *testing.T, addr, template, path string, body []byte, want int) {
	t.Helper()
	s.saw(t, http.MethodPut, template, path, body, want, put(t, addr, path, body))
}

// has reports whether a status of GET is described.
func (s *surface) has(template string, code int) bool {
	return s.doc.Paths.Value(template).Get.Responses.Status(code) != nil
}

// pathsOf returns a path for each template that changes nothing, where u is there.
func pathsOf(u update.Update) map[string]string {
	d, n := u.Digest.String(), u.Name.String()
	return map[string]string{
		"/": "/", "/ls": "/ls", "/version": "/version", "/latest": "/latest", "/updates.json": "/updates.json",
		"/update/{name}": "/update/" + n, "/update/{name}.sha256": "/update/" + n + ".sha256", "/update/{name}.sig": "/update/" + n + ".sig",
		"/sha256/{digest}": "/sha256/" + d, "/sha256/{digest}.sha256": "/sha256/" + d + ".sha256", "/sha256/{digest}.sig": "/sha256/" + d + ".sig",
		"/sha256/{digest}.blocks": "/sha256/" + d + ".blocks", "/targets/{digest}.{name}": "/targets/" + d + "." + n, "/metadata/{file}": "/metadata/timestamp.json",
		"/livez": "/livez", "/readyz": "/readyz", "/healthz": "/healthz", "/metrics": "/metrics", "/page.css": "/page.css", "/page.js": "/page.js",
	}
}

// signedBy returns a signature of each update.
func signedBy(update.Update) []trust.KeySignature {
	return []trust.KeySignature{{Key: worldKey, Signature: signing.Signature{1}}}
}

// askReading asks an origin in order for everything, whole, in part, under conditions, and in ways that it refuses.
func (s *surface) askReading(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("the bytes of an archive"), true)
	m := newFakeMetadata("timestamp.json", `{"signed":{}}`, "1.root.json", `{"signed":{}}`)
	addr := start(t, Config{Source: f, Metadata: m.Metadata, Signatures: signedBy, Components: healthyWorld(t).Components, Version: "1.4.0"})
	paths := pathsOf(u)
	for template, path := range paths {
		whole := http.StatusOK
		if template == "/latest" {
			whole = http.StatusSeeOther
		}
		s.get(t, addr, template, path, whole)
		s.get(t, addr, template, path, whole, "Accept-Encoding: gzip")
		headIs(t, addr, path, get(t, addr, path))
		s.get(t, addr, template, path, 400, "Transfer-Encoding: chunked")
		ask(t, addr, "DELETE "+path+" HTTP/1.1").hold(t, 405, map[string]string{"Allow": "GET, HEAD"})
		if !s.has(template, 206) {
			continue
		}
		s.get(t, addr, template, path, 206, "Range: bytes=0-0")
		s.get(t, addr, template, path, 206, "Range: bytes=0-0,2-2")
		s.get(t, addr, template, path, 304, "If-None-Match: *")
		s.get(t, addr, template, path, 412, `If-Match: "x"`)
		s.get(t, addr, template, path, 416, "Range: bytes=99999999-")
	}
	s.get(t, addr, "/metadata/{file}", "/metadata/1.root.json", 200)
	s.get(t, addr, "/", "/", 200, "Accept: text/html", "Accept-Encoding: gzip")
	s.get(t, addr, "/", "/?page=2", 404, "Accept: text/html")
	s.get(t, addr, "/readyz", "/readyz?verbose", 200)
	s.get(t, addr, "/update/{name}.sig", paths["/update/{name}.sig"]+"?key="+string(worldKey), 200)
	f.add(t, oldName, []byte("not hashed"), false)
	other := update.Update{Name: testworld.Name("opq-box-update-7.tar.gz"), Digest: update.Sum([]byte("other"))}
	s.get(t, addr, "/update/{name}", "/update/"+oldName, 200)
	s.get(t, addr, "/updates.json", "/updates.json", 200)
	s.get(t, addr, "/update/{name}.sha256", "/update/"+oldName+".sha256", 503)
	s.get(t, addr, "/sha256/{digest}", pathsOf(other)["/sha256/{digest}"], 503)
}

// askEmpty asks a server that never had an update, nor anything else.
func (s *surface) askEmpty(t *testing.T) {
	addr := start(t, Config{Source: newFake(t), NoMetrics: true})
	for template, path := range pathsOf(update.Update{Name: testworld.Name(newName), Digest: update.Sum([]byte("other"))}) {
		if s.has(template, 404) && template != "/" {
			s.get(t, addr, template, path, 404)
		}
	}
}

// askFailing asks a server whose disk fails.
func (s *surface) askFailing(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("x"), true)
	f.fails = errors.New("input/output error")
	addr := start(t, Config{Source: f, Metadata: func(string) ([]byte, error) { return nil, f.fails }})
	for template, path := range pathsOf(u) {
		if s.has(template, 500) {
			s.get(t, addr, template, path, 500)
		}
	}
}

// elsewhere is a mirror that sends clients to its upstream.
type elsewhere struct{ *fakeMirror }

func (elsewhere) Want(update.Update) (time.Duration, string) {
	return 0, "http://upstream.example/update/x"
}

// askMirror asks a mirror that has nothing yet, one without the archives, and one that sends to its upstream.
func (s *surface) askMirror(t *testing.T) {
	m := &fakeMirror{}
	f := newFake(t)
	u := f.add(t, newName, []byte("x"), true)
	metadata := newFakeMetadata("timestamp.json", `{}`).Metadata
	w := staleWorld(t)
	addr := start(t, Config{Source: f, Mirror: m, Metadata: metadata, Components: func() []status.Component {
		return []status.Component{{Name: "mirror", Freshness: w.standing.Copy, Versions: status.Versions{Root: 1}, Warnings: w.components[0].Warnings}}
	}})
	for _, path := range []string{"/updates.json", "/", "/healthz"} {
		want := http.StatusOK
		if path == "/healthz" {
			want = get(t, addr, path).status
		}
		s.get(t, addr, path, path, want)
	}
	s.get(t, addr, "/metadata/{file}", "/metadata/timestamp.json", 200)
	s.get(t, addr, "/metadata/{file}", "/metadata/timestamp.json", 304, "If-None-Match: *")
	f.mu.Lock()
	f.fails = fmt.Errorf("gone: %w", errNotFound)
	f.mu.Unlock()
	s.get(t, addr, "/update/{name}", "/update/"+newName, 503)
	there := start(t, Config{Source: f, Mirror: elsewhere{m}, Metadata: metadata})
	for template, path := range pathsOf(u) {
		if s.has(template, 307) {
			s.get(t, there, template, path, 307)
		}
	}
	m.behind.Store(-1)
	for template, path := range pathsOf(u) {
		if s.has(template, 503) && !slices.Contains([]string{"/readyz", "/healthz"}, template) {
			s.get(t, addr, template, path, 503)
		}
	}
}

// askHealth asks a server that is not well.
func (s *surface) askHealth(t *testing.T) {
	addr := start(t, Config{Source: newFake(t), Components: func() []status.Component {
		return []status.Component{{Name: "repository", Unready: true, Warnings: []status.Warning{{Subject: "archives", Text: "gone", Urgent: true}}}}
	}})
	s.get(t, addr, "/", "/", 200)
	for _, path := range []string{"/readyz", "/healthz"} {
		s.get(t, addr, path, path, 503)
	}
}

// failingPublisher fails in every way that an origin does.
type failingPublisher struct{ *fakePublisher }

func (p failingPublisher) failure() (err error) {
	p.with(func() { err = p.fails })
	return err
}

func (p failingPublisher) Archive(ctx context.Context, id, digest update.Digest) (origin.Archive, error) {
	a, err := p.fakePublisher.Archive(ctx, id, digest)
	a.Missing, a.Begun = []origin.Range{{0, 1}}, []origin.Begun{{Block: 0, Have: 5}}
	return a, err
}

func (p failingPublisher) PutBlocks(ctx context.Context, id, digest update.Digest, list []byte) error {
	if err := p.failure(); err != nil {
		return err
	}
	return p.fakePublisher.PutBlocks(ctx, id, digest, list)
}

func (p failingPublisher) PutBlock(ctx context.Context, id, digest update.Digest, i int, b []byte) error {
	if err := p.failure(); err != nil {
		return err
	}
	return p.fakePublisher.PutBlock(ctx, id, digest, i, b)
}

func (p failingPublisher) PutPart(ctx context.Context, id, digest update.Digest, i int, at int64, b []byte) error {
	if err := p.failure(); err != nil {
		return err
	}
	return p.fakePublisher.PutPart(ctx, id, digest, i, at, b)
}

// askPublisher publishes, and fails to.
func (s *surface) askPublisher(t *testing.T) {
	p := failingPublisher{newFakePublisher()}
	addr := start(t, Config{Source: newFake(t), Publisher: p, BodyWindow: 200 * time.Millisecond, BodyRate: 1000})
	staged, archive := "/publish/"+p.id.String(), "/publish/"+p.id.String()+"/"+p.digest.String()
	proposals := map[string]string{"/publish/root/{version}": "/publish/root/18", "/publish/targets/{version}": "/publish/targets/18"}
	bodies := map[string]string{"/publish/{id}/{digest}.blocks": archive + ".blocks", "/publish/{id}/{digest}/{block}": archive + "/0", "/publish/{id}/{digest}/{block}/{offset}": archive + "/0/0"}
	const commit = "/publish/{id}/commit"
	all := map[string]string{"/publish/": "/publish/", "/publish/pending/{id}": "/publish/pending/" + p.id.String(), "/publish/{id}/{digest}": archive, commit: staged + "/commit"}
	maps.Copy(all, proposals)
	maps.Copy(all, bodies)
	unknown := strings.NewReplacer(p.id.String(), update.Sum(nil).String())

	for _, template := range []string{"/publish/", "/publish/{id}/{digest}"} {
		s.get(t, addr, template, all[template], 200)
	}
	for _, template := range []string{"/publish/pending/{id}", "/publish/{id}/{digest}"} {
		s.get(t, addr, template, unknown.Replace(all[template]), 404)
	}
	// The fake has no JSON in what waits, which the real one always has.
	s.saw(t, http.MethodGet, "/publish/pending/{id}", all["/publish/pending/{id}"], nil, 200, got{200, get(t, addr, all["/publish/pending/{id}"]).header, "{}"})
	for template, path := range bodies {
		s.put(t, addr, template, path, p.block, 204)
		s.put(t, addr, template, unknown.Replace(path), p.block, 404)
		s.put(t, addr, template, path, p.block[1:], 422)
	}
	for template, path := range proposals {
		file := []byte(`{"signatures":[],"signed":{"version":18}}`)
		need := []origin.Need{{Root: 1, Role: trust.RoleTargets, Threshold: 2}}
		for state, want := range map[origin.Status]int{origin.StatusPending: 202, origin.StatusStaged: 200, origin.StatusCommitted: 200} {
			p.with(func() {
				p.outcome = origin.Outcome{Status: state, ID: p.id, Archives: []origin.Archive{{Missing: []origin.Range{{0, 3}}}}}
				if need[0].Have = nil; state == origin.StatusPending {
					need[0].Have, need[0].Missing = append(need[0].Have, worldKey), append(need[0].Missing, worldKey)
					p.outcome.Needs, p.outcome.Archives = need, nil
				}
			})
			s.put(t, addr, template, path, file, want)
		}
		s.put(t, addr, template, path, []byte(`{"signed":{"version":17}}`), 400)
	}
	s.put(t, addr, commit, all[commit], nil, 200)
	s.saw(t, http.MethodPost, commit, all[commit], nil, 200, ask(t, addr, "POST "+all[commit]+" HTTP/1.1", "Content-Length: 0"))
	s.put(t, addr, commit, unknown.Replace(all[commit]), nil, 404)
	s.saw(t, http.MethodPost, commit, unknown.Replace(all[commit]), nil, 404, ask(t, addr, "POST "+unknown.Replace(all[commit])+" HTTP/1.1", "Content-Length: 0"))

	for want, errs := range map[int][]error{
		403: {trust.ErrThreshold, trust.ErrKey}, 409: {&origin.ConflictError{Staged: 19, Err: trust.ErrConflict}, trust.ErrRollback, trust.ErrStranded, trust.ErrSecondDigest, store.ErrIncomplete, origin.ErrBlocks, origin.ErrGap},
		422: {store.ErrCorrupt, trust.ErrExpired, trust.ErrClock}, 500: {errors.New("internal")}, 503: {origin.ErrNoKey, origin.ErrAhead, origin.ErrJump}, 507: {disk.ErrNoSpace}, 400: {trust.ErrTooMany},
	} {
		for _, err := range errs {
			p.with(func() { p.fails = fmt.Errorf("propose: %w", err) })
			for template, path := range all {
				item := s.doc.Paths.Value(template)
				if item.Put == nil || item.Put.Responses.Status(want) == nil {
					continue
				}
				body := []byte("x")
				if template == commit {
					body = nil
					s.saw(t, http.MethodPost, template, path, nil, want, ask(t, addr, "POST "+path+" HTTP/1.1", "Content-Length: 0"))
				}
				s.put(t, addr, template, path, body, want)
			}
		}
	}
	p.with(func() { p.fails = nil })
	for template, path := range all {
		for method := range s.doc.Paths.Value(template).Operations() {
			s.saw(t, method, template, path, nil, 411, ask(t, addr, method+" "+path+" HTTP/1.1", "Transfer-Encoding: chunked"))
			s.saw(t, method, template, path, nil, 413, ask(t, addr, method+" "+path+" HTTP/1.1", "Content-Length: 99999999"))
			if s.doc.Paths.Value(template).GetOperation(method).Responses.Status(408) == nil {
				continue
			}
			c := testworld.Dial(t, addr)
			if _, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\nx", path); err != nil {
				t.Fatal(err)
			}
			s.saw(t, method, template, path, nil, 408, answerOn(t, bufio.NewReader(c), method))
		}
	}
}
