package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
)

// oldServer is a server that signs nothing and knows neither ranges nor digests. A test may answer in its
// place.
type oldServer struct {
	url      string
	archives map[string][]byte
	listing  string        // in place of the names
	patience time.Duration // of the clients

	mu     sync.Mutex
	asked  []string
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newOldServer(t *testing.T, names ...string) *oldServer {
	t.Helper()
	o := &oldServer{archives: map[string][]byte{}, patience: time.Minute}
	for _, n := range names {
		o.archives[n] = content(n)
	}
	server := httptest.NewServer(o)
	o.url = server.URL
	t.Cleanup(server.Close)
	return o
}

func (o *oldServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
	name := strings.TrimPrefix(r.URL.Path, "/update/")
	switch {
	case o.answer != nil && o.answer(w, r):
	case r.URL.Path == "/ls" && o.listing != "":
		fmt.Fprint(w, o.listing)
	case r.URL.Path == "/ls":
		fmt.Fprint(w, strings.Join(slices.Sorted(maps.Keys(o.archives)), "\n"))
	case o.archives[name] != nil:
		w.Header().Set("Content-Length", fmt.Sprint(len(o.archives[name])))
		w.Write(o.archives[name])
	default:
		http.NotFound(w, r)
	}
}

// takeAll imports into dir and returns what came, by name.
func (o *oldServer) takeAll(t *testing.T, dir string, change func(*mirror.Unsigned)) (came map[string]mirror.Archive, odd []string, err error) {
	t.Helper()
	client, err := fetch.New(fetch.Config{
		Upstreams: []string{o.url}, Patience: o.patience, Backoff: 100 * time.Millisecond, StallRate: 1000, StallWindow: 200 * time.Millisecond,
	})
	must(t, err)
	defer client.Close()
	came = map[string]mirror.Archive{}
	u := mirror.Unsigned{Client: client, Dir: dir, Taken: func(a mirror.Archive) { came[a.Name.String()] = a }}
	if change != nil {
		change(&u)
	}
	odd, err = u.Import(t.Context())
	return came, odd, err
}

// inDir returns what a server of a directory would see: what is no dotfile.
func inDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	out := map[string]string{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), disk.TempPrefix) {
			t.Errorf("%s is left", e.Name())
		}
		if !strings.HasPrefix(e.Name(), ".") {
			raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
			must(t, err)
			out[e.Name()] = string(raw)
		}
	}
	return out
}

func TestUnsigned(t *testing.T) {
	t.Parallel()
	o := newOldServer(t, one, two, big)
	dir := t.TempDir()
	var last int64
	came, odd, err := o.takeAll(t, dir, func(u *mirror.Unsigned) {
		u.Progress = func(n update.Name, total, done int64) {
			if n.String() == big && total == int64(len(o.archives[big])) {
				last = done
			}
		}
	})
	must(t, err)
	if len(odd) > 0 || last != int64(len(o.archives[big])) {
		t.Errorf("odd %q, progress up to %d", odd, last)
	}
	for n, want := range o.archives {
		a := came[n]
		if a.Digest != update.Sum(want) || a.Length != int64(len(want)) || a.There || len(a.Problems) == 0 {
			t.Errorf("%s: got %+v", n, a)
		}
		if inDir(t, dir)[n] != string(want) {
			t.Errorf("%s: other bytes lie there", n)
		}
	}
	came, _, err = o.takeAll(t, dir, nil)
	must(t, err)
	if len(came) != 3 || !came[big].There || !came[big].Digest.IsZero() {
		t.Errorf("expected all there already, got %+v", came)
	}
}

