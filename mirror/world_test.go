package mirror_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	goleak.VerifyTestMain(m, testworld.Lingering())
}

// What the world of all tests is called here.
var (
	day     = testworld.Start
	must    = testworld.Must
	wantErr = testworld.WantErr
	name    = testworld.Name
)

// The updates of these stories.
const (
	one   = "opq-box-update-1.tar.gz"
	two   = "opq-box-update-2.tar.gz"
	three = "opq-box-update-3.tar.gz"
	pair  = "opq-box-update-8.tar.gz" // of two blocks, for tests that fetch it some hundred times
	big   = "opq-box-update-9.tar.gz" // of three blocks
)

// content is the archive of a name, which nobody may change.
func content(name string) []byte {
	switch name {
	case big:
		return bigContent()
	case pair:
		return bigContent()[:update.BlockSize+1000]
	}
	return []byte("archive of " + name + "\n")
}

// bigContent is made once: blocks that all differ.
var bigContent = sync.OnceValue(func() (out []byte) {
	for n := 0; len(out) <= 2*update.BlockSize; n++ {
		out = append(out, bytes.Repeat(fmt.Appendf(nil, "line %d of a big archive\n", n), 10_000)...)
	}
	return out
})

// origin is a store with a repository, whoever holds its keys, and its server.
type origin struct {
	t    testing.TB
	at   time.Time // the clock of all
	keys testworld.Keyring
	s    *store.Store
	url  string
}

// newOrigin makes a repository that lists those updates.
func newOrigin(t testing.TB, names ...string) *origin { return newOriginOf(t, "", names...) }

// newOriginOf makes one whose keys are another's for each prefix.
func newOriginOf(t testing.TB, prefix string, names ...string) *origin {
	t.Helper()
	o := &origin{t: t, at: day, keys: testworld.NewKeyring(prefix)}
	repo := o.keys.Init(t, day, 1)
	o.s = openStore(t, store.Config{Dir: testworld.TempDir(t), Root: repo.Root().Raw()})
	must(t, o.s.Commit(t.Context(), repo))
	o.url = serve(t, o.s)
	if len(names) > 0 {
		o.publish(names...)
	}
	return o
}

func (o *origin) rootOne() []byte {
	o.t.Helper()
	raw, err := o.s.Metadata("1.root.json")
	must(o.t, err)
	return raw
}

// publish makes a repository current that lists those updates too.
func (o *origin) publish(names ...string) {
	o.t.Helper()
	o.edit(func(e *trust.TargetsEdit) (err error) {
		for _, n := range names {
			err = errors.Join(err, e.Add(testworld.Addition(n, content(n))))
		}
		return err
	})
}

func (o *origin) withdraw(n string) {
	o.t.Helper()
	o.edit(func(e *trust.TargetsEdit) error { return e.Withdraw(name(n)) })
}

// edit publishes the next list.
func (o *origin) edit(change func(*trust.TargetsEdit) error) {
	o.t.Helper()
	o.next(trust.Change{Targets: testworld.SignList(o.t, o.s.Repository(), o.s.Ledger(), o.at, o.keys.Releases, change)})
}

// newRoot publishes another root.
func (o *origin) newRoot() {
	o.t.Helper()
	o.next(trust.Change{Root: testworld.SignRoot(o.t, o.s.Repository(), o.at, o.keys.Roots, testworld.AnotherReleaseKey)})
}

func (o *origin) next(c trust.Change) {
	o.t.Helper()
	repo, err := o.s.Repository().Next(o.t.Context(), o.at, c, o.keys.Online)
	must(o.t, err)
	for _, rel := range o.s.Missing(repo) {
		data := content(rel.Name().String())
		must(o.t, o.s.IngestFile(o.t.Context(), rel, testworld.Blocks(data), bytes.NewReader(data)))
	}
	must(o.t, o.s.Commit(o.t.Context(), repo))
}

