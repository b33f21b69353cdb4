package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/box"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

var (
	start = testworld.Start
	check = testworld.Must
)

// world is an origin with all its keys, its repository, and the archives that were ever published.
type world struct {
	t                     *testing.T
	root, release, online *testworld.Signer
	at                    time.Time
	repo                  *trust.Repository
	state                 *trust.State // where the repository is published
	files                 map[string][]byte
}

func newWorld(t *testing.T) *world { return newWorldAt(t, start) }

func newWorldAt(t *testing.T, at time.Time) *world {
	t.Helper()
	return newWorldOf(t, at, testworld.NewSigner("root"), testworld.NewSigner("release"), testworld.NewSigner("online"))
}

func newWorldOf(t *testing.T, at time.Time, root, release, online *testworld.Signer) *world {
	t.Helper()
	w := &world{t: t, root: root, release: release, online: online, at: at, files: map[string][]byte{}}
	repo := testworld.Keyring{Roots: []*testworld.Signer{root}, Releases: []*testworld.Signer{release}, Online: online}.Init(t, at, 1)
	var err error
	w.state, err = trust.Open(trust.Config{Dir: filepath.Join(t.TempDir(), "R"), Pinned: repo.Raw(trust.RoleRoot), DeferRoots: true})
	check(t, err)
	w.commit(repo)
	return w
}

func (w *world) commit(repo *trust.Repository) {
	w.t.Helper()
	check(w.t, w.state.Commit(repo))
	w.repo = repo
	for _, role := range trust.Roles() {
		w.files["metadata/"+trust.FileName(role, repo.Version(role))] = repo.Raw(role)
	}
}

// pass lets time pass at the origin.
func (w *world) pass(d time.Duration) { w.at = w.at.Add(d) }

