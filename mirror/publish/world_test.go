package publish_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

var (
	must    = testworld.Must
	wantErr = testworld.WantErr
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testworld.Lingering()) }

// world is an origin that serves, a proxy before it that breaks things, and a signer's trusted state.
type world struct {
	t       testing.TB
	dir     string
	root    *testworld.Signer
	release []*testworld.Signer
	online  *testworld.Signer

	mu      sync.Mutex
	store   *store.Store
	origin  *origin.Origin
	server  *router.Server
	served  chan error
	backend *url.URL

	gate  *gate
	proxy *httptest.Server

	trusted *trust.State
	base    *trust.Repository
	files   publish.Files
}

// newWorld makes a repository whose lists need so many of two release keys.
func newWorld(t testing.TB, need int) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), root: testworld.NewSigner("root"), online: testworld.NewSigner("online"), files: publish.Files{},
		release: []*testworld.Signer{testworld.NewSigner("release 0"), testworld.NewSigner("release 1")}}
	repo := testworld.Keyring{Roots: []*testworld.Signer{w.root}, Releases: w.release, Online: w.online}.Init(t, time.Now(), need)
	s, err := store.Open(t.Context(), store.Config{Dir: w.dir, Root: repo.Root().Raw()})
	must(t, err)
	must(t, s.Commit(t.Context(), repo))
	must(t, s.Close())
	w.start()
	t.Cleanup(w.stop)
	w.gate = &gate{w: w, parts: map[part]int{}}
	w.proxy = httptest.NewServer(w.gate)
	t.Cleanup(w.proxy.Close)
	w.trusted, err = trust.Open(trust.Config{Dir: filepath.Join(t.TempDir(), "trusted"), Pinned: repo.Root().Raw()})
	must(t, err)
	return w
}

func (w *world) start() {
	w.t.Helper()
	s, err := store.Open(context.Background(), store.Config{Dir: w.dir})
	must(w.t, err)
	o, err := origin.Open(context.Background(), origin.Config{Store: s, Online: []signing.Signer{w.online}})
	must(w.t, err)
	server, err := router.NewServer(router.Config{Source: s, Metadata: s.Metadata, Publisher: o})
	must(w.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.store, w.origin, w.server, w.served = s, o, server, make(chan error, 1)
	w.backend = &url.URL{Scheme: "http", Host: l.Addr().String()}
	go func(served chan error) { served <- server.Serve(l) }(w.served)
}

func (w *world) stop() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	must(w.t, w.server.Close())
	<-w.served
	must(w.t, w.origin.Close())
	must(w.t, w.store.Close())
}

// gate is a reverse proxy that refuses bodies over 10 MB, as the one before the origin does, counts the
// blocks that it lets through, and does what before and after say.
type gate struct {
	w *world

	mu     sync.Mutex
	parts  map[part]int // how often each went through, by where it begins
	before hook         // the gate does not pass on what it handles
	after  hook         // the gate does not answer what it handles
}

// hook reports whether it has handled a request.
type hook func(http.ResponseWriter, *http.Request) bool

// meddle sets what the gate does, nil for nothing.
func (g *gate) meddle(before, after hook) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before, g.after = before, after
}

func (g *gate) hooks() (before, after hook) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.before, g.after
}

