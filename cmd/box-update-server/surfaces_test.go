package main_test

import (
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A flaw is something that is wrong with a server, and what the server says of it.
type flaw struct {
	name    string
	make    func(t *testing.T) (s *server, dir string) // dir is its data directory, "" for none
	says    string                                     // the warning, or how it begins, after the name of the component
	of      string                                     // the component; "": repository
	urgent  bool
	unready bool // no box takes anything that is there
	status  int  // what the command status exits with
}

// Every surface says the same of the same flaw: /, the probes, the status page, the metrics, and the commands with
// their exit codes.
func TestEverySurfaceSaysTheSame(t *testing.T) {
	t.Parallel()
	const lost = "archives: 1 that are listed can't be served, the first is opq-box-update-1600000001.tar.gz: "
	for _, f := range []flaw{
		{name: "lost at an origin", make: lostAtOrigin, says: lost + "publish it again", urgent: true, status: 4},
		{name: "short in a plain directory", make: shortInDirectory, says: lost + "publish it again", urgent: true, status: 4},
		{name: "quarantined at an origin", make: quarantinedAtOrigin, says: lost + "publish it again", urgent: true, status: 4},
		{name: "damaged metadata that can't be written again", make: damagedForGood, says: "metadata: metadata/timestamp.json: "},
		{name: "damaged metadata at a mirror", make: damagedAtMirror, says: "metadata: metadata: ", urgent: true, unready: true, status: 3},
		{name: "lost at a mirror", make: lostAtMirror, says: lost + "damaged here or at the upstreams", urgent: true, status: 3},
		{name: "improper at an origin", make: improperAtOrigin, says: "opq-box-update-1600000000.tar.gz is not a proper update: "},
		{name: "near its expiry at a mirror", make: nearExpiryAtMirror, says: "expiry: timestamp 1 expires at ", urgent: true, status: 4},
		{name: "not renewed in a plain directory", make: notRenewed, says: "renewal: timestamp 1 and snapshot 1 were not renewed", urgent: true, status: 4},
		{name: "expired at a mirror", make: expiredAtMirror, says: "expiry: timestamp 1 expired at ", urgent: true, unready: true, status: 3},
		{name: "not synced", make: notSynced, says: "sync: not synced: ", urgent: true, unready: true, status: 3},
		{name: "behind", make: behindUpstream, says: "behind: 1 updates and ", status: 3},
		{name: "ring", make: ringOfOne, says: "upstream: all upstreams copy from this mirror", status: 3},
		{name: "clock of an origin", make: clockBehind, says: "clock: ", urgent: true, status: 4},
		{name: "all ignored in an updates directory", make: allIgnored, says: "no archive is left to serve", of: "updates directory", urgent: true},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s, dir := f.make(t)
			f.seenAt(t, s, dir)
		})
	}
}

// seenAt fails the test unless each surface tells of the flaw.
func (f flaw) seenAt(t *testing.T, s *server, dir string) {
	t.Helper()
	if f.of == "" {
		f.of = "repository"
	}
	s.awaitHealth(t, f.says)
	mark, ready, healthz, code, healthy := "[!] ", 200, 200, 0, "1"
	if f.urgent {
		mark, healthz, code, healthy = "[-] ", 503, 4, "0"
	}
	if f.unready {
		ready, code = 503, 1
	}
	var root struct{ OK bool }
	if err := json.Unmarshal([]byte(get(t, s.base+"/").body), &root); err != nil || root.OK == f.urgent {
		t.Errorf("/: ok is %v, %v", root.OK, err)
	}
	for path, want := range map[string]int{"/": 200, "/healthz": healthz, "/readyz": ready, "/readyz?verbose": ready, "/livez": 200} {
		if a := get(t, s.base+path); a.status != want {
			t.Errorf("%s: %d, want %d: %s", path, a.status, want, a.body)
		}
	}
	line := mark + f.of + ": " + f.says
	says(t, get(t, s.base+"/readyz?verbose").body, line)
	says(t, exits(t, code, "health", s.base), line)
	page := html.UnescapeString(get(t, s.base+"/", "Accept", "text/html").body)
	says(t, page, f.of+": "+f.says)
	if healthy := strings.Contains(page, "<strong>Healthy</strong>"); healthy != (f.status == 0 && !f.urgent) {
		t.Errorf("the page says that all is healthy: %v", healthy)
	}
	says(t, get(t, s.base+"/metrics").body, "box_update_server_healthy "+healthy+"\n")
	if dir != "" {
		says(t, exits(t, f.status, "status", "--data-dir", dir), mark+f.says)
		says(t, exits(t, f.status, "status", "--data-dir", dir, "--json"), fmt.Sprintf(`"urgent": %v`, f.urgent))
	}
}

// published is an origin that has two archives, stopped. It returns the file of the second in its directory.
func published(t *testing.T) (w *signer, file string) {
	t.Helper()
	w = newSigner(t)
	s := w.serve()
	dir := t.TempDir()
	second := packRandom(t, dir, 1600000001, 100_000)
	w.owner().must("publish", packRandom(t, dir, 1600000000, 100_000), second, s.base)
	s.stop(t)
	d := digest(read(t, second))
	return w, filepath.Join(w.dir, "sha256", d[:2], d)
}

