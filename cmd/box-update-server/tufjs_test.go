package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// installPeer installs tuf-js and returns the path of the program that lives on it.
func installPeer(t *testing.T) string {
	t.Helper()
	return testworld.TUFJS(t, "testdata/tufjs/follow.cjs")
}

// A peer is a box with tuf-js, which goes on living between refreshes.
type peer struct {
	in    io.WriteCloser
	out   *bufio.Scanner
	state string // its directory
}

// trusted is what a peer trusts and has after a refresh.
type trusted struct {
	Root, Timestamp, Snapshot, Targets int64
	Updates                            []string
	Error                              string // why it refused; nothing else is set then
}

// startPeer starts a box that trusts this root.
func startPeer(t *testing.T, program string, root []byte) *peer {
	t.Helper()
	p := &peer{state: t.TempDir()}
	write(t, p.state, "root.json", root)
	cmd := exec.Command("node", program, p.state)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	p.in, p.out = in, bufio.NewScanner(out)
	return p
}

// refresh has the box refresh from a server.
func (p *peer) refresh(base string) (trusted, error) {
	if _, err := fmt.Fprintln(p.in, base); err != nil {
		return trusted{}, err
	}
	if !p.out.Scan() {
		return trusted{}, fmt.Errorf("node: no answer: %w", errors.Join(p.out.Err(), io.ErrUnexpectedEOF))
	}
	var now trusted
	err := json.Unmarshal(p.out.Bytes(), &now)
	return now, err
}

// refuses fails the test unless the box refuses a server and says this, and trusts the root and the list
// that it did before. (Snapshot and timestamp it may have taken: the online key signed them.)
func (p *peer) refuses(t *testing.T, base, text string) {
	t.Helper()
	before := p.keeps(t)
	now, err := p.refresh(base)
	if err != nil || !strings.Contains(now.Error, text) {
		t.Errorf("got %+v, %v, want an error with %q", now, err, text)
	}
	if after := p.keeps(t); after != before {
		t.Errorf("%q changed what the box has: was\n%s\nis\n%s", now.Error, before, after)
	}
}

// keeps tells of the files that the box keeps, those of the online key excepted.
func (p *peer) keeps(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(tree(t, p.state)) {
		if !strings.Contains(line, "/timestamp.json ") && !strings.Contains(line, "/snapshot.json ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// accepts fails the test unless the box accepts what a server serves.
func (p *peer) accepts(t *testing.T, base string) trusted {
	t.Helper()
	now, err := p.refresh(base)
	if err != nil || now.Error != "" {
		t.Fatalf("refused: %s, %v", now.Error, err)
	}
	return now
}

// A following is a peer that refreshes again and again.
type following struct {
	t     *testing.T
	root  atomic.Int64 // the version that it trusts
	times int          // how often it refreshed; read after stop
	stop  func()       // waits, and fails the test where a refresh failed
}

// follow has the box refresh until stop.
func (p *peer) follow(t *testing.T, base string) *following {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f, done := &following{t: t}, make(chan error, 1)
	go func() { done <- p.loop(ctx, base, f) }()
	f.stop = func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("after %d refreshes: %v", f.times, err)
		}
	}
	return f
}

func (p *peer) loop(ctx context.Context, base string, f *following) error {
	var last trusted
	for ctx.Err() == nil {
		now, err := p.refresh(base)
		switch {
		case err != nil:
			return err
		case now.Error != "":
			return fmt.Errorf("refused after %+v: %s", last, now.Error)
		case now.Root < last.Root || now.Timestamp < last.Timestamp || now.Targets < last.Targets:
			return fmt.Errorf("went back from %+v to %+v", last, now)
		}
		last = now
		f.root.Store(now.Root)
		f.times++
	}
	return nil
}

// reaches waits until the box trusts this root.
func (f *following) reaches(version int64) {
	f.t.Helper()
	testworld.Await(f.t, fmt.Sprintf("root %d at the box", version), func() bool { return f.root.Load() >= version })
}

// newestRoot fails the test unless this root is served, and none after it.
func newestRoot(t *testing.T, base string, version int64) {
	t.Helper()
	for v, want := range map[int64]int{version: 200, version + 1: 404} {
		if a := get(t, fmt.Sprintf("%s/metadata/%d.root.json", base, v)); a.status != want {
			t.Errorf("root %d: %d, want %d", v, a.status, want)
		}
	}
}

// another is somebody else with a key of their own for one role.
func (s *signer) another(role trust.Role) person {
	s.t.Helper()
	key, err := secret.Generate()
	s.check(err)
	if role == trust.RoleRoot {
		return s.person(key, nil)
	}
	return s.person(nil, key)
}

// has fails the test unless the box has these archives.
func (p *peer) has(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if digest(read(t, p.state, filepath.Base(path))) != digest(read(t, path)) {
			t.Errorf("%s: other bytes", filepath.Base(path))
		}
	}
}

