package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A copied is a mirror that runs.
type copied struct {
	*server
	dir   string // its data directory
	admin string // what do reaches its socket by
}

// mirror starts a mirror of a server, with the root of this repository pinned. The next sync is long
// off: tests ask for it.
func (s *signer) mirror(of string, more ...string) copied {
	s.t.Helper()
	return s.mirrorIn(filepath.Join(s.t.TempDir(), "M"), of, more...)
}

func (s *signer) mirrorIn(dir, of string, more ...string) copied {
	s.t.Helper()
	args := []string{"mirror", of, "--root", s.pinned(), "--data-dir", dir, "--listen", "127.0.0.1:0",
		"--interval", "1h", "--patience", "0s"}
	return copied{launch{args: append(args, more...)}.start(s.t), dir, adminOf(dir)}
}

// pinned returns the file of the first root.
func (s *signer) pinned() string {
	s.t.Helper()
	path := filepath.Join(s.keys, "1.root.json")
	s.check(os.WriteFile(path, read(s.t, s.dir, "metadata", "1.root.json"), 0o644))
	return path
}

// synced waits until a mirror has something to serve.
func (c copied) synced(t *testing.T) copied {
	t.Helper()
	c.await(t, "/readyz", 200)
	return c
}

// sync asks for a sync and returns the answer.
func (c copied) sync(t *testing.T) answer {
	t.Helper()
	return do(t, http.MethodPost, c.admin+"/sync")
}

// exits runs the program and fails the test unless it ends with this status; what it says is returned.
func exits(t *testing.T, status int, args ...string) string {
	t.Helper()
	return exitsAs(t, program, status, args...)
}

// exitsAs is exits with another program.
func exitsAs(t *testing.T, program string, status int, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("%q: status %d, want %d: %v\n%s", args, got, status, err, out)
	}
	return string(out)
}

// serveAll fails the test unless both servers serve the same metadata and archives, byte for byte.
func (s *signer) serveAll(from, to string) {
	s.t.Helper()
	var snapshot struct {
		Signed struct {
			Version int64
			Meta    map[string]struct{ Version int64 }
		}
	}
	same := func(path string) string {
		a, b := get(s.t, from+path), get(s.t, to+path)
		if a.status != 200 || b.status != 200 || a.body != b.body {
			s.t.Errorf("%s: %d and %d, %d and %d bytes", path, a.status, b.status, len(a.body), len(b.body))
		}
		return a.body
	}
	s.check(json.Unmarshal([]byte(same("/metadata/timestamp.json")), &snapshot))
	n := snapshot.Signed.Meta["snapshot.json"].Version
	s.check(json.Unmarshal([]byte(same(fmt.Sprintf("/metadata/%d.snapshot.json", n))), &snapshot))
	same(fmt.Sprintf("/metadata/%d.targets.json", snapshot.Signed.Meta["targets.json"].Version))
	same("/metadata/1.root.json")
	names := strings.Fields(same("/ls"))
	for _, name := range names {
		line := same("/update/" + name + ".sha256")
		same("/update/" + name)
		same("/update/" + name + ".sig")
		same("/sha256/" + line[:64] + ".blocks")
	}
	if len(names) == 0 {
		s.t.Error("nothing is served")
	}
}

func TestMirrorOfAMirror(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(9 << 20)}).publish(t, origin.base)
	w.refresh(origin.base)
	first := w.mirror(origin.base).synced(t)
	second := w.mirror(first.base).synced(t)
	w.serveAll(origin.base, second.base)
	file := packRandom(t, t.TempDir(), 1600000000, 5<<20)
	w.owner().must("publish", file, origin.base)
	for _, c := range []copied{first, second} {
		if a := c.sync(t); a.status != 200 || !strings.Contains(a.body, `"archives":1,`) {
			t.Errorf("sync: %d %s", a.status, a.body)
		}
	}
	w.serveAll(origin.base, second.base)
	out := t.TempDir()
	command(t, out, need(t, "curl", "curl"), "-fsSLO", second.base+"/update/"+filepath.Base(file))
	if digest(read(t, out, filepath.Base(file))) != digest(read(t, file)) {
		t.Error("other bytes at the last mirror")
	}
	says(t, exits(t, 0, "status", "--data-dir", second.dir, "--json"), `"synced": true`, `"updates_behind": 0`)
	says(t, get(t, second.base+"/").body, `"freshness":{"synced":true`, first.base)
	says(t, get(t, second.base+"/updates.json").body, `"freshness":{"synced":true`, filepath.Base(file))
	says(t, get(t, second.base+"/readyz?verbose").body, "[+] repository ok: snapshot", "0 updates and 0s behind")
}