// TestUnsignedHostile: nothing of what is refused lies in the directory, and what came before stays.
func TestUnsignedHostile(t *testing.T) {
	t.Parallel()
	of := func(n string, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/update/"+n {
				return false
			}
			answer(w, r)
			return true
		}
	}
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request) bool
		want   error
		line   string
		after  bool // the archives after it come

		patience time.Duration // 0: a minute
	}{
		{"no length", of(two, func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(content(two))
		}), fetch.ErrRefused, "expected a Content-Length, got none", false, 0},
		{"cut each time", of(two, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content(two))))
			w.Write(content(two)[:9])
		}), fetch.ErrUnavailable, fmt.Sprintf("expected %d bytes, got 9: the connection was cut", len(content(two))), false, 1500 * time.Millisecond},
		{"cut a little later each time", of(two, sentMore(20_000)), fetch.ErrUnavailable, "expected 20000 bytes, got ", false, 0},
		{"1 byte a minute", of(two, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), fetch.ErrStalled, "expected 1000 bytes per second", false, -1},
		{"larger than the disk", of(two, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(int64(update.MaxLength)))
		}), disk.ErrNoSpace, "1099511627776 bytes are needed", false, 0},
		{"larger than any archive", of(two, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(int64(1)<<60))
		}), fetch.ErrRefused, "expected a Content-Length up to 1099511627776", false, 0},
		{"gzip", of(two, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(content(two))
		}), fetch.ErrRefused, "expected no Content-Encoding", false, 0},
		{"another host", of(two, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		}), fetch.ErrRefused, "redirect to http://elsewhere.invalid:80", false, 0},
		{"is gone", of(two, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }), fetch.ErrNotFound, "status 404", true, 0},
		{"an endless list", func(w http.ResponseWriter, r *http.Request) bool {
			line := bytes.Repeat([]byte(one+"\n"), 1000)
			for r.URL.Path == "/ls" && r.Context().Err() == nil {
				if _, err := w.Write(line); err != nil {
					return true
				}
			}
			return r.URL.Path == "/ls"
		}, fetch.ErrRefused, "expected at most 4194304 bytes, got more", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := newOldServer(t, one, two, three)
			o.answer = c.answer
			if c.patience != 0 {
				o.patience = c.patience
			}
			dir := t.TempDir()
			_, _, err := o.takeAll(t, dir, nil)
			o.patience = time.Minute
			wantErr(t, err, c.want)
			if own := errors.Is(err, disk.ErrNoSpace); !strings.Contains(err.Error(), c.line) || !own && !strings.Contains(err.Error(), o.url) {
				t.Errorf("expected %q and the server, got %v", c.line, err)
			}
			got := inDir(t, dir)
			if _, has := got[two]; has || (got[three] != "") != c.after {
				t.Errorf("got %d files", len(got))
			}
			if n := strings.Count(strings.Join(o.asked, "\n"), two); n > 10 {
				t.Errorf("asked %d times", n)
			}
			o.mu.Lock()
			o.answer = nil
			o.mu.Unlock()
			_, _, err = o.takeAll(t, dir, nil)
			must(t, err)
			if got := inDir(t, dir); got[one] != string(content(one)) || got[two] != string(content(two)) || got[three] != string(content(three)) {
				t.Errorf("expected the next import to get everything, got %d files", len(got))
			}
		})
	}
}

// sentMore returns a handler that sends 1,000 bytes more each time, of length bytes.
func sentMore(length int) http.HandlerFunc {
	sent := 0
	return func(w http.ResponseWriter, _ *http.Request) {
		sent = min(sent+1000, length)
		w.Header().Set("Content-Length", fmt.Sprint(length))
		w.Write(make([]byte, sent))
	}
}