func openStore(t testing.TB, c store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), c)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// serve serves a store as the program does, and returns the URL.
func serve(t testing.TB, s *store.Store) string {
	t.Helper()
	server, err := router.NewServer(router.Config{Source: s, Metadata: s.Metadata})
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// site is a mirror, and its server.
type site struct {
	*mirror.Mirror
	o      *origin
	s      *store.Store
	client *fetch.Client
	url    string
}

// warnings returns what is wrong with a mirror.
func warnings(m interface {
	Health(time.Time) (status.Freshness, []status.Warning)
}, at time.Time) []status.Warning {
	_, warnings := m.Health(at)
	return warnings
}

// setup says how a mirror differs from one that keeps everything.
type setup struct {
	upstreams []string // none: the origin
	dir       string   // "": a new one
	store     func(*store.Config)
	config    func(*mirror.Config)
}

// newMirror makes a mirror that has not synced yet. Its upstreams are asked once for each thing.
func (o *origin) newMirror(u setup) *site {
	o.t.Helper()
	if u.upstreams == nil {
		u.upstreams = []string{o.url}
	}
	if u.dir == "" {
		u.dir = testworld.TempDir(o.t)
	}
	sc := store.Config{Dir: u.dir, Root: o.rootOne()}
	if u.store != nil {
		u.store(&sc)
	}
	s := openStore(o.t, sc)
	m, client := newMirror(o.t, s, func() time.Time { return o.at }, u.upstreams, u.config)
	return &site{Mirror: m, o: o, s: s, client: client, url: serve(o.t, s)}
}

func newMirror(t testing.TB, s *store.Store, now func() time.Time, upstreams []string, change func(*mirror.Config)) (*mirror.Mirror, *fetch.Client) {
	t.Helper()
	client := newClient(t, upstreams...)
	c := mirror.Config{Store: s, Client: client, Now: now}
	if change != nil {
		change(&c)
	}
	m, err := mirror.New(c)
	must(t, err)
	return m, client
}

func newClient(t testing.TB, upstreams ...string) *fetch.Client {
	t.Helper()
	client, err := fetch.New(fetch.Config{
		Upstreams: upstreams, Patience: -1, Backoff: 1, MaxBackoff: 1, MaxRetryAfter: 1, SetAside: 1,
	})
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

func (s *site) sync() mirror.Result {
	s.o.t.Helper()
	r, err := s.Sync(s.o.t.Context())
	must(s.o.t, err)
	s.whole()
	return r
}

// syncFails syncs, wants that error, and that what was served still is.
func (s *site) syncFails(want error) error {
	s.o.t.Helper()
	before := s.s.Repository()
	_, err := s.Sync(s.o.t.Context())
	wantErr(s.o.t, err, want)
	if s.s.Repository() != before {
		s.o.t.Fatal("expected the old repository after a sync that failed")
	}
	s.whole()
	return err
}

// whole is the invariant: what a client of the mirror gets is one verified repository, whose kept
// updates can be read, and no archive differs from its name.
func (s *site) whole() {
	s.o.t.Helper()
	wholeStore(s.o.t, s.s, s.url, s.o.rootOne(), s.o.at)
}

func wholeStore(t testing.TB, s *store.Store, url string, root []byte, at time.Time) {
	t.Helper()
	if s.Repository() == nil {
		return
	}
	state, err := trust.Open(trust.Config{Dir: "/nonexistent", Pinned: root, DeferRoots: true})
	must(t, err)
	repo, err := state.Refresh(t.Context(), newClient(t, url).Upstreams()[0], trust.Clock{Now: at, AcceptExpired: true})
	must(t, err)
	for _, rel := range s.Kept(repo) {
		if !serves(t, url+"/update/"+rel.Name().String(), content(rel.Name().String())) {
			t.Fatalf("%v: got bytes that differ", rel.Name())
		}
	}
	problems, err := s.Check(t.Context(), store.Check{Hash: true})
	must(t, err)
	if len(problems) > 0 {
		t.Fatalf("not whole: %v", problems)
	}
}

func get(t testing.TB, url string) []byte {
	t.Helper()
	status, body := ask(t, url)
	if status != http.StatusOK {
		t.Fatalf("%s: status %d", url, status)
	}
	return body
}

func ask(t testing.TB, url string) (status int, body []byte) {
	t.Helper()
	resp := request(t, url)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, body
}

func request(t testing.TB, url string) *http.Response {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get(url)
	must(t, err)
	return resp
}

// serves reports whether a URL is answered with those bytes, piece by piece: to have all of a big archive
// in memory would take the race detector longer than all the rest.
func serves(t testing.TB, url string, want []byte) bool {
	t.Helper()
	resp := request(t, url)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d", url, resp.StatusCode)
	}
	piece := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(piece)
		if !bytes.HasPrefix(want, piece[:n]) {
			return false
		}
		want = want[n:]
		if errors.Is(err, io.EOF) {
			return len(want) == 0
		}
		must(t, err)
	}
}

func (s *site) listed() []string { return testworld.Listed(s.s.Repository()) }

func (s *site) wantListed(names ...string) {
	s.o.t.Helper()
	if got := s.listed(); !slices.Equal(got, names) {
		s.o.t.Fatalf("expected %v listed, got %v", names, got)
	}
}

func (o *origin) rel(n string) trust.Release {
	o.t.Helper()
	rel, ok := o.s.Repository().Release(name(n))
	if !ok {
		o.t.Fatalf("%s is not listed", n)
	}
	return rel
}

// has reports whether a mirror has the archive.
func (s *site) has(n string) bool {
	s.o.t.Helper()
	f, err := s.s.Open(s.o.rel(n).Update())
	if err == nil {
		must(s.o.t, f.Close())
		return true
	}
	wantErr(s.o.t, err, fs.ErrNotExist)
	return false
}

// proxy stands before an upstream, counts what is asked, and answers in its place where it is told to.
type proxy struct {
	url  string
	next http.Handler

	mu     sync.Mutex
	asked  []string // "path", or "path bytes=…"
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newProxy(t testing.TB, upstream string) *proxy {
	t.Helper()
	u, err := url.Parse(upstream)
	must(t, err)
	reverse := httputil.NewSingleHostReverseProxy(u)
	transport := &http.Transport{DisableCompression: true}
	reverse.Transport = transport
	p := &proxy{next: reverse}
	server := httptest.NewServer(p)
	p.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
	answer := p.answer
	p.mu.Unlock()
	if answer == nil || !answer(w, r) {
		p.next.ServeHTTP(w, r)
	}
}

// answers sets what answers in place of the upstream; nil: nothing.
func (p *proxy) answers(f func(w http.ResponseWriter, r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

// taken returns what was asked since the last time.
func (p *proxy) taken() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.asked
	p.asked = nil
	return out
}

// onPath answers a path with those bytes.
func onPath(path string, body []byte) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		w.Write(body)
		return true
	}
}

func sum(data []byte) update.Digest { return update.Sum(data) }
