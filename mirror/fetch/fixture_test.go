package fetch

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testworld.Lingering()) }

var (
	day     = testworld.Start // every repository here is signed then
	must    = testworld.Must
	wantErr = testworld.WantErr
)

// archive is an update and its release.
type archive struct {
	rel    trust.Release
	data   []byte
	blocks update.Blocks
}

// archiveOf returns bytes that no two archives share.
func archiveOf(version, length int) *archive {
	a := &archive{data: make([]byte, length)}
	r := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, version, length)))
	r.Read(a.data)
	return a
}

func (a *archive) path() string { return "/sha256/" + a.rel.Digest().String() }

func (a *archive) block(i int) []byte {
	return a.data[i*update.BlockSize:][:update.BlockLength(int64(len(a.data)), i)]
}

// world is a signed repository and its archives.
type world struct {
	t        testing.TB
	keys     testworld.Keyring
	repo     *trust.Repository
	archives []*archive
}

// newWorld lists archives of those lengths.
func newWorld(t testing.TB, lengths ...int) *world {
	t.Helper()
	w := &world{t: t, keys: testworld.NewKeyring("")}
	w.repo = w.keys.Init(t, day, 1)
	w.publish(lengths...)
	return w
}

// publish lists archives of those lengths more.
func (w *world) publish(lengths ...int) *trust.Repository {
	w.t.Helper()
	p := testworld.SignList(w.t, w.repo, &trust.Ledger{}, day, w.keys.Releases, func(e *trust.TargetsEdit) (err error) {
		for _, length := range lengths {
			version := len(w.archives) + 1
			a := archiveOf(version, length)
			a.blocks = testworld.Blocks(a.data)
			w.archives = append(w.archives, a)
			err = errors.Join(err, e.Add(testworld.Addition(fmt.Sprintf("opq-box-update-%d.tar.gz", version), a.data)))
		}
		return err
	})
	var err error
	w.repo, err = w.repo.Next(w.t.Context(), day, trust.Change{Targets: p}, w.keys.Online)
	must(w.t, err)
	for _, a := range w.archives {
		a.rel = w.find(a)
	}
	return w.repo
}

func (w *world) find(a *archive) trust.Release {
	digest := update.Sum(a.data)
	i := slices.IndexFunc(w.repo.Releases(), func(r trust.Release) bool { return r.Digest() == digest })
	if i < 0 {
		w.t.Fatal("an archive is not listed")
	}
	return w.repo.Releases()[i]
}

// handler serves everything as it should be.
func (w *world) handler() http.Handler { return handlerOf(w.repo, w.archives) }

func handlerOf(repo *trust.Repository, archives []*archive) http.Handler {
	mux := http.NewServeMux()
	for _, a := range archives {
		mux.HandleFunc("GET "+a.path(), a.serve)
		mux.HandleFunc("GET "+a.path()+".blocks", func(rw http.ResponseWriter, _ *http.Request) { rw.Write(a.blocks.Bytes()) })
		mux.HandleFunc(fmt.Sprintf("GET /targets/%v.%v", a.rel.Digest(), a.rel.Name()), a.serve)
	}
	for _, role := range []trust.Role{trust.RoleRoot, trust.RoleTargets, trust.RoleSnapshot, trust.RoleTimestamp} {
		raw := repo.Raw(role)
		mux.HandleFunc("GET /metadata/"+trust.FileName(role, repo.Version(role)), func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"`+update.Sum(raw).String()+`"`)
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(raw))
		})
	}
	return mux
}

func (a *archive) serve(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("ETag", `"`+a.rel.Digest().String()+`"`)
	rw.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(a.data))
}

// server serves until the test is over.
func server(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// quick is a configuration whose times are short.
func quick(upstreams ...string) Config {
	return Config{
		Upstreams: upstreams, Backoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond, Patience: 10 * time.Second,
		StallRate: 1000, StallWindow: 300 * time.Millisecond,
	}
}

// client makes a client, and keeps what it logs.
func client(t testing.TB, c Config) (*Client, *testworld.Log) {
	t.Helper()
	l := &testworld.Log{}
	c.Logger = slog.New(slog.NewTextHandler(l, nil))
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, l
}

var errSink = errors.New("the sink's own error")

// memory is a sink.
type memory struct {
	a *archive

	mu   sync.Mutex
	have map[int][]byte
	fail int // block whose write fails; 0: none
}

// sinkFor returns a sink that has those blocks.
func sinkFor(a *archive, have ...int) *memory {
	m := &memory{a: a, have: map[int][]byte{}}
	for _, i := range have {
		m.have[i] = a.block(i)
	}
	return m
}

func (m *memory) Missing() (missing []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.a.blocks {
		if m.have[i] == nil {
			missing = append(missing, i)
		}
	}
	return missing
}

func (m *memory) WriteBlock(i int, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail > 0 && m.fail == i {
		return errSink
	}
	if update.Sum(p) != m.a.blocks[i] {
		return errors.New("not that block")
	}
	if m.have[i] != nil {
		return fmt.Errorf("block %d came twice", i)
	}
	m.have[i] = bytes.Clone(p)
	return nil
}

func (m *memory) has(i int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have[i] != nil
}

// check compares what is there with the archive: those blocks missing, the others right.
func (m *memory) check(t testing.TB, missing ...int) {
	t.Helper()
	if got := m.Missing(); !slices.Equal(got, missing) {
		t.Errorf("missing: expected %v, got %v", missing, got)
	}
	for i, b := range m.have {
		if !bytes.Equal(b, m.a.block(i)) {
			t.Errorf("block %d is not that of the archive", i)
		}
	}
}

// requests counts and keeps what is asked of a handler.
type requests struct {
	next http.Handler
	mu   sync.Mutex
	all  []string // path and range
}

func (q *requests) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	q.all = append(q.all, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
	q.mu.Unlock()
	q.next.ServeHTTP(rw, r)
}

func (q *requests) list() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.all)
}