func TestMirrorBeforeItsFirstSync(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	up := newTap(t, origin.base)
	up.down.Store(true)
	c := w.mirror(up.URL)
	d := digest([]byte("archive"))
	for _, path := range []string{
		"/latest", "/version", "/ls", "/updates.json", "/update/" + newest, "/update/" + newest + ".sig",
		"/sha256/" + d, "/sha256/" + d + ".blocks", "/targets/" + d + "." + newest, "/metadata/timestamp.json", "/metadata/1.root.json",
	} {
		a := get(t, c.base+path)
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q", path, a.status, a.header.Get("Retry-After"))
		}
	}
	a := get(t, c.base+"/readyz?verbose")
	if a.status != 503 {
		t.Errorf("/readyz: %d", a.status)
	}
	says(t, a.body, "[-] repository: sync: not synced")
	if a := get(t, c.base+"/livez"); a.status != 200 {
		t.Errorf("/livez: %d", a.status)
	}
	says(t, exits(t, 3, "status", "--data-dir", c.dir), "not synced")
	up.down.Store(false)
	testworld.Await(t, "a sync", func() bool { return c.sync(t).status == 200 }) // an upstream that was down gets a second of peace
	w.serveAll(origin.base, c.base)
}

// A tap stands before a server and may change what comes through.
type tap struct {
	*httptest.Server
	down  atomic.Bool // it answers 503
	wrong atomic.Bool // the first byte of each archive is another

	archives atomic.Int64    // that were asked for
	held     <-chan struct{} // archives wait until it is closed; nil: they don't
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	out := &tap{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	out.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		archive := strings.HasPrefix(r.URL.Path, "/sha256/") && !strings.Contains(r.URL.Path, ".")
		if archive {
			out.archives.Add(1)
		}
		switch {
		case archive && out.held != nil:
			<-out.held
			proxy.ServeHTTP(rw, r)
		case out.down.Load():
			http.Error(rw, "down", http.StatusServiceUnavailable)
		case out.wrong.Load() && archive:
			proxy.ServeHTTP(&flipper{ResponseWriter: rw}, r)
		default:
			proxy.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(out.Close)
	return out
}

// A flipper changes the first byte of a body.
type flipper struct {
	http.ResponseWriter
	began bool
}

func (f *flipper) Write(p []byte) (int, error) {
	if !f.began && len(p) > 0 {
		p, f.began = append([]byte{p[0] ^ 1}, p[1:]...), true
	}
	return f.ResponseWriter.Write(p)
}

func TestMirrorServesOn(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(5 << 20)}).publish(t, origin.base)
	w.refresh(origin.base)
	for label, c := range map[string]struct {
		change func(*tap)
		code   int
		text   string
	}{
		"upstream is down":     {func(u *tap) { u.down.Store(true) }, 3, "unavailable"},
		"upstream sends wrong": {func(u *tap) { u.wrong.Store(true) }, 4, "refused"},
	} {
		up := newTap(t, origin.base)
		m := w.mirror(up.URL).synced(t)
		t.Run(label, func(t *testing.T) {
			before := get(t, m.base+"/metadata/timestamp.json").body
			archives := map[string][]byte{name(1600000000, "tar.gz"): pattern(6 << 20)}
			w.refresh(origin.base)
			if len(w.repo.Releases()) == 1 {
				w.list(archives).publish(t, origin.base)
			} else {
				archives = map[string][]byte{name(1600000001, "tar.gz"): pattern(7 << 20)}
				w.list(archives).publish(t, origin.base)
			}
			c.change(up)
			a := m.sync(t)
			if a.status != 502 {
				t.Errorf("sync: %d %s", a.status, a.body)
			}
			says(t, a.body, c.text, up.URL)
			if get(t, m.base+"/metadata/timestamp.json").body != before {
				t.Error("another timestamp is served")
			}
			get(t, m.base+"/update/"+newest).isArchive(t, newest, pattern(5<<20))
			if a := m.await(t, "/readyz", 200); a.status != 200 {
				t.Errorf("/readyz: %d", a.status)
			}
			testworld.Await(t, "a warning in health", func() bool { return strings.Contains(get(t, m.base+"/").body, "no sync went well since") })
			for _, path := range []string{"/", "/readyz?verbose", "/updates.json"} {
				if body := get(t, m.base+path).body; strings.Contains(body, "/metadata/") || strings.Contains(body, "expected") || strings.Contains(body, "status 503") {
					t.Errorf("%s shows what an upstream answered: %s", path, body)
				}
			}
			says(t, get(t, m.admin+"/status").body, c.text, `"error":`)
			says(t, exits(t, 3, "status", "--data-dir", m.dir), "no sync went well since", up.URL)
			says(t, exits(t, 1, "mirror", up.URL, "--data-dir", m.dir, "--once"), "locked", "hint")
			m.stop(t)
			says(t, exits(t, c.code, "mirror", up.URL, "--data-dir", m.dir, "--patience", "0s", "--once"), c.text, up.URL)
		})
	}
}