// Keys come and go over HTTP while a box of somebody else's making refreshes: it accepts what is served at
// every instant, and ends at the newest root.
func TestTUFClientFollowsRoots(t *testing.T) {
	t.Parallel()
	program := installPeer(t)
	w := newSigner(t)
	s, p := w.serve("--log-requests=false"), w.owner()
	first, more := packRandom(t, t.TempDir(), 1600000000, 1<<20), packRandom(t, t.TempDir(), 1600000001, 1<<20)
	p.must("publish", first, s.base)
	box := startPeer(t, program, w.repo.Raw(trust.RoleRoot))
	follows := box.follow(t, s.base)
	release, root := filepath.Join(w.another(trust.RoleTargets).keys, "release.pub"), filepath.Join(w.another(trust.RoleRoot).keys, "root.pub")
	for _, step := range []struct {
		command []string
		newest  int64 // root after it
	}{
		{[]string{"root renew"}, 2},
		{[]string{"root add-key", "release", release}, 3},
		{[]string{"root remove-key", "release", release}, 4},
		{[]string{"rotate release"}, 6}, // with a list between two roots
		{[]string{"root add-key", "root", root}, 7},
		{[]string{"root remove-key", "root", root}, 8},
	} {
		p.must(step.command[0], append(step.command[1:], "--repo", s.base)...)
		newestRoot(t, s.base, step.newest)
		follows.reaches(step.newest)
	}
	p.must("publish", more, s.base)
	follows.stop()
	t.Logf("%d refreshes", follows.times)
	if now := box.accepts(t, s.base); now.Root != 8 {
		t.Errorf("the box trusts root %d, expected 8", now.Root)
	}
	box.has(t, first, more)
}

// The online key is replaced with a restart of the origin in between; the box goes on.
func TestTUFClientFollowsTheOnlineKey(t *testing.T) {
	t.Parallel()
	program := installPeer(t)
	w := newSigner(t)
	p, box := w.owner(), startPeer(t, program, w.repo.Raw(trust.RoleRoot))
	old, fresh := filepath.Join(p.keys, "online.pem"), filepath.Join(p.keys, "online.next.pem")
	for _, step := range []struct {
		online string // what the origin has
		rotate func(base string)
		newest int64
	}{
		{old, func(base string) {
			p.refused("rotate online", []string{"--repo", base}, "does not sign with the new online key")
		}, 2},
		{old + ":" + fresh, func(base string) {
			says(t, p.must("rotate online", "--repo", base), "key removed: online ")
		}, 3},
		{old, func(string) {}, 3}, // the new one has the name of the old one by now
	} {
		s := launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", step.online, "--listen", "127.0.0.1:0"}}.start(t)
		follows := box.follow(t, s.base)
		step.rotate(s.base)
		newestRoot(t, s.base, step.newest)
		follows.reaches(step.newest)
		follows.stop()
		s.stop(t)
	}
}

// lies are what a mirror answers instead of what its origin would, by path. nil: 404.
type lies map[string][]byte

// mirror starts a mirror that passes on all but its lies.
func (l lies) mirror(t *testing.T, origin string) string {
	t.Helper()
	target, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, lie := l[r.URL.Path]
		switch {
		case !lie:
			proxy.ServeHTTP(rw, r)
		case body == nil:
			http.NotFound(rw, r)
		default:
			_, _ = rw.Write(body) // a client that is gone
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// A mirror that withholds roots, or shows old ones, gets nothing past a box.
func TestTUFClientRefusesOldRoots(t *testing.T) {
	t.Parallel()
	program := installPeer(t)
	w := newSigner(t)
	s, p := w.serve("--log-requests=false"), w.owner()
	first := packRandom(t, t.TempDir(), 1600000000, 1<<20)
	p.must("publish", first, s.base)
	root := w.repo.Raw(trust.RoleRoot)
	box, lagging := startPeer(t, program, root), startPeer(t, program, root)
	box.accepts(t, s.base)
	lagging.accepts(t, s.base)
	before := t.TempDir()
	for _, part := range []string{"metadata", "sha256"} { // a server runs on the rest
		w.check(os.CopyFS(filepath.Join(before, part), os.DirFS(filepath.Join(w.dir, part))))
	}
	past := httptest.NewServer(http.FileServer(http.Dir(before)))
	t.Cleanup(past.Close)

	// The key that signed until now counts no more.
	p.must("rotate release", "--repo", s.base)
	newestRoot(t, s.base, 3)
	if now := box.accepts(t, s.base); now.Root != 3 {
		t.Fatalf("the box trusts root %d, expected 3", now.Root)
	}
	box.refuses(t, past.URL, "BadVersionError")

	// Who never saw the new roots refuses what only they allow.
	withheld := lies{"/metadata/2.root.json": nil}.mirror(t, s.base)
	lagging.refuses(t, withheld, "targets was signed by 0/1 keys")
	startPeer(t, program, root).refuses(t, withheld, "targets was signed by 0/1 keys")

	// An old root is no new one, whatever it is called, and neither is another's.
	roots := map[string][]byte{
		"Expected version 4, got 2": read(t, w.dir, "metadata", "2.root.json"),
		"root was signed by 0/1":    newSigner(t).repo.Raw(trust.RoleRoot),
	}
	for text, lie := range roots {
		box.refuses(t, lies{"/metadata/4.root.json": lie}.mirror(t, s.base), text)
	}
	// Nothing of that did any harm.
	for _, b := range []*peer{box, lagging} {
		if now := b.accepts(t, s.base); now.Root != 3 {
			t.Errorf("the box trusts root %d, expected 3", now.Root)
		}
	}
}
