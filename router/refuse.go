package router

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/openpowerquality/box-update-server/status"
)

// Errors that handlers return. An error that refusals.of does not know is an internal one.
var (
	errNotFound  error = status.NoResource
	errNoUpdates       = errors.New("there never was an update")
	errNoneLeft        = errors.New("there is no update any more")
	errChunked         = errors.New("a body where none is expected")
	errPending         = errors.New("the digest is not known yet")
)

// A methodError says which methods a resource takes, as Allow spells them.
type methodError string

// Error says which methods were expected.
func (e methodError) Error() string { return "method not allowed: expected " + string(e) }

// Unwrap returns the kind of the error.
func (e methodError) Unwrap() error { return status.Method }

// retryAfter is after how many seconds to ask again: hashing an archive takes about as long.
const retryAfter = "10"

// refusals are the answers to errors of all routes except those below /publish, whose errors refusePublish answers.
type refusals struct {
	notFound, noUpdates, noneLeft, pending, notSynced, crowded, chunked, internal *answer
}

func newRefusals() *refusals {
	later := field{"Retry-After", []string{retryAfter}}
	return &refusals{
		notFound:  textAnswer(http.StatusNotFound, "Resource not found."),
		noUpdates: textAnswer(http.StatusNotFound, "Update dir does not contain any valid updates."),
		noneLeft:  textAnswer(http.StatusServiceUnavailable, "There is no update now.", later),
		pending:   textAnswer(http.StatusServiceUnavailable, "The digest is not known yet.", later),
		notSynced: textAnswer(http.StatusServiceUnavailable, "The first sync is not complete.", later),
		crowded:   textAnswer(http.StatusServiceUnavailable, "Too many downloads at once.", later),
		chunked:   textAnswer(http.StatusBadRequest, "Expected no chunked body."),
		internal:  textAnswer(http.StatusInternalServerError, "internal error"),
	}
}

func (f *refusals) of(err error) *answer {
	var method methodError
	var elsewhere elsewhereError
	switch {
	case errors.As(err, &elsewhere):
		return elsewhere.answer()
	case errors.Is(err, errNotSynced):
		return f.notSynced
	case errors.As(err, &method):
		return textAnswer(http.StatusMethodNotAllowed, "Method not allowed.", one("Allow", string(method)))
	case errors.Is(err, errNotFound), errors.Is(err, fs.ErrNotExist):
		return f.notFound
	case errors.Is(err, errNoUpdates):
		return f.noUpdates
	case errors.Is(err, errNoneLeft):
		return f.noneLeft
	case errors.Is(err, errCrowded):
		return f.crowded
	case errors.Is(err, errChunked):
		return f.chunked
	case errors.Is(err, errPending):
		return f.pending
	}
	return f.internal
}

// refuse answers a request whose handler returned err. It logs internal errors.
func (rt *router) refuse(w *reply, r *http.Request, err error) {
	a := rt.refusals.of(err)
	if a == rt.refusals.internal {
		rt.config.Logger.LogAttrs(r.Context(), slog.LevelError, "internal error",
			slog.String("method", r.Method), slog.String("path", logged(r.URL.Path)), slog.Any("error", err))
	}
	giveUp(w, r)
	a.send(w)
}