func TestMirrorOnce(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(5 << 20)}).publish(t, origin.base)
	dir, other := filepath.Join(t.TempDir(), "M"), newSigner(t)
	once := func(code int, args ...string) string {
		t.Helper()
		return exits(t, code, append([]string{"mirror", "--once", "--patience", "0s"}, args...)...)
	}
	says(t, once(2, "--data-dir", dir), "no upstream: pass a URL or set upstream")
	says(t, exits(t, 2, "mirror", "--data-dir", w.dir, "--listen", "127.0.0.1:0"), "no upstream: pass a URL or set upstream")
	says(t, once(1, origin.base, "--data-dir", dir), "root is not set", "hint: get N.root.json")
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused command made the directory")
	}
	says(t, once(4, origin.base, "--root", other.pinned(), "--data-dir", filepath.Join(t.TempDir(), "M")), origin.base)
	says(t, once(5, origin.base, "--root", w.pinned(), "--data-dir", filepath.Join(t.TempDir(), "M"), "--max-bytes", "1000"), "no space left")
	says(t, once(0, origin.base, "--root", w.pinned(), "--data-dir", dir), "fetched 1 archives", "0 updates and 0s behind")
	says(t, once(0, origin.base, "--data-dir", dir), "fetched 0 archives")
	// One of two upstreams is enough.
	says(t, once(0, "http://127.0.0.1:1", origin.base, "--data-dir", dir), "fetched 0 archives")
	says(t, once(3, "http://127.0.0.1:1", "--data-dir", dir), "http://127.0.0.1:1", "unavailable")
	// What was copied is a repository that any server can go on with.
	s := launch{args: []string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}}.start(t)
	w.serveAll(origin.base, s.base)
}

// A program that was built after the metadata ran out doesn't believe a clock that is behind.
func TestMirrorKnowsWhenItWasBuilt(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	late := filepath.Join(t.TempDir(), program)
	if err := testworld.BuildProgram(late, "./cmd/"+program, "-ldflags", "-X main.built=2100-01-01T00:00:00Z"); err != nil {
		t.Fatal(err)
	}
	says(t, exitsAs(t, late, 4, "mirror", origin.base, "--once", "--patience", "0s", "--root", w.pinned(), "--data-dir", filepath.Join(t.TempDir(), "M")), "expired")
}