func lostAtOrigin(t *testing.T) (*server, string) {
	w, file := published(t)
	w.check(os.Remove(file))
	return w.serve(), w.dir
}

func shortInDirectory(t *testing.T) (*server, string) {
	w, file := published(t)
	w.check(os.Chmod(file, 0o644))
	w.check(os.Truncate(file, 10))
	return launch{args: []string{"serve", "--data-dir", w.dir, "--listen", "127.0.0.1:0"}}.start(t), w.dir
}

func quarantinedAtOrigin(t *testing.T) (*server, string) {
	w, file := published(t)
	damage(t, w.dir, read(t, file))
	exits(t, 3, "fsck", "--data-dir", w.dir)
	return w.serve(), w.dir
}

// damagedForGood has a directory in place of a file, which no write replaces; the copy beside it is intact.
func damagedForGood(t *testing.T) (*server, string) {
	w, _ := published(t)
	path := filepath.Join(w.dir, "metadata", "timestamp.json")
	w.check(os.Remove(path))
	w.check(os.MkdirAll(filepath.Join(path, "lost+found"), 0o755))
	return w.serve(), w.dir
}

// damagedAtMirror has neither a timestamp nor a copy of it that can be read, and no upstream.
func damagedAtMirror(t *testing.T) (*server, string) {
	w := newSigner(t)
	c := w.mirror(w.serve().base).synced(t)
	c.stop(t)
	path := filepath.Join(c.dir, "metadata", "timestamp.json")
	write(t, filepath.Dir(path), "timestamp.json", []byte("{}"))
	write(t, filepath.Dir(path), "timestamp.json.copy", []byte("{}"))
	return w.mirrorIn(c.dir, "http://127.0.0.1:1").server, c.dir
}

func lostAtMirror(t *testing.T) (*server, string) {
	w, file := published(t)
	origin := w.serve()
	c := w.mirror(origin.base).synced(t)
	c.stop(t)
	origin.stop(t)
	w.check(os.Remove(file))
	w.check(os.Remove(filepath.Join(c.dir, strings.TrimPrefix(file, w.dir))))
	return w.mirrorIn(c.dir, w.serve().base).server, c.dir
}

func improperAtOrigin(t *testing.T) (*server, string) {
	w := newSigner(t)
	s := w.serve()
	path := write(t, t.TempDir(), "opq-box-update-1600000000.tar.gz", []byte("no archive"))
	w.owner().must("publish", "--force", path, s.base)
	return s, w.dir
}

// oldDirectory serves what was signed six days ago, without the key that would renew it.
func oldDirectory(t *testing.T) (*server, *signer) {
	w := newSignerAt(t, time.Now().Add(-6*24*time.Hour))
	return launch{args: []string{"serve", "--data-dir", w.dir, "--listen", "127.0.0.1:0"}}.start(t), w
}

func notRenewed(t *testing.T) (*server, string) {
	s, w := oldDirectory(t)
	return s, w.dir
}

func nearExpiryAtMirror(t *testing.T) (*server, string) {
	s, w := oldDirectory(t)
	c := w.mirror(s.base).synced(t)
	return c.server, c.dir
}

func expiredAtMirror(t *testing.T) (*server, string) {
	w := newSignerAt(t, time.Now().Add(-8*24*time.Hour))
	return w.mirrorIn(w.dir, "http://127.0.0.1:1").server, w.dir
}

func notSynced(t *testing.T) (*server, string) {
	c := newSigner(t).mirror("http://127.0.0.1:1")
	return c.server, c.dir
}

func behindUpstream(t *testing.T) (*server, string) {
	w := newSigner(t)
	origin := w.serve()
	up := newTap(t, origin.base)
	c := w.mirror(up.URL).synced(t)
	up.wrong.Store(true)
	w.list(map[string][]byte{newest: pattern(1000)}).publish(t, origin.base)
	c.sync(t)
	return c.server, c.dir
}

func ringOfOne(t *testing.T) (*server, string) {
	w := newSigner(t)
	first := w.mirror(w.serve().base).synced(t)
	first.stop(t)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	c := w.mirrorIn(first.dir, "http://"+address, "--listen", address)
	testworld.Await(t, "a ring", func() bool { return strings.Contains(c.sync(t).body, `"ring":true`) })
	return c.server, c.dir
}

// clockBehind signs nothing: what is there was signed by a clock that was ahead, or this one is behind.
func clockBehind(t *testing.T) (*server, string) {
	w := newSignerAt(t, time.Now().Add(2*24*time.Hour))
	return w.serve(), w.dir
}

func allIgnored(t *testing.T) (*server, string) {
	dir := t.TempDir()
	write(t, dir, "opq-box-update-latest.tar.bz2", []byte("x"))
	return serve(t, dir), ""
}
