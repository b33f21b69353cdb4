package router

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/router/front"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	oldName = "opq-box-update-999999999.tar.bz2"
	newName = "opq-box-update-1550190683.tar.bz2"
)

func TestHeaders(t *testing.T) {
	f := newFake(t)
	body := []byte("the bytes of an archive")
	u := f.add(t, newName, body, true)
	f.add(t, oldName, []byte("older"), true)
	addr := start(t, Config{Source: f})

	d := u.Digest.String()
	whole := map[string]string{
		"Content-Type":           "application/octet-stream",
		"Content-Disposition":    `attachment; filename="` + newName + `"`,
		"Content-Length":         "23",
		"Content-Encoding":       "-",
		"Etag":                   `"` + d + `"`,
		"Repr-Digest":            "sha-256=:" + base64.StdEncoding.EncodeToString(u.Digest[:]) + ":",
		"Accept-Ranges":          "bytes",
		"Cache-Control":          "no-cache, no-transform",
		"X-Content-Type-Options": "nosniff",
	}
	text := map[string]string{"Content-Type": "text/plain", "Cache-Control": "no-cache"}
	line := d + "  " + newName + "\n"
	for _, test := range []struct {
		path   string
		status int
		body   string
		header map[string]string
	}{
		{"/ls", 200, oldName + "\n" + newName, text},
		{"/version", 200, "1550190683", text},
		{"/latest", 303, "", map[string]string{"Location": "/update/" + newName, "Cache-Control": "no-cache", "Content-Length": "0"}},
		{"/update/" + newName, 200, string(body), whole},
		{"/update/" + newName + ".sha256", 200, line, text},
		{"/sha256/" + d, 200, string(body), map[string]string{
			"Cache-Control": "public, max-age=31536000, immutable, no-transform", "Etag": `"` + d + `"`,
			"Content-Disposition": `attachment; filename="` + newName + `"`, "Content-Encoding": "-"}},
		{"/sha256/" + d + ".sha256", 200, line, text},
		{"/sha256/" + d + ".blocks", 200, string(u.Digest[:]), map[string]string{"Cache-Control": "public, max-age=31536000, immutable"}},
		{"/livez", 200, "ok", map[string]string{"Cache-Control": "no-store"}},
		{"/readyz", 200, "ok", map[string]string{"Cache-Control": "no-store"}},
		{"//latest", 303, "", map[string]string{"Location": "/update/" + newName}},
		{"///update/" + newName, 200, string(body), whole},
		{"/latest?x=1", 303, "", nil},
		{"http://other/version", 200, "1550190683", nil},
	} {
		t.Run(test.path, func(t *testing.T) {
			g := get(t, addr, test.path)
			g.hold(t, test.status, test.header)
			if g.body != test.body {
				t.Errorf("body %q, want %q", g.body, test.body)
			}
			headIs(t, addr, test.path, g)
			old := ask(t, addr, "GET "+test.path+" HTTP/1.0")
			old.hold(t, test.status, test.header)
			if old.body != test.body {
				t.Errorf("HTTP/1.0: body %q, want %q", old.body, test.body)
			}
		})
	}
}

// headIs compares the answer to HEAD with that to GET.
func headIs(t *testing.T, addr, path string, g got) {
	t.Helper()
	h := ask(t, addr, "HEAD "+path+" HTTP/1.1")
	if delete(h.header, "Date"); h.body != "" {
		t.Errorf("HEAD has a body: %q", h.body)
	}
	delete(g.header, "Date")
	for k := range g.header {
		h.hold(t, g.status, map[string]string{k: strings.Join(g.header[k], "|")})
	}
	if len(h.header) != len(g.header) {
		t.Errorf("HEAD %v, GET %v", h.header, g.header)
	}
}