// A password in the URL of an upstream is used, and never shown to anyone.
func TestMirrorHidesPasswords(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	up := newTap(t, origin.base)
	c := w.mirror(strings.Replace(up.URL, "http://", "http://someone:hunter2@", 1), "--on-demand", "redirect").synced(t)
	up.down.Store(true)
	c.sync(t)
	shown := c.log.String()
	for _, url := range []string{c.base + "/", c.base + "/readyz?verbose", c.base + "/updates.json", c.base + "/metrics", c.admin + "/status"} {
		shown += get(t, url).body
	}
	says(t, shown, up.URL)
	if strings.Contains(shown, "hunter2") || strings.Contains(shown, "someone") {
		t.Errorf("it is shown: %s", shown)
	}
}

// A configuration makes a mirror of serve.
func TestMirrorByConfiguration(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(5 << 20)}).publish(t, origin.base)
	dir := filepath.Join(t.TempDir(), "M")
	s := launch{settings: map[string]any{
		"upstream": []string{"http://127.0.0.1:1", origin.base}, "root": w.pinned(), "data_dir": dir, "keep_newest": 3,
	}}.start(t)
	s.await(t, "/readyz", 200)
	w.serveAll(origin.base, s.base)
	bad := launch{settings: map[string]any{"upstream": "ftp://127.0.0.1", "data_dir": dir}}.run(t)
	bad.fails(t, "upstream: expected the URL of a server")
}

func TestOnDemand(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	older, old := name(1540000000, "tar.gz"), pattern(5<<20)
	w.list(map[string][]byte{newest: []byte("newest"), older: old}).publish(t, origin.base)
	for demand, check := range map[string]func(copied, answer){
		"none": func(_ copied, a answer) { a.isNotFound(t) },
		"redirect": func(_ copied, a answer) {
			if want := origin.base + "/sha256/" + digest(old); a.status != 307 || a.header.Get("Location") != want {
				t.Errorf("%d to %q, want %q", a.status, a.header.Get("Location"), want)
			}
		},
		"fetch": func(c copied, a answer) {
			if a.status != 503 || a.header.Get("Retry-After") == "" {
				t.Errorf("%d, Retry-After %q", a.status, a.header.Get("Retry-After"))
			}
			c.await(t, "/update/"+older, 200).isArchive(t, older, old)
		},
	} {
		c := w.mirror(origin.base, "--keep-newest", "1", "--on-demand", demand).synced(t)
		get(t, c.base+"/update/"+newest).isArchive(t, newest, []byte("newest"))
		check(c, get(t, c.base+"/update/"+older))
	}
}

// Fifty clients who ask at once for what is not there cause one download, and none gets a part of it.
func TestOnDemandForFifty(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	older, old := name(1540000000, "tar.gz"), pattern(5<<20)
	w.list(map[string][]byte{newest: []byte("newest"), older: old}).publish(t, origin.base)
	up := newTap(t, origin.base)
	c := w.mirror(up.URL, "--keep-newest", "1", "--on-demand", "fetch").synced(t)
	before := up.archives.Load()
	held := make(chan struct{})
	up.held = held
	fifty := func(check func(answer)) {
		var clients sync.WaitGroup
		for range 50 {
			clients.Go(func() {
				a, err := try(http.MethodGet, c.base+"/update/"+older)
				if err != nil {
					t.Error(err)
					return
				}
				check(a)
			})
		}
		clients.Wait()
	}
	fifty(func(a answer) {
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("while it comes: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
		}
	})
	close(held)
	testworld.Await(t, "the older archive", func() bool { return get(t, c.base+"/update/"+older).status == 200 })
	fifty(func(a answer) {
		if a.status != 200 || a.body != string(old) {
			t.Errorf("got %d, and %d bytes that differ", a.status, len(a.body))
		}
	})
	if n := up.archives.Load() - before; n != 1 {
		t.Errorf("%d downloads", n)
	}
}