// publish lists these archives, on these conditions.
func (w *world) publish(c trust.Conditions, archives map[string][]byte) {
	w.t.Helper()
	w.edit(func(e *trust.TargetsEdit) error {
		for name, b := range archives {
			var h update.Hasher
			_, _ = h.Write(b)
			digest, blocks, length := h.Result()
			w.files["sha256/"+digest.String()] = b
			w.files["sha256/"+digest.String()+".blocks"] = blocks.Bytes()
			if err := e.Add(trust.Addition{
				Name: named(w.t, name), Digest: digest, Length: length, Blocks: update.Sum(blocks.Bytes()), Unpacked: length, Conditions: c,
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func named(t testing.TB, s string) update.Name {
	t.Helper()
	n, err := update.ParseName(s)
	check(t, err)
	return n
}

// edit publishes the next list.
func (w *world) edit(change func(*trust.TargetsEdit) error) {
	w.t.Helper()
	e, err := w.repo.EditTargets(w.state.Ledger(), 0, w.at)
	check(w.t, err)
	check(w.t, change(e))
	p, err := e.Sign(w.t.Context(), w.release)
	check(w.t, err)
	w.next(trust.Change{Targets: p})
}

// next publishes a change; the zero one renews snapshot and timestamp.
func (w *world) next(c trust.Change, by ...signing.Signer) {
	w.t.Helper()
	repo, err := w.repo.Next(w.t.Context(), w.at, c, append(by, w.online)...)
	check(w.t, err)
	w.commit(repo)
}

// newRoot publishes the next root, which the root key signs.
func (w *world) newRoot(change func(*trust.RootEdit) error, by ...signing.Signer) {
	w.t.Helper()
	e := w.repo.EditRoot(w.at)
	check(w.t, change(e))
	p, err := e.Sign(w.t.Context(), append(by, w.root)...)
	check(w.t, err)
	w.next(trust.Change{Root: p}, by...)
}

// replaceOnlineKey replaces the online key in two steps.
func (w *world) replaceOnlineKey() {
	w.t.Helper()
	fresh := testworld.NewSigner("online 2")
	old := w.online
	w.newRoot(func(e *trust.RootEdit) error {
		for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp} {
			if err := e.AddKey(role, fresh.Public()); err != nil {
				return err
			}
		}
		return nil
	}, fresh)
	w.next(trust.Change{}, fresh)
	w.online = fresh
	w.newRoot(func(e *trust.RootEdit) error {
		for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp} {
			if err := e.RemoveKey(role, old.Public().ID()); err != nil {
				return err
			}
		}
		return nil
	}, fresh)
}

// pack makes an archive whose install script writes a line to the file at $RAN, which lies beside the
// state directory, and then does what is asked for.
func (w *world) pack(name, script string) []byte {
	w.t.Helper()
	n := named(w.t, name)
	// The state directory is four directories above.
	text := "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran || exit 1\n" + script + "\n"
	return tarball(w.t, n, map[string]string{"VERSION": n.Version().String() + "\n", "install_update.sh": text})
}

// tarball makes an archive as boxsign build does.
func tarball(t testing.TB, n update.Name, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.NoCompression) // what is long here can't be packed
	check(t, err)
	tw := tar.NewWriter(z)
	add := func(h tar.Header, content string) {
		h.Size, h.ModTime, h.Format = int64(len(content)), time.Unix(1000, 0), tar.FormatUSTAR
		check(t, tw.WriteHeader(&h))
		_, err := tw.Write([]byte(content))
		check(t, err)
	}
	add(tar.Header{Name: n.Top() + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	for _, file := range []string{"VERSION", "data", "install_update.sh"} {
		mode := int64(0o644)
		if strings.HasSuffix(file, ".sh") {
			mode = 0o755
		}
		if content, ok := files[file]; ok {
			add(tar.Header{Name: n.Top() + "/" + file, Typeflag: tar.TypeReg, Mode: mode}, content)
		}
	}
	check(t, errors.Join(tw.Close(), z.Close()))
	return b.Bytes()
}

// mirror is a server with files of its own.
type mirror struct {
	*httptest.Server
	mu       sync.Mutex
	files    map[string][]byte
	requests []string // "GET path status"
	hijack   func(w http.ResponseWriter, r *http.Request) bool
}

// mirror starts a server with what is published now. It stays as it is until it is synced.
func (w *world) mirror() *mirror {
	w.t.Helper()
	m := &mirror{}
	m.sync(w)
	m.Server = httptest.NewServer(m)
	w.t.Cleanup(m.Close)
	return m
}

// sync gives a mirror all that was ever published.
func (m *mirror) sync(w *world) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = map[string][]byte{}
	for name, b := range w.files {
		m.files[name] = b
	}
}

// put changes one file of a mirror, or removes it.
func (m *mirror) put(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] = b; b == nil {
		delete(m.files, name)
	}
}

func (m *mirror) on(hijack func(w http.ResponseWriter, r *http.Request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hijack = hijack
}

// asked returns the requests since the last call.
func (m *mirror) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.requests
	m.requests = nil
	return out
}

// noted notes a request when its status is known: before the client has anything of the answer.
type noted struct {
	http.ResponseWriter
	note func(status int)
}

func (n *noted) WriteHeader(status int) {
	n.note(status)
	n.ResponseWriter.WriteHeader(status)
}

func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// ServeHTTP serves the files, with their digests as entity tags.
func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	hijack := m.hijack
	path := strings.TrimPrefix(r.URL.Path, "/")
	b, ok := m.files[path]
	m.mu.Unlock()
	var once sync.Once
	n := &noted{w, func(status int) {
		once.Do(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.requests = append(m.requests, fmt.Sprintf("%s %s %d", r.Method, path, status))
		})
	}}
	defer n.note(http.StatusOK) // where nothing else said one
	if hijack != nil && hijack(n, r) {
		return
	}
	if !ok {
		http.Error(n, "Resource not found.", http.StatusNotFound)
		return
	}
	n.Header().Set("Etag", `"`+update.Sum(b).String()+`"`)
	n.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(n, r, "", time.Time{}, bytes.NewReader(b))
}

// device is a box: its directories and its clock.
type device struct {
	t       *testing.T
	dir     string
	now     time.Time
	built   time.Time
	slept   []time.Duration
	random  float64
	machine string // the file of the system's machine id
}

// newDevice makes a box that was initialised with the world's first root.
func (w *world) newDevice(settings map[string]any, mirrors ...*mirror) *device {
	w.t.Helper()
	d := w.bare()
	urls := []string{}
	for _, m := range mirrors {
		urls = append(urls, m.URL)
	}
	d.write("1.root.json", w.files["metadata/1.root.json"])
	d.must(0, append([]string{"init", "--root", d.path("1.root.json"), "--root-fingerprint", update.Sum(w.files["metadata/1.root.json"]).String(), "--state", d.path("S")}, urls...)...)
	d.configure(settings)
	return d
}

// bare is a box without a configuration.
func (w *world) bare() *device {
	d := &device{t: w.t, dir: w.t.TempDir(), now: w.at, random: 0.999}
	d.machine = d.path("machine-id")
	d.write("machine-id", []byte(strings.Repeat("0", 31)+"1\n"))
	return d
}

func (d *device) path(name string) string { return filepath.Join(d.dir, name) }

func (d *device) write(name string, b []byte) {
	d.t.Helper()
	check(d.t, os.MkdirAll(filepath.Dir(d.path(name)), 0o755))
	check(d.t, os.WriteFile(d.path(name), b, 0o644))
}

// configure sets fields of the configuration. A box of a test never reboots what it runs on, and asks
// each mirror once.
func (d *device) configure(settings map[string]any) {
	d.t.Helper()
	all := map[string]any{}
	if b, err := os.ReadFile(d.path("C/config.json")); err == nil {
		check(d.t, json.Unmarshal(b, &all))
	}
	all["reboot"], all["patience"] = "never", "0s"
	for k, v := range settings {
		all[k] = v
	}
	b, err := json.Marshal(all)
	check(d.t, err)
	d.write("C/config.json", b)
}

// answer is what a command line came to.
type answer struct {
	t        *testing.T
	args     []string
	code     int
	out, err string
}

// boxup runs the command line in this process.
func (d *device) boxup(args ...string) answer {
	d.t.Helper()
	var out, errs bytes.Buffer
	p := program{
		streams: cli.Streams{
			In: strings.NewReader(""), Out: &out, Err: &errs,
			Getenv: func(string) string { return "" }, Now: func() time.Time { return d.now },
		},
		box: box.Box{
			Built: d.built,
			Sleep: func(_ context.Context, long time.Duration) error {
				d.slept = append(d.slept, long)
				return nil
			},
			Random:        func() float64 { return d.random },
			MachineIDFile: d.machine,
		},
	}
	args = append(slices.Clone(args), "--config", d.path("C/config.json"))
	code := command.Run(d.t.Context(), "boxup", newRoot(&p), args, p.streams)
	return answer{d.t, args, code, out.String(), errs.String()}
}

// must runs a command line that has to end with that code, and returns what it says.
func (d *device) must(code int, args ...string) answer {
	d.t.Helper()
	a := d.boxup(args...)
	if a.code != code {
		d.t.Fatalf("boxup %q: expected exit code %d, got %d\n%s%s", args, code, a.code, a.out, a.err)
	}
	return a
}

// says fails the test unless all these texts were written.
func (a answer) says(texts ...string) answer {
	a.t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.out+a.err, text) {
			a.t.Errorf("boxup %q: expected %q, got\n%s%s", a.args, text, a.out, a.err)
		}
	}
	return a
}

