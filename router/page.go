package router

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/openpowerquality/box-update-server/router/page"
	"github.com/openpowerquality/box-update-server/update"
)

// maxPages bounds how many rendered pages are cached. A repository of 2,000 updates has fewer.
const maxPages = 64

// pageFields returns the header fields of the status page. Their policy lets only files of this server run or load,
// whatever text the page contains.
func pageFields() []field {
	return []field{
		one("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
		one("Referrer-Policy", "no-referrer"),
		one("Vary", "Accept, Accept-Encoding"),
		one("Cache-Control", cacheNever),
	}
}

func pageStyle() *answer {
	return cachedAnswer("text/css; charset=utf-8", page.Style(), cacheRevalidate)
}

func pageScript() *answer {
	return cachedAnswer("text/javascript; charset=utf-8", page.Script(), cacheRevalidate)
}

// pageFile returns the handler of a file that the status page needs.
func (rt *router) pageFile(a *answer) handler {
	return func(w *reply, r *http.Request, _ string) error {
		a.serve(w, r)
		return nil
	}
}

// pages holds the current status page.
type pages struct {
	last   atomic.Pointer[pageMoment]
	making sync.Mutex // held while last is being replaced
}

// A pageMoment is the status page in one second. If its facts are those of the previous one, it shares the answers.
type pageMoment struct {
	health  *healthView
	view    *view
	source  page.Source
	special []update.Update // updates of the catalog that are not simply for every box
	facts   page.Facts
	answers *pageAnswers
}

// pageAnswers are the pages rendered from the same facts, by number.
type pageAnswers struct {
	mu       sync.Mutex
	byNumber map[int]coded
}

// statusPage answers with the status page, or with a further page of its list.
func (rt *router) statusPage(w *reply, r *http.Request) error {
	number, ok := pageNumber(r)
	m := rt.pageNow()
	if !ok || number > m.source.Pages() {
		return errNotFound
	}
	m.page(number).serve(rt, w, r)
	return nil
}

// pageNumber returns the number of the page that a request asks for, from 1 on. It reports false for any other
// spelling of a number, such as 02.
func pageNumber(r *http.Request) (int, bool) {
	if r.URL.RawQuery == "" || !r.URL.Query().Has("page") {
		return 1, true
	}
	text := r.URL.Query().Get("page")
	n, err := strconv.Atoi(text)
	return n, err == nil && n > 0 && strconv.Itoa(n) == text
}

// pageNow returns the status page of this second and this catalog.
func (rt *router) pageNow() *pageMoment {
	health, v := rt.healthNow(), rt.current()
	p := rt.pages
	if last := p.last.Load(); last != nil && last.health == health && last.view == v {
		return last
	}
	p.making.Lock()
	defer p.making.Unlock()
	last := p.last.Load()
	if last != nil && last.health == health && last.view == v {
		return last
	}
	next := &pageMoment{health: health, view: v, answers: &pageAnswers{byNumber: map[int]coded{}}}
	if last != nil && last.view == v {
		next.source, next.special = last.source, last.special
	} else {
		c := rt.config
		next.source = page.Source{Product: c.Product, Version: c.Version, Updates: v.catalog.Updates(), Newest: v.newest,
			Conditions: c.Conditions, Signatures: c.signatures}
		next.special = next.source.Special()
	}
	next.facts = next.source.Facts(rt.config.Now(), health.components, rt.config.Standing(), next.special)
	if last != nil && last.view == v && reflect.DeepEqual(last.facts, next.facts) {
		next.answers = last.answers
	}
	p.last.Store(next)
	return next
}

// page returns one page, which is rendered when it is first asked for.
func (m *pageMoment) page(number int) coded {
	a := m.answers
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.byNumber[number]; ok {
		return c
	}
	if len(a.byNumber) == maxPages {
		a.byNumber = map[int]coded{}
	}
	a.byNumber[number] = pageAnswer(func() []byte { return m.source.Render(m.facts, number) })
	return a.byNumber[number]
}

// pageAnswer returns the answer of a page, which is rendered when it is first sent.
func pageAnswer(render func() []byte) (c coded) {
	c.plain = sync.OnceValue(func() *answer {
		return newAnswer(http.StatusOK, "text/html; charset=utf-8", render(), pageFields()...)
	})
	c.gzipped = sync.OnceValue(func() *answer {
		var body bytes.Buffer
		z := gzip.NewWriter(&body)
		_, _ = z.Write(c.plain().body) // a bytes.Buffer takes everything
		_ = z.Close()
		return newAnswer(http.StatusOK, "text/html; charset=utf-8", body.Bytes(), append(pageFields(), one("Content-Encoding", "gzip"))...)
	})
	return c
}