func TestExportThroughAPipe(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(9 << 20)}).publish(t, origin.base)
	dir := filepath.Join(t.TempDir(), "M")
	pipe := func(flags string) string {
		t.Helper()
		return command(t, t.TempDir(), "bash", "-o", "pipefail", "-c", fmt.Sprintf(
			"%[1]s export --data-dir %[2]s %[5]s - | %[1]s import --data-dir %[3]s --root %[4]s -", program, w.dir, dir, w.pinned(), flags))
	}
	says(t, pipe(""), "imported 1 archives, 9437184 bytes")
	w.refresh(origin.base)
	w.list(map[string][]byte{name(1600000000, "tar.gz"): pattern(5 << 20)}).publish(t, origin.base)
	file := filepath.Join(t.TempDir(), "E")
	says(t, exits(t, 0, "export", "--data-dir", w.dir, "--since", "1550190683", file), "exported 1 archives, 5242880 bytes")
	says(t, exits(t, 1, "export", "--data-dir", "nowhere", file), "exists", "hint: remove it") // before anything is read
	cut := filepath.Join(t.TempDir(), "cut")
	w.check(os.WriteFile(cut, read(t, file)[:4<<20], 0o644))
	says(t, exits(t, 4, "import", "--data-dir", dir, cut), "no whole export")
	says(t, pipe("--since 1550190683"), "imported 1 archives")
	says(t, exits(t, 2, "export", "--data-dir", w.dir, "--since", "yesterday", "-"), "expected a version")
	says(t, exits(t, 0, "status", "--data-dir", dir), "snapshot 3 of 3")
	s := launch{args: []string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}}.start(t)
	w.serveAll(origin.base, s.base)
}

// damage changes a byte of an archive in a data directory.
func damage(t *testing.T, dir string, archive []byte) {
	t.Helper()
	d := digest(archive)
	path := filepath.Join(dir, "sha256", d[:2], d)
	bad := append([]byte{}, archive...)
	bad[len(bad)-1] ^= 1
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFsck(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	archive := pattern(9 << 20)
	w.list(map[string][]byte{newest: archive}).publish(t, origin.base)
	c := w.mirror(origin.base).synced(t)
	says(t, exits(t, 0, "fsck", "--data-dir", c.dir), "checked 1 updates: 0 problems")
	damage(t, c.dir, archive)
	// The server is asked, and repairs.
	says(t, exits(t, 0, "fsck", "--data-dir", c.dir, "--read-rate", "1000000000"), newest, "corrupt", "1 archives repaired with 1048576 bytes")
	w.serveAll(origin.base, c.base)
	says(t, exits(t, 0, "gc", "--data-dir", c.dir, "--dry-run"), "would remove 0 archives and 0 superseded")
	says(t, exits(t, 0, "gc", "--data-dir", c.dir), "removed 0 archives")
	c.stop(t)
	damage(t, c.dir, archive)
	says(t, exits(t, 0, "fsck", "--data-dir", c.dir), newest, "corrupt", "1 archives repaired")
	damage(t, c.dir, archive)
	origin.stop(t)
	says(t, exits(t, 3, "fsck", "--data-dir", c.dir), newest, "something is still wrong")
}

// What the operator may ask for is to be had at the socket alone, and nobody can publish to a mirror.
func TestMirrorRefuses(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	c := w.mirror(origin.base).synced(t)
	if a := get(t, c.admin+"/sync"); a.status != 405 {
		t.Errorf("GET: %d", a.status)
	}
	get(t, c.base+"/sync").isNotFound(t)
	get(t, c.base+"/publish/").isNotFound(t)
	says(t, exits(t, 1, "mirror", origin.base, "--root", "/dev/zero", "--data-dir", filepath.Join(t.TempDir(), "M"), "--once"), "root: /dev/zero: expected at most")
}

// TestGCOfAnOrigin collects in the directory of an origin that is stopped, and asks one that runs.
func TestGCOfAnOrigin(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, s.base)
	s.stop(t)
	paths, err := filepath.Glob(filepath.Join(w.dir, "metadata", "*"))
	w.check(err)
	for _, p := range paths {
		w.check(os.Chtimes(p, time.Time{}, time.Now().Add(-2*time.Hour)))
	}
	says(t, exits(t, 0, "gc", "--data-dir", w.dir, "--dry-run"), "would remove 0 archives and 2 superseded")
	says(t, exits(t, 0, "gc", "--data-dir", w.dir), "removed 0 archives and 2 superseded")
	w.serve()
	says(t, exits(t, 0, "gc", "--data-dir", w.dir), "removed 0 archives")
}