func TestConditions(t *testing.T) {
	f := newFake(t)
	const body = "0123456789"
	tag := `"` + f.add(t, newName, []byte(body), true).Digest.String() + `"`
	addr := start(t, Config{Source: f})
	refused := map[string]string{"Cache-Control": "no-store", "Etag": "-", "Repr-Digest": "-", "Content-Disposition": "-"}
	for name, test := range map[string]struct {
		fields []string
		status int
		body   string
		header map[string]string
	}{
		"same":              {[]string{"If-None-Match: " + tag}, 304, "", map[string]string{"Etag": tag, "Content-Type": "-"}},
		"any":               {[]string{"If-None-Match: *"}, 304, "", nil},
		"other":             {[]string{`If-None-Match: "x"`}, 200, body, nil},
		"weak":              {[]string{"If-None-Match: W/" + tag}, 304, "", nil},
		"match":             {[]string{"If-Match: " + tag}, 200, body, nil},
		"no match":          {[]string{`If-Match: "x"`}, 412, "", refused},
		"first bytes":       {[]string{"Range: bytes=0-3"}, 206, "0123", map[string]string{"Content-Range": "bytes 0-3/10", "Content-Length": "4"}},
		"resumed":           {[]string{"Range: bytes=4-"}, 206, "456789", map[string]string{"Content-Range": "bytes 4-9/10", "Etag": tag}},
		"last bytes":        {[]string{"Range: bytes=-2"}, 206, "89", map[string]string{"Content-Range": "bytes 8-9/10"}},
		"beyond":            {[]string{"Range: bytes=10-"}, 416, "invalid range: failed to overlap\n", refused},
		"not a range":       {[]string{"Range: bytes=5-1"}, 416, "invalid range\n", refused},
		"if range":          {[]string{"Range: bytes=4-", "If-Range: " + tag}, 206, "456789", nil},
		"if range of other": {[]string{"Range: bytes=4-", `If-Range: "x"`}, 200, body, nil},
		"unknown unit":      {[]string{"Range: lines=0-3"}, 200, body, map[string]string{"Content-Length": "10", "Content-Range": "-", "Etag": tag}},
		"no unit":           {[]string{"Range: 0-3"}, 200, body, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := get(t, addr, "/update/"+newName, test.fields...)
			g.hold(t, test.status, test.header)
			if g.body != test.body {
				t.Errorf("body %q, want %q", g.body, test.body)
			}
		})
	}
	several := get(t, addr, "/update/"+newName, "Range: bytes=0-1,8-9")
	several.hold(t, 206, nil)
	for _, want := range []string{"Content-Range: bytes 0-1/10", "\r\n01\r\n", "Content-Range: bytes 8-9/10", "\r\n89\r\n"} {
		if !strings.Contains(several.body, want) {
			t.Errorf("several ranges: %q is not in %q", want, several.body)
		}
	}
	get(t, addr, "/ls", "If-None-Match: "+get(t, addr, "/ls").header.Get("Etag")).hold(t, 304, nil)
	get(t, addr, "/ls", `If-Match: "x"`).hold(t, 412, map[string]string{"Content-Length": "0", "Etag": "-", "Cache-Control": "no-store"})
}

// hostile are paths that no resource has.
func hostile(d string) []string {
	return []string{
		"/update/..", "/update/../" + newName, "/update/%2e%2e", "/update/..%2f" + newName, "/update/%2e%2e%2fetc",
		"/update%2f" + newName, "/update/" + newName + "%00", "/update/%00", "/update/opq%2dbox-update-1550190683.tar.bz2",
		"/update/OPQ-BOX-UPDATE-1550190683.TAR.BZ2", "/update/" + newName + "/", "/update/" + newName + ".blocks",
		"/update/opq-box-update-01550190683.tar.bz2", "/update/.opq-box-update-1550190683.tar.bz2", "/update/", "/update",
		"/update/opq-box-update-1.tar.bz2", "/update/" + strings.Repeat("a", 4096), "/update//" + newName, "/./ls", "/ls/", "/LS",
		"/sha256/" + strings.ToUpper(d), "/sha256/" + d[:63], "/sha256/" + d + "0", "/sha256/" + strings.Repeat("0", 64),
		"/sha256/" + d + ".sig", "/sha256/" + d + ".sha256.sha256", "/sha256/..", "/%6cs", "/favicon.ico", "/update/" + newName + ";x",
		"/update/" + newName + "%20", "/update/" + newName + ".sha256/..", "/\xff",
	}
}

