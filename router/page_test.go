package router

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const html = "Accept: text/html"

// Who prefers HTML gets the page, everybody else what they always got.
func TestPageOrHealth(t *testing.T) {
	addr := start(t, newWorld(t, 3).config(t))
	for _, c := range []struct {
		accept []string
		page   bool
	}{
		{nil, false},                     // wget of a box
		{[]string{"Accept: */*"}, false}, // curl, and Python's requests as OPQ Health uses it
		{[]string{"Accept:"}, false},
		{[]string{"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}, true}, // browsers
		{[]string{"Accept: text/html, application/json"}, false},
		{[]string{"Accept: application/json, text/plain, */*"}, false},
		{[]string{"Accept: text/html;q=0.5, application/json;q=0.4"}, true},
		{[]string{"Accept: text/html;q=0.4, application/json;q=0.5"}, false},
		{[]string{"Accept: text/html;q=0.4, */*;q=0.5"}, false},
		{[]string{"Accept: text/*, */*;q=0.1"}, true},
		{[]string{"Accept: text/*;q=0.3, text/html;q=0, */*;q=0.2"}, false},
		{[]string{"Accept: application/*;q=0.2", "Accept: text/html;level=1;q=0.3"}, true},
		{[]string{"Accept: TEXT/HTML"}, true},
		{[]string{"Accept: text/html;q=0"}, false},
		{[]string{"Accept: text/html;q=2"}, false},
		{[]string{"Accept: text/html;q=0.0001"}, false},
		{[]string{"Accept: image/png"}, false},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			g := ask(t, addr, method+" / HTTP/1.1", c.accept...)
			contentType, vary := "application/json", "Accept"
			if c.page {
				contentType, vary = "text/html; charset=utf-8", "Accept, Accept-Encoding"
			}
			g.hold(t, 200, map[string]string{"Content-Type": contentType, "Vary": vary, "Cache-Control": "no-store"})
			if got := g.header.Get("Content-Type"); got != contentType {
				t.Errorf("%s %q: got %s", method, c.accept, got)
			}
		}
	}
}

func TestPageHeaders(t *testing.T) {
	addr := start(t, newWorld(t, 3).config(t))
	g := get(t, addr, "/", html)
	g.hold(t, 200, map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"Referrer-Policy":         "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Encoding": "-",
	})
	headIs(t, addr, "/", get(t, addr, "/"))
	z := get(t, addr, "/", html, "Accept-Encoding: gzip")
	z.hold(t, 200, map[string]string{"Content-Encoding": "gzip", "Content-Type": "text/html; charset=utf-8"})
	if gunzip(t, z.body) != g.body {
		t.Error("another page when compressed")
	}
	for path, contentType := range map[string]string{"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8"} {
		f := get(t, addr, path)
		f.hold(t, 200, map[string]string{"Content-Type": contentType, "Cache-Control": "no-cache"})
		get(t, addr, path, "If-None-Match: "+f.header.Get("Etag")).hold(t, 304, nil)
	}
	ask(t, addr, "POST / HTTP/1.1", html, "Content-Length: 0").hold(t, 405, map[string]string{"Allow": "GET, HEAD"})
}

// A long list comes in pages, each of which is small.
func TestPageOfMany(t *testing.T) {
	w := newWorld(t, 1000)
	addr := start(t, w.config(t))
	all := w.catalog.Updates()
	next := len(all)
	for number := 1; next > 0; number++ {
		g := get(t, addr, fmt.Sprintf("/?page=%d", number), html)
		g.hold(t, 200, nil)
		if len(g.body) > 30_000 {
			t.Errorf("page %d has %d bytes", number, len(g.body))
		}
		listed := strings.Count(g.body, `<tr><th scope="row">`)
		for range listed {
			if next--; !strings.Contains(g.body, `<th scope="row"><a href="update/`+all[next].Name.String()+`"`) {
				t.Errorf("page %d lacks %v", number, all[next].Name)
			}
		}
		if older := fmt.Sprintf(`href="?page=%d" rel="next"`, number+1); listed == 0 || strings.Contains(g.body, older) != (next > 0) {
			t.Fatalf("page %d lists %d updates, and leads on or not: %d are left", number, listed, next)
		}
	}
	if g := get(t, addr, "/", html); g.body != get(t, addr, "/?page=1", html).body {
		t.Error("another page without a number")
	}
	for _, query := range []string{"page=0", "page=01", "page=-1", "page=", "page=26", "page=x", "page=99999999999999999999"} {
		get(t, addr, "/?"+query, html).hold(t, 404, map[string]string{"Content-Type": "text/plain"})
		get(t, addr, "/?"+query).hold(t, 200, map[string]string{"Content-Type": "application/json"})
	}
}