// ran returns the versions whose install script ran, in order.
func (d *device) ran() string {
	d.t.Helper()
	b, err := os.ReadFile(d.path("ran"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

// installed returns the version that is recorded as installed, "" for none.
func (d *device) installed() string {
	d.t.Helper()
	s, err := install.ReadStatus(d.path("S"))
	check(d.t, err)
	return s.Version.String()
}

// has fails the test unless that version is installed, and the scripts of these ran.
func (d *device) has(version, ran string) {
	d.t.Helper()
	if got, scripts := d.installed(), d.ran(); got != version || scripts != ran {
		d.t.Errorf("expected version %q installed and scripts %q, got %q and %q", version, ran, got, scripts)
	}
}

// clean fails the test where the state directory holds more than it should after an update.
func (d *device) clean() {
	d.t.Helper()
	for _, dir := range []string{"staging", "targets", "sha256", "quarantine", "install/work"} {
		check(d.t, filepath.WalkDir(d.path("S/"+dir), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && path != d.path("S/"+dir) {
				d.t.Errorf("left behind: %s", path)
			}
			return err
		}))
	}
	check(d.t, filepath.WalkDir(d.path("S"), func(path string, e fs.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), ".tmp-") {
			d.t.Errorf("left behind: %s", path)
		}
		return err
	}))
}

// sole checks that there was exactly one request, and that this is it.
func (m *mirror) sole(t *testing.T, want string) {
	t.Helper()
	if got := m.asked(); !slices.Equal(got, []string{want}) {
		t.Errorf("expected the one request %q, got %q", want, got)
	}
}

// plain gives a mirror what boxes without a root ask for: archives by name, with their signatures and, for
// whoever falls for it, checksum lines. The last one is the newest.
func (w *world) plain(m *mirror, names ...string) {
	w.t.Helper()
	for _, name := range names {
		n := named(w.t, name)
		rel, ok := w.repo.Release(n)
		if !ok {
			w.t.Fatalf("%s is not published", name)
		}
		sig, err := signing.Sign(w.t.Context(), w.release, rel.Digest(), n)
		check(w.t, err)
		m.put("update/"+name, w.files["sha256/"+rel.Digest().String()])
		m.put("update/"+name+".sig", sig[:])
		m.put("update/"+name+".sha256", update.ChecksumLine(rel.Digest(), n))
		m.put("updates.json", fmt.Appendf(nil, `{"newest":%q,"updates":[{"name":%q,"sha256":"%v","length":%d}]}`, name, name, rel.Digest(), rel.Length()))
		m.put("version", []byte(n.Version().String()))
	}
}
