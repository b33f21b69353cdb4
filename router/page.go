package router

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/openpowerquality/box-update-server/update"
)

// pageSize is how many updates one page of the status page lists: with them it stays below 30 kB before
// compression.
const pageSize = 40

// maxPages bounds how many pages are kept at hand. A repository of 2,000 updates has fewer.
const maxPages = 64

//go:embed page
var pageFiles embed.FS

// Header fields of the status page. Nothing runs or loads but what this server sends, and no text in the
// page can change that.
func pageFields() []field {
	return []field{
		one("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
		one("Referrer-Policy", "no-referrer"),
		one("Vary", "Accept, Accept-Encoding"),
		one("Cache-Control", cacheNever),
	}
}

func pageStyle() *answer  { return embedded("text/css; charset=utf-8", "page/page.css") }
func pageScript() *answer { return embedded("text/javascript; charset=utf-8", "page/page.js") }

func embedded(contentType, path string) *answer {
	body, err := pageFiles.ReadFile(path)
	if err != nil {
		panic(err) // it is part of the program
	}
	return cachedAnswer(contentType, body, cacheRevalidate)
}

// pageFile returns the handler of a file that the status page needs.
func (rt *router) pageFile(a *answer) handler {
	return func(w *reply, r *http.Request, _ string) error {
		a.serve(w, r)
		return nil
	}
}

// pages is the status page as it is now.
type pages struct {
	template *template.Template
	last     atomic.Pointer[pageMoment]
	making   sync.Mutex // held while last is being replaced
}

func newPages() *pages {
	return &pages{template: template.Must(template.ParseFS(pageFiles, "page/page.html"))}
}

// A pageMoment is the status page at one second. Where what it is made of is the same as the second before,
// so are the answers.
type pageMoment struct {
	health  *healthView
	view    *view
	special []update.Update // of the catalog: those that are not simply for every box
	facts   pageFacts
	answers *pageAnswers
}

// pageAnswers are pages that were made of the same facts.
type pageAnswers struct {
	mu       sync.Mutex
	byNumber map[int]coded
}

// page answers with the status page, or with a further page of its list.
func (rt *router) page(w *reply, r *http.Request) error {
	number, ok := pageNumber(r)
	m := rt.pageNow()
	if !ok || number > pageCount(m.view) {
		return errNotFound
	}
	m.page(rt, number).serve(rt, w, r)
	return nil
}

// pageNumber returns which page is asked for, from 1 on, and false for one that is not in its one spelling.
func pageNumber(r *http.Request) (int, bool) {
	if r.URL.RawQuery == "" || !r.URL.Query().Has("page") {
		return 1, true
	}
	text := r.URL.Query().Get("page")
	n, err := strconv.Atoi(text)
	return n, err == nil && n > 0 && strconv.Itoa(n) == text
}

// pageCount returns how many pages the list of updates has, at least one.
func pageCount(v *view) int { return max(1, (len(v.catalog.Updates())+pageSize-1)/pageSize) }

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
		next.special = last.special
	} else {
		next.special = rt.config.special(v)
	}
	next.facts = rt.config.pageFacts(health, v, next.special)
	if last != nil && last.view == v && reflect.DeepEqual(last.facts, next.facts) {
		next.answers = last.answers
	}
	p.last.Store(next)
	return next
}

// page returns one page, which is rendered when it is first asked for.
func (m *pageMoment) page(rt *router, number int) coded {
	a := m.answers
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.byNumber[number]; ok {
		return c
	}
	if len(a.byNumber) == maxPages {
		a.byNumber = map[int]coded{}
	}
	model := func() pageModel { return rt.config.pageModel(m.view, m.facts, number) }
	a.byNumber[number] = rt.pages.render(model)
	return a.byNumber[number]
}

func (p *pages) render(model func() pageModel) (c coded) {
	c.plain = sync.OnceValue(func() *answer {
		var body bytes.Buffer
		if err := p.template.Execute(&body, model()); err != nil {
			panic(fmt.Errorf("status page: %w", err)) // a fault of the template, whose branches are all tested
		}
		return newAnswer(http.StatusOK, "text/html; charset=utf-8", body.Bytes(), pageFields()...)
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