// TestUnsignedNames: what is listed never says where a file goes.
func TestUnsignedNames(t *testing.T) {
	t.Parallel()
	o := newOldServer(t, one)
	o.listing = strings.Join([]string{"../" + one, "/etc/passwd", ".hidden", "", one, one + "\r", "a\x1b[2J", strings.Repeat("x", 300), "opq-box-update-1.zip"}, "\n")
	dir := filepath.Join(t.TempDir(), "U")
	must(t, os.Mkdir(dir, 0o755))
	came, odd, err := o.takeAll(t, dir, nil)
	must(t, err)
	if len(came) != 1 || len(odd) != 6 {
		t.Errorf("came %v, odd %q", came, odd)
	}
	want := []string{"GET /ls", "GET /update/" + one}
	if !slices.Equal(o.asked, want) {
		t.Errorf("expected %q asked, got %q", want, o.asked)
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestUnsignedLeavesOut what a server of the directory would ignore, and says so.
func TestUnsignedLeavesOut(t *testing.T) {
	t.Parallel()
	o := newOldServer(t, one, two)
	o.archives[two] = []byte{}
	o.archives["other-box-7.tar.gz"] = []byte("other")
	dir := t.TempDir()
	came, odd, err := o.takeAll(t, dir, nil)
	must(t, err)
	if len(came) != 1 || len(odd) != 2 || !strings.Contains(odd[0], `other-box-7.tar.gz is of product "other-box", expected "opq-box-update"`) ||
		!strings.Contains(odd[1], two) || !strings.Contains(odd[1], "empty") {
		t.Errorf("came %v, left out %q", came, odd)
	}
	if got := inDir(t, dir); len(got) != 1 || got[one] == "" {
		t.Errorf("the directory holds %d files", len(got))
	}
}

// TestUnsignedListsNothing: a server that lists nothing any more has lost its directory, and did not withdraw everything.
func TestUnsignedListsNothing(t *testing.T) {
	t.Parallel()
	o := newOldServer(t, one)
	dir := t.TempDir()
	archives := o.archives
	o.archives = nil
	if came, _, err := o.takeAll(t, dir, nil); err != nil || len(came) != 0 {
		t.Errorf("where nothing came yet: %v, error %v", came, err)
	}
	o.archives = archives
	_, _, err := o.takeAll(t, dir, nil)
	must(t, err)
	o.archives = nil
	if _, _, err := o.takeAll(t, dir, nil); !errors.Is(err, mirror.ErrGone) || !strings.Contains(err.Error(), "1 are in "+dir) {
		t.Errorf("error is %v, want %v", err, mirror.ErrGone)
	}
}

func TestUnsignedReplacesNothing(t *testing.T) {
	t.Parallel()
	o := newOldServer(t, one, two, three, big)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, one), []byte("mine"), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, two)))
	must(t, os.Mkdir(filepath.Join(dir, three), 0o755))
	came, _, err := o.takeAll(t, dir, nil)
	wantErr(t, err, mirror.ErrDiffers)
	for _, n := range []string{one, two, three} {
		if !strings.Contains(err.Error(), filepath.Join(dir, n)) {
			t.Errorf("expected %s named, got %v", n, err)
		}
	}
	if len(came) != 1 || came[big].Length != int64(len(content(big))) {
		t.Errorf("expected the other one to come, got %v", came)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, one)); err != nil || string(raw) != "mine" {
		t.Errorf("got %q, %v", raw, err)
	}
	if to, err := os.Readlink(filepath.Join(dir, two)); err != nil || to != "/etc/passwd" {
		t.Errorf("got %q, %v", to, err)
	}
}

// TestUnsignedFaults: after a crash or an error at any change, what has a name is whole, and the next
// import goes on.
func TestUnsignedFaults(t *testing.T) {
	t.Parallel()
	o := newOldServer(t, one, two)
	failed := map[disk.Op]int{}
	for n, more := 1, true; more; n++ {
		for _, carriedOut := range []bool{false, true} {
			dir := t.TempDir()
			steps := 0
			hook := func(op disk.Op, _ string) (bool, error) {
				if steps++; steps < n {
					return true, nil
				}
				if steps == n {
					failed[op]++
				}
				return carriedOut && op != disk.OpCreate, unix.ENOSPC
			}
			_, _, err := o.takeAll(t, dir, func(u *mirror.Unsigned) { u.FS = disk.FS{Hook: hook} })
			if more = steps >= n; more && !errors.Is(err, unix.ENOSPC) {
				t.Errorf("change %d: got %v", n, err)
			}
			entries, readErr := os.ReadDir(dir)
			must(t, readErr)
			for _, e := range entries {
				if raw, err := os.ReadFile(filepath.Join(dir, e.Name())); !strings.HasPrefix(e.Name(), ".") && (err != nil || !bytes.Equal(raw, content(e.Name()))) {
					t.Errorf("change %d: %s is not whole", n, e.Name())
				}
			}
			_, _, err = o.takeAll(t, dir, nil)
			must(t, err)
			if got := inDir(t, dir); len(got) != 2 || got[two] != string(content(two)) {
				t.Errorf("change %d: expected the next import to go on, got %d files", n, len(got))
			}
		}
	}
	for _, op := range []disk.Op{disk.OpCreate, disk.OpSync, disk.OpLink, disk.OpSyncDir} {
		if failed[op] == 0 {
			t.Errorf("%s never failed: %v", op, failed)
		}
	}
}

func TestUnsignedOneAtATime(t *testing.T) {
	t.Parallel()
	o := newOldServer(t, one)
	dir := t.TempDir()
	_, _, err := o.takeAll(t, dir, func(u *mirror.Unsigned) {
		u.Progress = func(update.Name, int64, int64) {
			_, _, err := o.takeAll(t, dir, nil)
			wantErr(t, err, disk.ErrLocked)
		}
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	client := newClient(t, o.url)
	_, err = mirror.Unsigned{Client: client, Dir: dir}.Import(ctx)
	wantErr(t, err, context.Canceled)
}