func TestHostilePathsOpenNothing(t *testing.T) {
	f := newFake(t)
	d := f.add(t, newName, []byte("archive"), true).Digest.String()
	addr := start(t, Config{Source: f})
	for _, path := range hostile(d) {
		for _, method := range []string{"GET", "HEAD"} {
			g := ask(t, addr, method+" "+path+" HTTP/1.1")
			g.hold(t, 404, map[string]string{"Content-Type": "text/plain", "Content-Length": "19"})
			if method == "GET" && g.body != "Resource not found." {
				t.Errorf("%s %.80s: %q", method, path, g.body)
			}
		}
	}
	if n := f.opened.Load(); n != 0 {
		t.Errorf("%d files were opened", n)
	}
}

func TestMethods(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("archive"), true)
	addr := start(t, Config{Source: f})
	for _, line := range []string{"POST /ls", "PUT /update/" + newName, "DELETE /", "OPTIONS /latest"} {
		ask(t, addr, line+" HTTP/1.1").hold(t, 405, map[string]string{"Allow": "GET, HEAD"})
	}
	ask(t, addr, "OPTIONS * HTTP/1.1").hold(t, 404, nil)
}

func TestWithoutUpdates(t *testing.T) {
	f := newFake(t)
	addr := start(t, Config{Source: f})
	get(t, addr, "/ls").hold(t, 200, map[string]string{"Content-Length": "0"})
	for path, text := range map[string]string{
		"/latest":  "Resource not found.",
		"/version": "Update dir does not contain any valid updates.",
	} {
		g := get(t, addr, path)
		g.hold(t, 404, map[string]string{"Content-Type": "text/plain", "Cache-Control": "no-store"})
		if g.body != text {
			t.Errorf("%s: %q", path, g.body)
		}
	}
	f.had = true
	f.publish(t)
	get(t, addr, "/latest").hold(t, 503, map[string]string{"Retry-After": retryAfter})
	get(t, addr, "/version").hold(t, 503, map[string]string{"Retry-After": retryAfter})
	get(t, addr, "/ls").hold(t, 200, nil)
}

func TestPendingDigest(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("archive"), false)
	addr := start(t, Config{Source: f})
	unknown := "/sha256/" + update.Sum([]byte("archive")).String()

	g := get(t, addr, "/update/"+newName)
	g.hold(t, 200, map[string]string{"Etag": "-", "Repr-Digest": "-"})
	if g.body != "archive" {
		t.Errorf("body %q", g.body)
	}
	later := map[string]string{"Retry-After": retryAfter, "Cache-Control": "no-store"}
	get(t, addr, "/update/"+newName+".sha256").hold(t, 503, later)
	for _, ending := range []string{"", ".sha256", ".blocks"} {
		get(t, addr, unknown+ending).hold(t, 503, later)
	}
	if list := get(t, addr, "/updates.json"); !strings.Contains(list.body, `"sha256":null`) {
		t.Errorf("updates.json: %s", list.body)
	}
	// What replaced other bytes does not keep their digest alive.
	f.replace(testworld.Name(newName))
	f.publish(t)
	get(t, addr, unknown).hold(t, 404, nil)

	f.add(t, newName, []byte("archive"), true)
	get(t, addr, unknown).hold(t, 200, nil)
}

func TestRangeOfReplacedName(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("0123456789"), true)
	f.replace(u.Name)
	addr := start(t, Config{Source: f})
	if g := get(t, addr, "/update/"+newName, "Range: bytes=4-"); g.status != 200 || g.body != "0123456789" {
		t.Errorf("without If-Range: %d %q", g.status, g.body)
	}
	tag := `If-Range: "` + u.Digest.String() + `"`
	get(t, addr, "/update/"+newName, "Range: bytes=4-", tag).hold(t, 206, nil)
	get(t, addr, "/sha256/"+u.Digest.String(), "Range: bytes=4-").hold(t, 206, nil)
}

