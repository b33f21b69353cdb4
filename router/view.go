package router

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// A view is all that is made beforehand for one catalog: answers, rendered when they are first asked
// for, and files that are open.
type view struct {
	catalog *update.Catalog
	files   *files

	// unhashed says that some update has no digest yet and has not replaced another.
	unhashed bool

	list, version, latest, plain, gzipped func() *answer
	lines                                 sync.Map // update.Name → *answer
}

func newView(c Config, catalog *update.Catalog) *view {
	v := &view{catalog: catalog, files: newFiles(c.Source)}
	for _, u := range catalog.Updates() {
		v.unhashed = v.unhashed || u.Digest.IsZero() && !c.Source.Replaced(u.Name)
	}
	v.list = sync.OnceValue(func() *answer { return listAnswer(catalog) })
	v.version = sync.OnceValue(func() *answer { return versionAnswer(catalog) })
	v.latest = sync.OnceValue(func() *answer { return latestAnswer(catalog) })
	v.plain = sync.OnceValue(func() *answer { return updatesAnswer(c.Product, catalog) })
	v.gzipped = sync.OnceValue(func() *answer { return gzipAnswer(v.plain()) })
	return v
}

// current returns the view of the catalog as it is now.
func (rt *router) current() *view {
	catalog := rt.config.Source.Catalog()
	if v := rt.view.Load(); v != nil && v.catalog == catalog {
		return v
	}
	return rt.change()
}

func (rt *router) change() *view {
	rt.changing.Lock()
	defer rt.changing.Unlock()
	catalog, old := rt.config.Source.Catalog(), rt.view.Load()
	if old != nil && old.catalog == catalog {
		return old
	}
	v := newView(rt.config, catalog)
	rt.view.Store(v)
	if old != nil {
		old.files.close()
	}
	return v
}

func listAnswer(c *update.Catalog) *answer {
	names := make([]string, 0, len(c.Updates()))
	for _, u := range c.Updates() {
		names = append(names, u.Name.String())
	}
	return cachedAnswer("text/plain", []byte(strings.Join(names, "\n")), cacheRevalidate)
}

// versionAnswer returns nil where there is no update.
func versionAnswer(c *update.Catalog) *answer {
	u, ok := c.Newest()
	if !ok {
		return nil
	}
	return cachedAnswer("text/plain", []byte(u.Name.Version().String()), cacheRevalidate)
}

// latestAnswer returns nil where there is no update.
func latestAnswer(c *update.Catalog) *answer {
	u, ok := c.Newest()
	if !ok {
		return nil
	}
	location := "/update/" + u.Name.String()
	return newAnswer(http.StatusSeeOther, "text/plain", nil, one("Location", location),
		one("Cache-Control", cacheRevalidate), one("Etag", etag(update.Sum([]byte(location)))))
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
}

func updatesAnswer(p update.Product, c *update.Catalog) *answer {
	out := catalogJSON{Product: p, Updates: make([]updateJSON, 0, len(c.Updates()))}
	for _, u := range c.Updates() {
		out.Updates = append(out.Updates, describe(u))
	}
	if u, ok := c.Newest(); ok {
		out.Newest = &u.Name
	}
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // no value of these types fails to marshal
	}
	return cachedAnswer("application/json", append(body, '\n'), cacheRevalidate, one("Vary", "Accept-Encoding"))
}

func describe(u update.Update) updateJSON {
	out := updateJSON{
		Name:       u.Name,
		Version:    u.Name.Version(),
		Length:     u.Length,
		Time:       u.Time.UTC().Format(time.RFC3339),
		Signatures: map[string]string{},
	}
	if !u.Digest.IsZero() {
		out.SHA256 = &u.Digest
	}
	return out
}
