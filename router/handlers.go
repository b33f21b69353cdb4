package router

import (
	"fmt"
	"net/http"

	"github.com/openpowerquality/box-update-server/update"
)

func (rt *router) list(w *reply, r *http.Request, _ string) error {
	rt.current().list().serve(w, r)
	return nil
}

func (rt *router) version(w *reply, r *http.Request, _ string) error {
	v := rt.current()
	a := v.version()
	if a == nil {
		return v.empty(errNoUpdates)
	}
	a.serve(w, r)
	return nil
}

func (rt *router) latest(w *reply, _ *http.Request, _ string) error {
	v := rt.current()
	a := v.latest()
	if a == nil {
		return v.empty(errNotFound)
	}
	a.send(w) // a precondition does not apply to a redirection (RFC 9110, section 13.2.1)
	return nil
}

// empty returns the error for a catalog without updates: errNoneLeft if it had some before, otherwise never.
func (v *view) empty(never error) error {
	if v.catalog.HadUpdates() {
		return errNoneLeft
	}
	return never
}

func (rt *router) updates(w *reply, r *http.Request, _ string) error {
	v := rt.current()
	if m := rt.config.Mirror; m != nil {
		rt.fresh.of(v, m.Freshness()).serve(rt, w, r)
		return nil
	}
	v.updates.serve(rt, w, r)
	return nil
}

func (rt *router) byName(w *reply, r *http.Request, target string) error {
	n, p, err := parseNameTarget(target)
	if err != nil {
		return err
	}
	v := rt.current()
	u, ok := v.catalog.Lookup(n)
	if !ok {
		return errNotFound
	}
	switch p {
	case checksum:
		return v.checksum(w, r, u)
	case signature:
		return rt.signature(w, r, u)
	}
	if r.Header["Range"] != nil && r.Header["If-Range"] == nil && rt.config.Source.Replaced(n) {
		r = withoutRange(r) // the client may hold a part of the bytes that were there before
	}
	return rt.archive(w, r, v, u, rt.cacheByName)
}

func (v *view) checksum(w *reply, r *http.Request, u update.Update) error {
	if u.Digest.IsZero() {
		return errPending
	}
	v.line(u).serve(w, r)
	return nil
}

func withoutRange(r *http.Request) *http.Request {
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	delete(r.Header, "Range")
	return r
}

func (rt *router) byDigest(w *reply, r *http.Request, target string) error {
	d, p, err := parseDigestTarget(target)
	if err != nil {
		return err
	}
	v := rt.current()
	u, ok := v.catalog.ByDigest(d)
	if !ok && v.unhashed {
		return errPending
	}
	if !ok {
		return errNotFound
	}
	switch p {
	case checksum:
		return v.checksum(w, r, u)
	case signature:
		return rt.signature(w, r, u)
	case blocks:
		return rt.blocks(w, r, u)
	}
	return rt.archive(w, r, v, u, rt.cacheByDigest)
}

// byPath answers for an archive under the path that TUF clients ask for.
func (rt *router) byPath(w *reply, r *http.Request, target string) error {
	d, n, err := parsePathTarget(target)
	if err != nil {
		return err
	}
	v := rt.current()
	u, ok := v.catalog.Lookup(n)
	if !ok || u.Digest != d {
		return errNotFound
	}
	return rt.archive(w, r, v, u, rt.cacheByDigest)
}

func (rt *router) blocks(w *reply, r *http.Request, u update.Update) error {
	if a := rt.blockLists.find(u.Digest); a != nil {
		a.serve(w, r)
		return nil
	}
	list, err := rt.config.Source.Blocks(u)
	if err != nil {
		return rt.retryOrRedirect(r, u, fmt.Errorf("block list of %v: %w", u.Name, err))
	}
	rt.blockLists.keep(u.Digest, list).serve(w, r)
	return nil
}