func TestSourceFails(t *testing.T) {
	f := newFake(t)
	d := f.add(t, newName, []byte("archive"), true).Digest.String()
	addr := start(t, Config{Source: f})
	for _, test := range []struct {
		fails  error
		status int
		body   string
	}{
		{fs.ErrNotExist, 404, "Resource not found."},
		{errors.New("secret of the disk"), 500, "internal error"},
	} {
		f.mu.Lock()
		f.fails = test.fails
		f.mu.Unlock()
		for _, path := range []string{"/update/" + newName, "/sha256/" + d, "/sha256/" + d + ".blocks"} {
			g := get(t, addr, path)
			g.hold(t, test.status, map[string]string{"Cache-Control": "no-store", "Etag": "-", "Repr-Digest": "-"})
			if g.body != test.body {
				t.Errorf("%s: %q, want %q", path, g.body, test.body)
			}
		}
	}
}

func TestFileChangesWhileOpen(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("before"), true)
	addr := start(t, Config{Source: f})
	path := "/sha256/" + u.Digest.String()
	get(t, addr, path).hold(t, 200, nil)
	get(t, addr, path).hold(t, 200, nil)
	if n := f.opened.Load(); n != 1 {
		t.Errorf("opened %d times, want one file for two requests", n)
	}
	if err := os.WriteFile(filepath.Join(f.dir, newName), []byte("behind"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.fails = fs.ErrNotExist // as a source does that sees the change
	f.mu.Unlock()
	get(t, addr, path).hold(t, 404, nil)
}

func TestCatalogJSON(t *testing.T) {
	f := newFake(t)
	u := f.add(t, newName, []byte("archive"), true)
	f.add(t, oldName, []byte("old"), false)
	addr := start(t, Config{Source: f})
	g := get(t, addr, "/updates.json")
	g.hold(t, 200, map[string]string{"Content-Type": "application/json", "Vary": "Accept-Encoding", "Cache-Control": "no-cache"})
	want := `{"product":"opq-box-update","newest":"` + newName + `","updates":[` +
		`{"name":"` + oldName + `","version":999999999,"sha256":null,"length":3,"time":"2019-02-15T00:31:23Z","signatures":{}},` +
		`{"name":"` + newName + `","version":1550190683,"sha256":"` + u.Digest.String() + `","length":7,"time":"2019-02-15T00:31:23Z","signatures":{}}]}` + "\n"
	if g.body != want {
		t.Errorf("got  %s\nwant %s", g.body, want)
	}
	small := get(t, addr, "/updates.json", "Accept-Encoding: gzip")
	small.hold(t, 200, map[string]string{"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
	if small.header.Get("Etag") == g.header.Get("Etag") {
		t.Error("both codings have one ETag")
	}
	again := get(t, addr, "/updates.json", "Accept-Encoding: gzip", "If-None-Match: "+small.header.Get("Etag"))
	again.hold(t, 304, nil)
	get(t, addr, "/updates.json", "Accept-Encoding: gzip;q=0").hold(t, 200, map[string]string{"Content-Encoding": "-"})
	get(t, addr, "/update/"+newName, "Accept-Encoding: gzip").hold(t, 200, map[string]string{"Content-Encoding": "-"})
}

type fakeHealth []status.Component

func (h fakeHealth) Components() []status.Component { return h }

func TestHealth(t *testing.T) {
	now := time.Unix(1550190683, 999e6)
	addr := start(t, Config{
		Source:  newFake(t),
		Version: "v1",
		Now:     func() time.Time { return now },
		Components: fakeHealth{
			{Name: "catalog", Components: []status.Component{{Name: "hashing", Unready: true, Warnings: []status.Warning{{Subject: "hashing", Urgent: true, Text: "slow"}}}}},
			{Name: "listed", Note: "all", Warnings: []status.Warning{{Text: "old\n[-] forged"}}},
		}.Components,
	})
	parts := `"subcomponents":[{"name":"catalog","ok":false,"timestamp":1550190683,"subcomponents":` +
		`[{"name":"hashing","ok":false,"timestamp":1550190683,"warnings":["hashing: slow"],"subcomponents":[]}]},` +
		`{"name":"listed","ok":true,"timestamp":1550190683,"warnings":["old\n[-] forged"],"subcomponents":[]}]}`
	for path, want := range map[string]got{
		"/":               {200, nil, `{"name":"Box Update Server","ok":false,"timestamp":1550190683,` + parts},
		"/healthz":        {503, nil, `{"name":"Box Update Server","ok":false,"timestamp":1550190683,"version":"v1",` + parts},
		"/readyz":         {503, nil, "not ready"},
		"/readyz?verbose": {503, nil, "[+] listed ok: all\n[-] catalog, hashing: hashing: slow\n[!] listed: old [-] forged\nnot ready\n"},
		"/livez":          {200, nil, "ok"},
	} {
		g := get(t, addr, path)
		g.hold(t, want.status, map[string]string{"Cache-Control": "no-store"})
		if g.body != want.body {
			t.Errorf("%s: %s\nwant %s", path, g.body, want.body)
		}
		if strings.HasPrefix(want.body, "{") && !json.Valid([]byte(g.body)) {
			t.Errorf("%s: not JSON", path)
		}
	}
}

// A load balancer takes a server away for what nobody can use at all, and for nothing less.
func TestReadiness(t *testing.T) {
	wrong, soon := status.Warning{Subject: "archives", Urgent: true, Text: "1"}, status.Warning{Text: "soon"}
	for want, c := range map[string]struct {
		status, healthz int
		ok              string
		component       status.Component
	}{
		"[+] a ok\nok\n":                 {200, 200, "true", status.Component{}},
		"[+] a ok: n\n[!] a: soon\nok\n": {200, 200, "true", status.Component{Note: "n", Warnings: []status.Warning{soon}}},
		"[+] a ready: n\n[-] a: archives: 1\n[!] a: soon\nready, and not in order\n": {200, 503, "false", status.Component{Note: "n", Warnings: []status.Warning{soon, wrong}}},
		"[-] a: archives: 1\nnot ready\n":                                            {503, 503, "false", status.Component{Unready: true, Note: "n", Warnings: []status.Warning{wrong}}},
	} {
		c.component.Name = "a"
		addr := start(t, Config{Source: newFake(t), Components: fakeHealth{c.component}.Components})
		if g := get(t, addr, "/readyz?verbose"); g.status != c.status || g.body != want {
			t.Errorf("got %d %q, want %d %q", g.status, g.body, c.status, want)
		}
		if g := get(t, addr, "/readyz"); g.status != c.status {
			t.Errorf("%q: /readyz: %d", want, g.status)
		}
		if g := get(t, addr, "/healthz"); g.status != c.healthz {
			t.Errorf("%q: /healthz: %d", want, g.status)
		}
		if g := get(t, addr, "/"); g.status != 200 || !strings.Contains(g.body, `"name":"a","ok":`+c.ok) {
			t.Errorf("%q: /: %d %s", want, g.status, g.body)
		}
	}
}

func TestConfigRefused(t *testing.T) {
	for want, c := range map[string]Config{
		"source":   {},
		"negative": {Source: newFake(t), Front: front.Config{MinRate: -1}},
	} {
		if _, err := NewServer(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one that says %q", c, err, want)
		}
	}
}

// Under a server that is not a Server archives arrive all the same.
func TestWithoutServer(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("0123456789"), true)
	rt, err := newRouter(Config{Source: f}, newBodies(), newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer rt.closeFiles()
	for _, field := range []string{"X-Any: x", "Range: bytes=2-4"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/update/"+newName, nil)
		k, v, _ := strings.Cut(field, ": ")
		r.Header.Set(k, v)
		rt.ServeHTTP(w, r)
		want := "0123456789"
		if k == "Range" {
			want = "234"
		}
		if w.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", field, w.Code, w.Body, want)
		}
	}
}
