package router

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"

	"github.com/openpowerquality/box-update-server/router/page"
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

// serveAnswer returns a handler that always serves the same answer.
func serveAnswer(a *answer) handler {
	return func(w *reply, r *http.Request, _ string) error {
		a.serve(w, r)
		return nil
	}
}

// pages keeps the pages of one catalog by number, up to maxPages.
type pages struct {
	mu       sync.Mutex
	view     *view
	byNumber map[int]renderedPage
}

// A renderedPage is a page as it was in the second of a healthView.
type renderedPage struct {
	health *healthView
	body   []byte
	coded
}

// statusPage answers with the status page, or with a further page of its list.
func (rt *router) statusPage(w *reply, r *http.Request) error {
	number, ok := pageNumber(r)
	if !ok {
		return errNotFound
	}
	c, err := rt.page(number)
	if err != nil {
		return err
	}
	c.serve(rt, w, r)
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

// page returns a page as it is now. It renders a page at most once a second, and keeps the answer as long as the page
// does not change.
func (rt *router) page(number int) (coded, error) {
	health, v := rt.healthNow(), rt.current()
	p := &rt.pages
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view != v {
		p.view, p.byNumber = v, map[int]renderedPage{}
	}
	last, kept := p.byNumber[number]
	if kept && last.health == health {
		return last.coded, nil
	}
	c := rt.config
	content := page.Content{Now: c.Now(), Product: c.Product, Version: c.Version, Components: health.components, Standing: c.Standing(),
		Updates: v.catalog.Updates(), Newest: v.newest, Number: number, Conditions: c.Conditions, Signatures: c.Signatures}
	if number > content.Pages() {
		return coded{}, errNotFound
	}
	next := renderedPage{health, content.Render(), last.coded}
	if !kept || !bytes.Equal(last.body, next.body) {
		next.coded = newCoded(func() *answer {
			return newAnswer(http.StatusOK, "text/html; charset=utf-8", next.body, pageFields()...)
		})
	}
	if !kept && len(p.byNumber) == maxPages {
		p.byNumber = map[int]renderedPage{}
	}
	p.byNumber[number] = next
	return next.coded, nil
}
