package router

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// fakeMetadata are files in memory. It counts how often each is asked for.
type fakeMetadata struct {
	mu    sync.Mutex
	files map[string][]byte
	asked map[string]int
}

func (m *fakeMetadata) Metadata(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[name]++
	if raw, ok := m.files[name]; ok {
		return raw, nil
	}
	return nil, fs.ErrNotExist
}

func (m *fakeMetadata) put(name, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = []byte(text)
}

// count returns how often a file was asked for; all files, for the empty name.
func (m *fakeMetadata) count(name string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for asked, times := range m.asked {
		if name == "" || name == asked {
			n += times
		}
	}
	return n
}

func newFakeMetadata(files ...string) *fakeMetadata {
	m := &fakeMetadata{files: map[string][]byte{}, asked: map[string]int{}}
	for i := 0; i < len(files); i += 2 {
		m.put(files[i], files[i+1])
	}
	return m
}

func TestMetadata(t *testing.T) {
	m := newFakeMetadata("1.root.json", "root", "7.targets.json", "targets", "9.snapshot.json", "snapshot", "timestamp.json", "timestamp")
	addr := start(t, Config{Source: newFake(t), Metadata: m.Metadata})
	for name, text := range map[string]string{"1.root.json": "root", "7.targets.json": "targets", "9.snapshot.json": "snapshot", "timestamp.json": "timestamp"} {
		cache := "public, max-age=31536000, immutable"
		if name == "timestamp.json" {
			cache = "no-cache"
		}
		tag := `"` + update.Sum([]byte(text)).String() + `"`
		g := get(t, addr, "/metadata/"+name)
		g.hold(t, 200, map[string]string{"Content-Type": "application/json", "Cache-Control": cache, "Etag": tag, "Vary": "Accept-Encoding"})
		if g.body != text {
			t.Errorf("%s: %q", name, g.body)
		}
		ask(t, addr, "HEAD /metadata/"+name+" HTTP/1.1").hold(t, 200, map[string]string{"Etag": tag, "Cache-Control": cache})
		get(t, addr, "/metadata/"+name, "If-None-Match: "+tag).hold(t, 304, map[string]string{"Etag": tag})
		get(t, addr, "/metadata/"+name, "Range: bytes=1-2").hold(t, 206, map[string]string{"Content-Length": "2"})
		z := get(t, addr, "/metadata/"+name, "Accept-Encoding: gzip")
		z.hold(t, 200, map[string]string{"Content-Encoding": "gzip", "Cache-Control": cache})
		if gunzip(t, z.body) != text || z.header.Get("Etag") == tag {
			t.Errorf("%s compressed: %q, ETag %s", name, gunzip(t, z.body), z.header.Get("Etag"))
		}
		get(t, addr, "/metadata/"+name, "Accept-Encoding: gzip", "If-None-Match: "+z.header.Get("Etag")).hold(t, 304, nil)
		get(t, addr, "/metadata/"+name, "Accept-Encoding: gzip;q=0").hold(t, 200, map[string]string{"Content-Encoding": "-", "Etag": tag})
		ask(t, addr, "PUT /metadata/"+name+" HTTP/1.1", "Content-Length: 0").hold(t, 405, map[string]string{"Allow": "GET, HEAD"})
	}
	if n := m.count("7.targets.json"); n != 1 {
		t.Errorf("what never changes was asked for %d times", n)
	}
	m.put("timestamp.json", "next")
	if g := get(t, addr, "/metadata/timestamp.json"); g.body != "next" {
		t.Errorf("timestamp after a change: %q", g.body)
	}
}

func gunzip(t *testing.T, s string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Names that no metadata file has are not even asked for; files that are not there are.
func TestMetadataNotFound(t *testing.T) {
	m := newFakeMetadata()
	addr := start(t, Config{Source: newFake(t), Metadata: m.Metadata})
	for _, name := range []string{"0.root.json", "01.root.json", "-1.root.json", "root.json", "1.timestamp.json", "ledger", "..", "%2e%2e",
		"1.root.json/", "1.ROOT.json", "1.root.json.tmp", ".tmp-1", "99999999999999999999.root.json", "../lock"} {
		g := get(t, addr, "/metadata/"+name)
		g.hold(t, 404, map[string]string{"Content-Type": "text/plain", "Cache-Control": "no-store"})
	}
	if m.count("") > 0 {
		t.Errorf("asked for %v", m.asked)
	}
	get(t, addr, "/metadata/3.root.json").hold(t, 404, map[string]string{"Content-Type": "text/plain"})
	m.put("3.root.json", "root")
	get(t, addr, "/metadata/3.root.json").hold(t, 200, nil)
	plain := start(t, Config{Source: newFake(t)})
	get(t, plain, "/metadata/timestamp.json").hold(t, 404, nil)
	get(t, plain, "/publish/").hold(t, 404, map[string]string{"Content-Type": "text/plain"})
}

func TestMetadataAtHandIsBounded(t *testing.T) {
	m := &fileCache{most: maxMetadata}
	for i := range 100 {
		m.keep(strings.Repeat("x", i), bytes.Repeat([]byte("x"), 1<<20), nil)
		sum := 0
		for _, f := range m.byName {
			sum += len(f.raw) + answerOverhead
		}
		if sum != m.bytes || sum > maxMetadata {
			t.Fatalf("%d bytes, counted %d, at most %d", sum, m.bytes, maxMetadata)
		}
	}
}

func TestTargets(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("same bytes"), true)
	f.add(t, oldName, []byte("same bytes"), true)
	addr := start(t, Config{Source: f})
	d := u.Digest.String()
	for _, name := range []string{newName, oldName} {
		g := get(t, addr, "/targets/"+d+"."+name)
		g.hold(t, 200, map[string]string{
			"Content-Disposition": `attachment; filename="` + name + `"`, "Etag": `"` + d + `"`,
			"Cache-Control": "public, max-age=31536000, immutable, no-transform", "Content-Type": "application/octet-stream"})
		if g.body != "same bytes" {
			t.Errorf("%s: %q", name, g.body)
		}
		get(t, addr, "/targets/"+d+"."+name, "Range: bytes=5-").hold(t, 206, nil)
	}
	other := update.Sum(nil).String()
	for _, path := range []string{other + "." + newName, d, d + ".", d + "." + newName + ".sig", newName, "." + newName,
		strings.ToUpper(d) + "." + newName, d + ".opq-box-update-1.tar.gz", d + "." + newName + "/"} {
		get(t, addr, "/targets/"+path).hold(t, 404, map[string]string{"Content-Type": "text/plain"})
	}
}