// What the page says of signatures is what can be had.
func TestPageOfUnsigned(t *testing.T) {
	w := newWorld(t, 3)
	all := append([]update.Update{}, w.catalog.Updates()...)
	delete(w.signed, all[2].Name.String())
	w.signed[all[1].Name.String()] = []trust.KeySignature{{}}
	all[0].Digest = update.Digest{}
	w.catalogOf(t, all)
	g := get(t, start(t, w.config(t)), "/", html)
	for text, want := range map[string]bool{
		"It is not signed":                   true,
		"| sha256sum -c":                     true,
		"openssl":                            false,
		"a key that is not known":            true,
		"<td>unsigned</td>":                  true,
		"being hashed":                       true,
		all[0].Name.String() + ".sha256":     false,
		all[1].Name.String() + ".sig":        true,
		all[2].Name.String() + ".sig":        false,
		all[2].Digest.String() + "  $U&#34;": true,
	} {
		if strings.Contains(strings.ReplaceAll(g.body, `  $U" |`, `  $U&#34; |`), text) != want {
			t.Errorf("%q: want it there: %v", text, want)
		}
	}
}

// A page gets another answer when something changes, and not because time goes by.
func TestPageAnswerOncePerChange(t *testing.T) {
	w := newWorld(t, 5)
	u := w.newest()
	w.conditions[u.Name.String()] = trust.Conditions{Rollout: &trust.Rollout{Steps: []trust.Step{{Percent: 5}, {After: 40 * time.Hour, Percent: 25}}}}
	rt, err := newRouter(w.config(t), newBodies(), newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	w.later(time.Minute) // the root has lost its last whole day
	first := rt.render(t)
	if !strings.Contains(string(first.body), "<td>5% of boxes</td>") {
		t.Fatalf("got %s", first.body)
	}
	asked := w.looked.Load()
	for range 100 {
		if rt.render(t) != first {
			t.Fatal("another answer although nothing changed")
		}
	}
	if n := w.looked.Load() - asked; n != 0 {
		t.Errorf("asked %d times within a second", n)
	}
	w.later(50 * time.Second)
	if rt.render(t) != first {
		t.Error("another answer because time went by")
	}
	w.later(9 * time.Hour) // the rollout is at its second step
	second := rt.render(t)
	if second == first || !strings.Contains(string(second.body), "<td>25% of boxes</td>") {
		t.Error("no other answer when the rollout went on")
	}
	w.later(time.Second)
	w.components = []status.Component{{Name: "repository", Warnings: []status.Warning{{Text: "something new"}}}}
	third := rt.render(t)
	if third == second || !strings.Contains(string(third.body), "repository: something new") {
		t.Error("no other answer with a new problem")
	}
	w.catalogOf(t, w.catalog.Updates()[:4])
	if fourth := rt.render(t); fourth == third || strings.Contains(string(fourth.body), u.Name.String()) {
		t.Error("no other answer with another catalog")
	}
}

// render returns the answer that holds the first page.
func (rt *router) render(t testing.TB) *answer {
	t.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept", "text/html")
	if rt.ServeHTTP(rec, r); rec.Code != 200 {
		t.Fatalf("status %d", rec.Code)
	}
	c, err := rt.page(1)
	if err != nil {
		t.Fatal(err)
	}
	return c.plain()
}

// Problems without end don't make a page without end.
func TestPageOfManyProblems(t *testing.T) {
	w := newWorld(t, 1)
	for i := range 200 {
		w.components[0].Warnings = append(w.components[0].Warnings, status.Warning{Text: fmt.Sprintf("problem %d.", i)})
	}
	g := get(t, start(t, w.config(t)), "/", html)
	if !strings.Contains(g.body, "problem 19.") || strings.Contains(g.body, "problem 20.") || !strings.Contains(g.body, "and 180 more") {
		t.Error("want 20 problems and how many more there are")
	}
}

// A mirror that has nothing yet has a page that says so.
func TestPageBeforeTheFirstSync(t *testing.T) {
	w := newWorld(t, 0)
	w.standing = status.Standing{Copy: &status.Freshness{}}
	g := get(t, start(t, w.config(t)), "/", html)
	if !strings.Contains(g.body, "Not synced yet") || !strings.Contains(g.body, "Nothing was copied yet.") {
		t.Errorf("got %s", g.body)
	}
}

// A server about which nobody knows more than its files has a page.
func TestPageOfADirectory(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, []byte("archive"), true)
	g := get(t, start(t, Config{Source: f}), "/", html)
	if !strings.Contains(g.body, "This is a plain directory") || !strings.Contains(g.body, newName) || !strings.Contains(g.body, "Healthy") {
		t.Errorf("got %s", g.body)
	}
}

func FuzzAccept(f *testing.F) {
	for _, s := range []string{"", "*/*", "text/html", "text/html;q=0.5,*/*;q=0.25", "text/html;q=1.0001", "text/html ; Q=0.3 , application/json", ";;,,", "q=1", "text/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lower := strings.ToLower(s)
		if prefersHTML([]string{s}) && !strings.Contains(lower, "text/html") && !strings.Contains(lower, "text/*") {
			t.Errorf("%q prefers HTML", s)
		}
		if prefersHTML([]string{s, "application/json"}) {
			t.Errorf("%q and JSON prefer HTML", s)
		}
	})
}

// BenchmarkPage renders the page of 1,000 updates as after a change.
func BenchmarkPage(b *testing.B) {
	w := newWorld(b, 1000)
	rt, err := newRouter(w.config(b), newBodies(), newMetrics(nil))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		rt.view.Store(nil)
		rt.render(b)
	}
}
