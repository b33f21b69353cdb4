package router

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/openpowerquality/box-update-server/status"
)

// errNotFound says that a path leads nowhere.
var errNotFound error = status.NoResource

// A refusal is an error that is itself the answer to the request.
type refusal struct{ *answer }

// Error returns the text that the client gets.
func (r refusal) Error() string { return string(r.body) }

// retryAfter is after how many seconds to ask again: hashing an archive takes about as long.
const retryAfter = "10"

func refuseWith(status int, text string, fields ...field) error {
	return refusal{textAnswer(status, text, fields...)}
}

func refuseForNow(text string) error {
	return refuseWith(http.StatusServiceUnavailable, text, one("Retry-After", retryAfter))
}

// The refusals of all routes except those below /publish, whose errors refusePublish answers.
var (
	errNoUpdates = refuseWith(http.StatusNotFound, "Update dir does not contain any valid updates.") // and never did
	errNoneLeft  = refuseForNow("There is no update now.")
	errPending   = refuseForNow("The digest is not known yet.")
	errNotSynced = refuseForNow("The first sync is not complete.") // a mirror does not know which updates exist
	errCrowded   = refuseForNow("Too many downloads at once.")     // Config.MaxDownloads are running
	errChunked   = refuseWith(http.StatusBadRequest, "Expected no chunked body.")

	noResource    = textAnswer(http.StatusNotFound, "Resource not found.")
	internalError = textAnswer(http.StatusInternalServerError, "internal error")
)

// A methodError says which methods a resource takes, as Allow spells them.
type methodError string

// Error says which methods were expected.
func (e methodError) Error() string { return "method not allowed: expected " + string(e) }

// Unwrap returns the kind of the error.
func (e methodError) Unwrap() error { return status.Method }

// refuse answers a request whose handler returned err. It logs errors that are not the client's business.
func (rt *router) refuse(w *reply, r *http.Request, err error) {
	if w.route != nil && w.route.changes {
		rt.refusePublish(w, r, err)
		return
	}
	boundRest(w, r)
	var known refusal
	var method methodError
	switch {
	case errors.As(err, &known):
		known.send(w)
	case errors.As(err, &method):
		textAnswer(http.StatusMethodNotAllowed, "Method not allowed.", one("Allow", string(method))).send(w)
	case errors.Is(err, errNotFound), errors.Is(err, fs.ErrNotExist):
		noResource.send(w)
	default:
		rt.config.Logger.LogAttrs(r.Context(), slog.LevelError, "internal error",
			slog.String("method", r.Method), slog.String("path", logged(r.URL.Path)), slog.Any("error", err))
		internalError.send(w)
	}
}
