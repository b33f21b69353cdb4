package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Mirror is what is known of a copy that is kept up to date from elsewhere. Its methods are called
// concurrently and must not block.
type Mirror interface {
	// Synced reports whether there is something to serve. It stays true once it is.
	Synced() bool

	// Freshness returns how new the copy is, which is shown as JSON to anyone who asks.
	Freshness() *status.Freshness

	// Via returns a field of answers for the timestamp, by which mirrors tell whether they copy from each other.
	Via() (field, value string)

	// Want says what to tell a client who asks for an update of the catalog that is not in place: to
	// come back after a time, or to go to a URL. Neither means that it is not to be had.
	Want(u update.Update) (retryAfter time.Duration, redirect string)
}

// errNotSynced says that a mirror has nothing yet: neither updates nor the knowledge that there are none.
var errNotSynced = errors.New("the first sync is not complete")

// An elsewhereError says where or when an update that is not in place is to be had.
type elsewhereError struct {
	after    time.Duration
	redirect string // a URL, or empty
}

// Error says where the update is.
func (e elsewhereError) Error() string {
	if e.redirect != "" {
		return "the update is at " + e.redirect
	}
	return "the update is on its way"
}

// answer returns a redirect that nobody keeps, or when to come back.
func (e elsewhereError) answer() *answer {
	if e.redirect != "" {
		return textAnswer(http.StatusTemporaryRedirect, "The update is elsewhere.", one("Location", e.redirect))
	}
	seconds := strconv.Itoa(max(1, int(math.Ceil(e.after.Seconds()))))
	return textAnswer(http.StatusServiceUnavailable, "The update is on its way.", one("Retry-After", seconds))
}

// retryOrRedirect returns what a mirror has to say of an update that couldn't be opened, else err.
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
	return elsewhereError{after, redirect}
}

// freshUpdates is the list of updates with how new it is, for as long as neither changes.
type freshUpdates struct {
	of        *view
	freshness []byte
	coded
}

// freshList keeps the list that was asked for last.
type freshList struct{ last atomic.Pointer[freshUpdates] }

func (l *freshList) of(v *view, freshness *status.Freshness) *freshUpdates {
	text, err := json.Marshal(freshness)
	if err != nil {
		text = []byte("null")
	}
	if last := l.last.Load(); last != nil && last.of == v && bytes.Equal(last.freshness, text) {
		return last
	}
	next := &freshUpdates{of: v, freshness: text}
	next.plain = sync.OnceValue(func() *answer {
		body := append([]byte(`{"freshness":`), text...)
		body = append(append(body, ','), v.updates.plain().body[1:]...)
		return cachedAnswer("application/json", body, cacheRevalidate, one("Vary", "Accept-Encoding"))
	})
	next.gzipped = sync.OnceValue(func() *answer { return gzipAnswer(next.plain(), cacheRevalidate) })
	l.last.Store(next)
	return next
}
