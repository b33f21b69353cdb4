package router

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func (rt *router) list(w *reply, r *http.Request, _ string) error {
	rt.current().list().serve(w, r)
	return nil
}

func (rt *router) version(w *reply, r *http.Request, _ string) error {
	v := rt.current()
	if v.newest == nil {
		return v.empty(errNoUpdates)
	}
	v.version().serve(w, r)
	return nil
}

func (rt *router) latest(w *reply, _ *http.Request, _ string) error {
	v := rt.current()
	if v.newest == nil {
		return v.empty(errNotFound)
	}
	v.latest().send(w) // a precondition does not apply to a redirection (RFC 9110, section 13.2.1)
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
		rt.withFreshness(v, m.Freshness()).serve(rt, w, r)
		return nil
	}
	v.updates.serve(rt, w, r)
	return nil
}

// A part says which resource of an update a request asks for. Its text is the suffix of the path.
type part string

const (
	archive   part = ""
	checksum  part = ".sha256"
	signature part = ".sig"
	blocks    part = ".blocks"
)

func cutPart(s string) (string, part) {
	for _, p := range []part{checksum, signature, blocks} {
		if stem, ok := strings.CutSuffix(s, string(p)); ok {
			return stem, p
		}
	}
	return s, archive
}

// parseNameTarget parses what follows /update/: a name alone, or with ".sha256" or ".sig".
func parseNameTarget(s string) (update.Name, part, error) {
	stem, p := cutPart(s)
	n, err := update.ParseName(stem)
	if err != nil || p == blocks {
		return update.Name{}, "", errNotFound
	}
	return n, p, nil
}

// parseDigestTarget parses what follows /sha256/: a digest alone, or with ".sha256", ".sig" or ".blocks".
func parseDigestTarget(s string) (update.Digest, part, error) {
	stem, p := cutPart(s)
	d, err := update.ParseDigest(stem)
	if err != nil {
		return update.Digest{}, "", errNotFound
	}
	return d, p, nil
}

// parsePathTarget parses what follows /targets/: a digest, a dot and a name.
func parsePathTarget(s string) (update.Digest, update.Name, error) {
	digest, name, _ := strings.Cut(s, ".")
	d, err := update.ParseDigest(digest)
	n, badName := update.ParseName(name)
	if err != nil || badName != nil {
		return update.Digest{}, update.Name{}, errNotFound
	}
	return d, n, nil
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
	if p != archive {
		return rt.companion(w, r, v, u, p)
	}
	if r.Header["Range"] != nil && r.Header["If-Range"] == nil && rt.config.Source.Replaced(n) {
		r = withoutRange(r) // the client may hold a part of the bytes that were there before
	}
	return rt.archive(w, r, v, u, rt.cacheByName)
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
	switch {
	case ok && p == archive:
		return rt.archive(w, r, v, u, rt.cacheByDigest)
	case ok:
		return rt.companion(w, r, v, u, p)
	case v.unhashed:
		return errPending
	}
	return errNotFound
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

// companion answers with a part of an update that is not the archive. It does not answer archives too: its frame would stay
// on the stack of each download.
func (rt *router) companion(w *reply, r *http.Request, v *view, u update.Update, p part) error {
	switch p {
	case signature:
		return rt.signature(w, r, u)
	case blocks:
		return rt.blocks(w, r, u)
	}
	if u.Digest.IsZero() {
		return errPending
	}
	v.line(u).serve(w, r)
	return nil
}

// signature answers with the detached signature of an update, by the key of the query or else by the first key.
func (rt *router) signature(w *reply, r *http.Request, u update.Update) error {
	query := r.URL.Query()
	wanted, first := keys.ID(query.Get("key")), !query.Has("key")
	for _, s := range rt.config.Signatures(u) {
		if first || wanted != "" && s.Key == wanted {
			cachedAnswer("application/octet-stream", s.Signature[:], cacheRevalidate).serve(w, r)
			return nil
		}
	}
	return errNotFound
}

// blocks answers with the block list of an update, which never changes.
func (rt *router) blocks(w *reply, r *http.Request, u update.Update) error {
	name := u.Digest.String()
	if f, ok := rt.blockLists.find(name); ok {
		f.plain().serve(w, r)
		return nil
	}
	list, err := rt.config.Source.Blocks(u)
	if err != nil {
		return rt.retryOrRedirect(r, u, fmt.Errorf("block list of %v: %w", u.Name, err))
	}
	raw := list.Bytes()
	rt.blockLists.keep(name, raw, func() *answer {
		return cachedAnswer("application/octet-stream", raw, cacheForever)
	}).plain().serve(w, r)
	return nil
}

// metadataFile answers with a file of signed metadata. Those with a number never change.
func (rt *router) metadataFile(w *reply, r *http.Request, target string) error {
	role, _, ok := trust.ParseFileName(target)
	if !ok || rt.config.Metadata == nil {
		return errNotFound
	}
	cache := cacheForever
	if role == trust.RoleTimestamp {
		cache = cacheRevalidate
		if m := rt.config.Mirror; m != nil {
			field, value := m.Via()
			w.Header().Set(field, value)
		}
	} else if f, ok := rt.metadata.find(target); ok {
		f.serve(rt, w, r)
		return nil
	}
	raw, err := rt.config.Metadata(target)
	if err != nil {
		return fmt.Errorf("metadata %s: %w", target, err)
	}
	rt.metadata.keep(target, raw, func() *answer { return jsonFile(raw, cache) }).serve(rt, w, r)
	return nil
}
