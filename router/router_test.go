package router

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
)

// fake is a Source over files that a test writes.
type fake struct {
	dir     string
	catalog atomic.Pointer[update.Catalog]
	opened  atomic.Int64

	mu       sync.Mutex
	updates  map[update.Name]update.Update
	blocks   map[update.Digest]update.Blocks
	replaced map[update.Name]bool
	had      bool
	fails    error // what Open and Blocks return instead
}

func newFake(t testing.TB) *fake {
	f := &fake{
		dir:      t.TempDir(),
		updates:  map[update.Name]update.Update{},
		blocks:   map[update.Digest]update.Blocks{},
		replaced: map[update.Name]bool{},
	}
	f.publish(t)
	return f
}

func (f *fake) publish(t testing.TB) {
	t.Helper()
	var list []update.Update
	for _, u := range f.updates {
		list = append(list, u)
	}
	c, err := update.NewCatalog(list, f.had)
	if err != nil {
		t.Fatal(err)
	}
	f.catalog.Store(c)
}

// add puts an archive there under a name; hashed says whether its digest is known.
func (f *fake) add(t testing.TB, name string, body []byte, hashed bool) update.Update {
	t.Helper()
	n := testworld.Name(name)
	if err := os.WriteFile(filepath.Join(f.dir, name), body, 0o644); err != nil {
		t.Fatal(err)
	}
	u := update.Update{Name: n, Length: int64(len(body)), Time: time.Date(2019, 2, 15, 0, 31, 23, 5, time.UTC)}
	if hashed {
		u.Digest = update.Sum(body)
		f.mu.Lock()
		f.blocks[u.Digest] = testworld.Blocks(body)
		f.mu.Unlock()
	}
	f.updates[n] = u
	f.publish(t)
	return u
}

func (f *fake) Catalog() *update.Catalog { return f.catalog.Load() }

func (f *fake) Open(u update.Update) (*os.File, error) {
	f.opened.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return nil, f.fails
	}
	return os.Open(filepath.Join(f.dir, u.Name.String()))
}

func (f *fake) Blocks(u update.Update) (update.Blocks, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return nil, f.fails
	}
	b, ok := f.blocks[u.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

// replace says from now on that the name had other bytes.
func (f *fake) replace(n update.Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replaced[n] = true
}

func (f *fake) Replaced(n update.Name) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replaced[n]
}

// start serves c on a free port of 127.0.0.1 and returns its address.
func start(t testing.TB, c Config) string {
	t.Helper()
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s)
}

func serveOn(t testing.TB, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}