const prefix = "/box-update-server"

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > 10<<20 {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	r.URL.Path = strings.TrimPrefix(r.URL.Path, prefix)
	before, after := g.hooks()
	if before != nil && before(w, r) {
		return
	}
	if isBlock(r) {
		g.mu.Lock()
		g.parts[partOf(r)]++
		g.mu.Unlock()
	}
	g.w.mu.Lock()
	backend := g.w.backend
	g.w.mu.Unlock()
	proxy := httputil.NewSingleHostReverseProxy(backend)
	proxy.Transport = &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	if after == nil {
		proxy.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	proxy.ServeHTTP(answer, r)
	if after(w, r) {
		return
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// total returns how many blocks went through, in parts or whole, and of how many of them something went more
// than once.
func (g *gate) total() (all, again int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	twice := map[string]bool{}
	for p, n := range g.parts {
		twice[p.block] = twice[p.block] || n > 1
	}
	for _, t := range twice {
		if t {
			again++
		}
	}
	return len(twice), again
}

// part is where a request's body begins.
type part struct{ block, at string }

// partOf returns where the body of a request begins that brings a block, or a part of one.
func partOf(r *http.Request) part {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(path) == 4 {
		return part{strings.Join(path, "/"), "0"}
	}
	return part{strings.Join(path[:4], "/"), path[4]}
}

// isBlock reports whether a request brings a block, or a part of one.
func isBlock(r *http.Request) bool {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	return r.Method == http.MethodPut && (len(path) == 4 || len(path) == 5)
}

// nth returns a function that is true for the n-th of those requests for which of is.
func nth(n int, of func(*http.Request) bool) func(*http.Request) bool {
	var mu sync.Mutex
	seen := 0
	return func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if of(r) {
			seen++
			return seen == n
		}
		return false
	}
}

// cut ends the connection without an answer.
func cut() { panic(http.ErrAbortHandler) }

// remote is a new process of the signer.
func (w *world) remote(change ...func(*publish.Config)) *publish.Remote {
	w.t.Helper()
	c := publish.Config{URL: w.proxy.URL + prefix, Patience: 20 * time.Second}
	for _, f := range change {
		f(&c)
	}
	r, err := publish.New(c)
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, r.Close()) })
	return r
}

// refresh reads what is published.
func (w *world) refresh(r *publish.Remote) {
	w.t.Helper()
	base, err := w.trusted.Refresh(w.t.Context(), r, trust.Clock{Now: time.Now()})
	must(w.t, err)
	must(w.t, w.trusted.Commit(base))
	w.base = base
}

// file makes an archive of that length with that version.
func (w *world) file(version, length int) trust.Addition {
	w.t.Helper()
	name := fmt.Sprintf("opq-box-update-%d.tar.gz", version)
	line := fmt.Sprintf("archive %v, whose blocks differ\n", name)
	data := bytes.Repeat([]byte(line), length/len(line)+1)[:length]
	for i := 0; i < length; i += update.BlockSize {
		data[i] = byte(i / update.BlockSize)
	}
	path := filepath.Join(w.t.TempDir(), name)
	must(w.t, os.WriteFile(path, data, 0o644))
	a := testworld.Addition(name, data)
	w.files[a.Digest] = publish.File{Path: path, Blocks: testworld.Blocks(data)}
	return a
}

// list signs a list that has those updates too.
func (w *world) list(r *publish.Remote, by []signing.Signer, as ...trust.Addition) *trust.Proposal {
	w.t.Helper()
	w.refresh(r)
	_, reserved, err := r.Pending(w.t.Context(), w.base, w.trusted.Ledger(), time.Now())
	must(w.t, err)
	e, err := w.base.EditTargets(w.trusted.Ledger(), reserved, time.Now())
	must(w.t, err)
	for _, a := range as {
		must(w.t, e.Add(a))
	}
	p, err := e.Sign(w.t.Context(), by...)
	must(w.t, err)
	return p
}

func (w *world) both() []signing.Signer { return []signing.Signer{w.release[0], w.release[1]} }

// check reads back all that is listed.
func (w *world) check(r *publish.Remote, want int) {
	w.t.Helper()
	w.refresh(r)
	if got := len(w.base.Releases()); got != want {
		w.t.Fatalf("expected %d updates, got %d", want, got)
	}
	for _, rel := range w.base.Releases() {
		must(w.t, r.Check(w.t.Context(), rel, publish.Ends))
		must(w.t, r.Check(w.t.Context(), rel, publish.Whole))
	}
}