// fakeSignatures are those of one update.
type fakeSignatures map[update.Name][]trust.KeySignature

func (s fakeSignatures) Signatures(u update.Update) []trust.KeySignature { return s[u.Name] }

func TestSignatures(t *testing.T) {
	f := newFake(t)
	d := f.add(t, newName, []byte("archive"), true).Digest.String()
	f.add(t, oldName, []byte("old"), true)
	first, second := keys.ID(strings.Repeat("a", 64)), keys.ID(strings.Repeat("b", 64))
	a, b := signing.Signature([]byte(strings.Repeat("A", 64))), signing.Signature([]byte(strings.Repeat("B", 64)))
	addr := start(t, Config{Source: f, Signatures: fakeSignatures{
		testworld.Name(newName): {{Key: first, Signature: a}, {Key: second, Signature: b}, {Signature: b}},
	}.Signatures})
	for _, path := range []string{"/update/" + newName + ".sig", "/sha256/" + d + ".sig"} {
		for query, want := range map[string]signing.Signature{"": a, "?key=" + string(first): a, "?key=" + string(second): b} {
			g := get(t, addr, path+query)
			g.hold(t, 200, map[string]string{"Content-Type": "application/octet-stream", "Content-Length": "64", "Cache-Control": "no-cache"})
			if g.body != string(want[:]) {
				t.Errorf("%s%s: %q", path, query, g.body)
			}
			get(t, addr, path+query, "If-None-Match: "+g.header.Get("Etag")).hold(t, 304, nil)
		}
		for _, query := range []string{"?key=" + strings.Repeat("c", 64), "?key=", "?key=" + string(first)[:63]} {
			get(t, addr, path+query).hold(t, 404, map[string]string{"Content-Type": "text/plain"})
		}
	}
	get(t, addr, "/update/"+oldName+".sig").hold(t, 404, nil)
	list := get(t, addr, "/updates.json").body
	want := `"signatures":{"` + string(first) + `":"` + a.String() + `","` + string(second) + `":"` + b.String() + `"}}]}`
	if !strings.HasSuffix(list, want+"\n") || strings.Contains(list, `"unsigned"`) {
		t.Errorf("updates.json: %s\nwant at its end %s", list, want)
	}
}

// The newest update is one that every box may install, and time alone may make it another.
func TestNewestChangesWithTime(t *testing.T) {
	f := newFake(t)
	f.add(t, oldName, []byte("old"), true)
	u := f.add(t, newName, []byte("new"), true)
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	u.Limited, u.Until, u.Unsigned = true, begun.Add(30*time.Second), true
	f.updates[u.Name] = u
	f.publish(t)
	var mu sync.Mutex
	now := begun
	set := func(at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		now = at
	}
	addr := start(t, Config{Source: f, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	check := func(want, version string) {
		t.Helper()
		get(t, addr, "/latest").hold(t, 303, map[string]string{"Location": "/update/" + want})
		if g := get(t, addr, "/version"); g.body != version {
			t.Errorf("version %s, want %s", g.body, version)
		}
		if g := get(t, addr, "/updates.json"); !strings.Contains(g.body, `"newest":"`+want+`"`) || !strings.Contains(g.body, `"unsigned":true`) {
			t.Errorf("updates.json: %s", g.body)
		}
	}
	check(oldName, "999999999")
	set(begun.Add(29 * time.Second))
	check(oldName, "999999999")
	get(t, addr, "/update/"+newName).hold(t, 200, nil)
	set(u.Until)
	check(newName, "1550190683")
	set(begun) // somebody sets the clock back
	check(oldName, "999999999")
	get(t, addr, "/update/"+newName).hold(t, 200, nil)
	if n := f.opened.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
	u.Until = time.Time{}
	f.updates[u.Name] = u
	delete(f.updates, testworld.Name(oldName))
	f.publish(t)
	get(t, addr, "/latest").hold(t, 503, nil)
}
