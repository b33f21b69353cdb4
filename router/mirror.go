package router

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Mirror says how the copy of an upstream stands. Its methods are called concurrently and must not block.
type Mirror interface {
	// Synced reports whether there is something to serve. Once true, it stays true.
	Synced() bool

	// Freshness returns how new the copy is, which is shown as JSON to anyone who asks.
	Freshness() *status.Freshness

	// Via returns a header field for answers with timestamp.json. By it, mirrors notice that they copy from each
	// other.
	Via() (field, value string)

	// Want says how to answer a request for an update of the catalog whose archive is missing: to ask again after a
	// time, or to redirect to a URL. If both are zero, the archive is not available.
	Want(u update.Update) (retryAfter time.Duration, redirect string)
}

// retryOrRedirect returns a refusal that says when or where a client can get an update that couldn't be opened. It
// returns err if there is no mirror or the mirror can't get the archive.
func (rt *router) retryOrRedirect(r *http.Request, u update.Update, err error) error {
	if rt.config.Mirror == nil {
		return err
	}
	after, redirect := rt.config.Mirror.Want(u)
	if after == 0 && redirect == "" {
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		rt.config.Logger.LogAttrs(r.Context(), slog.LevelWarn, "update is not in place",
			slog.String("name", u.Name.String()), slog.Any("error", err))
	}
	if redirect != "" {
		return refuseWith(http.StatusTemporaryRedirect, "The update is elsewhere.", one("Location", redirect))
	}
	seconds := strconv.Itoa(max(1, int(math.Ceil(after.Seconds()))))
	return refuseWith(http.StatusServiceUnavailable, "The update is on its way.", one("Retry-After", seconds))
}

// freshUpdates is the answer of /updates.json on a mirror: the list with its freshness. It is valid until one of them
// changes.
type freshUpdates struct {
	of        *view
	freshness []byte
	coded
}

// withFreshness returns the answer for a view and its freshness, the last one if both are the same.
func (rt *router) withFreshness(v *view, freshness *status.Freshness) *freshUpdates {
	text := marshal(freshness)
	if last := rt.fresh.Load(); last != nil && last.of == v && bytes.Equal(last.freshness, text) {
		return last
	}
	next := &freshUpdates{of: v, freshness: text, coded: newCoded(func() *answer {
		body := append([]byte(`{"freshness":`), text...)
		return jsonFile(append(append(body, ','), v.updates.plain().body[1:]...), cacheRevalidate)
	})}
	rt.fresh.Store(next)
	return next
}
