package router

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// A view is what the router keeps for one catalog: answers, which are rendered when they are first needed, and open
// files.
type view struct {
	catalog     *update.Catalog
	files       *files
	from, until time.Time      // the time in which newest is right; a zero until: for good
	newest      *update.Update // that every box may install; nil: none

	// unhashed says that some update has no digest yet and has not replaced another.
	unhashed bool

	list            func() *answer
	version, latest func() *answer // only if newest is not nil
	updates         coded
	lines           sync.Map // update.Name → *answer
}

// recheckEvery is how often the newest update is determined again while it depends on the time, because somebody may
// set the clock.
const recheckEvery = time.Minute

func newView(c Config, catalog *update.Catalog, f *files) *view {
	v := &view{catalog: catalog, files: f, from: c.Now()}
	if u, ok := catalog.Newest(v.from); ok {
		v.newest = &u
	}
	if !catalog.NextChange(time.Time{}).IsZero() {
		v.until = v.from.Add(recheckEvery)
		if next := catalog.NextChange(v.from); !next.IsZero() && next.Before(v.until) {
			v.until = next
		}
	}
	for _, u := range catalog.Updates() {
		v.unhashed = v.unhashed || u.Digest.IsZero() && !c.Source.Replaced(u.Name)
	}
	v.list = sync.OnceValue(func() *answer {
		names := make([]string, 0, len(catalog.Updates()))
		for _, u := range catalog.Updates() {
			names = append(names, u.Name.String())
		}
		return cachedAnswer("text/plain", []byte(strings.Join(names, "\n")), cacheRevalidate)
	})
	v.version = sync.OnceValue(func() *answer {
		return cachedAnswer("text/plain", []byte(v.newest.Name.Version().String()), cacheRevalidate)
	})
	v.latest = sync.OnceValue(func() *answer {
		location := "/update/" + v.newest.Name.String()
		return newAnswer(http.StatusSeeOther, "text/plain", nil, one("Location", location),
			one("Cache-Control", cacheRevalidate), one("Etag", etag(update.Sum([]byte(location)))))
	})
	v.updates = newCoded(func() *answer { return jsonFile(catalogOf(c, v), cacheRevalidate) })
	return v
}

// current returns the view of the catalog as it is now.
func (rt *router) current() *view {
	catalog := rt.config.Source.Catalog()
	if v := rt.view.Load(); v != nil && v.catalog == catalog && !v.due(rt.config.Now) {
		return v
	}
	return rt.change()
}

// due reports whether another update may be the newest by now.
func (v *view) due(now func() time.Time) bool {
	if v.until.IsZero() {
		return false
	}
	at := now()
	return !at.Before(v.until) || at.Before(v.from)
}

// change replaces the view if the catalog is another one or the view is due, and returns the current view. A due view
// of the same catalog keeps its open files.
func (rt *router) change() *view {
	rt.changing.Lock()
	defer rt.changing.Unlock()
	catalog, old := rt.config.Source.Catalog(), rt.view.Load()
	if old != nil && old.catalog == catalog {
		if old.due(rt.config.Now) {
			rt.view.Store(newView(rt.config, catalog, old.files))
		}
		return rt.view.Load()
	}
	v := newView(rt.config, catalog, newFiles(rt.config.Source))
	rt.view.Store(v)
	if old != nil {
		old.files.close()
	}
	return v
}

// line returns the checksum line of an update whose digest is known.
func (v *view) line(u update.Update) *answer {
	if a, ok := v.lines.Load(u.Name); ok {
		return a.(*answer)
	}
	a := cachedAnswer("text/plain", update.ChecksumLine(u.Digest, u.Name), cacheRevalidate)
	v.lines.Store(u.Name, a)
	return a
}

type catalogJSON struct {
	Product update.Product `json:"product"`
	Newest  *update.Name   `json:"newest"`
	Updates []updateJSON   `json:"updates"`
}

type updateJSON struct {
	Name       update.Name       `json:"name"`
	Version    update.Version    `json:"version"`
	SHA256     *update.Digest    `json:"sha256"`
	Length     int64             `json:"length"`
	Time       string            `json:"time"`
	Signatures map[string]string `json:"signatures"`
	Unsigned   bool              `json:"unsigned,omitempty"`
}

// catalogOf returns the JSON of a catalog, without freshness.
func catalogOf(c Config, v *view) []byte {
	out := catalogJSON{Product: c.Product, Updates: make([]updateJSON, 0, len(v.catalog.Updates()))}
	if v.newest != nil {
		out.Newest = &v.newest.Name
	}
	for _, u := range v.catalog.Updates() {
		one := updateJSON{Name: u.Name, Version: u.Name.Version(), Length: u.Length, Time: u.Time.UTC().Format(time.RFC3339),
			Signatures: map[string]string{}, Unsigned: u.Unsigned}
		if !u.Digest.IsZero() {
			one.SHA256 = &u.Digest
		}
		for _, s := range c.Signatures(u) {
			if s.Key != "" {
				one.Signatures[string(s.Key)] = s.Signature.String()
			}
		}
		out.Updates = append(out.Updates, one)
	}
	return append(marshal(out), '\n')
}
