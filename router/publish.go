package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// Publisher takes what signers publish. An origin.Origin is one, and the contracts are those of its
// methods.
type Publisher interface {
	// State says what is published and what waits.
	State() origin.State

	// PendingRaw returns the file of a proposal that lacks signatures.
	PendingRaw(id update.Digest) ([]byte, error)

	// Propose takes one. It does not keep raw.
	Propose(ctx context.Context, role trust.Role, raw []byte) (origin.Outcome, error)

	// Archive says how much of one has arrived.
	Archive(ctx context.Context, id, digest update.Digest) (origin.Archive, error)

	// PutBlocks takes its block list. It does not keep list.
	PutBlocks(ctx context.Context, id, digest update.Digest, list []byte) error

	// PutBlock takes a block, which it does not keep. What is not that block, nothing included, is
	// store.ErrCorrupt, and no byte is written; other errors come first.
	PutBlock(ctx context.Context, id, digest update.Digest, i int, p []byte) error

	// PutPart takes a part of a block, from offset at on, which it does not keep. An empty one only asks
	// whether a part that begins there is wanted.
	PutPart(ctx context.Context, id, digest update.Digest, i int, at int64, p []byte) error

	// Commit publishes a staged list.
	Commit(ctx context.Context, id update.Digest) (status.Versions, error)
}

// publish answers everything below /publish.
func (rt *router) publish(w *reply, r *http.Request, target string) error {
	p, err := parsePublishPath(target)
	if err == nil {
		err = rt.published(w, r, p)
	}
	if err != nil {
		rt.refusePublish(w, r, err)
	}
	return nil
}

func (rt *router) published(w *reply, r *http.Request, p publishPath) error {
	if !takes(p, r.Method) {
		return methodError(p.allow())
	}
	if err := checkLength(r, p.limit()); err != nil {
		return err
	}
	publisher := rt.config.Publisher
	switch p.kind {
	case publishState:
		sendJSON(w, http.StatusOK, publisher.State())
		return nil
	case publishPending:
		raw, err := publisher.PendingRaw(p.id)
		if err != nil {
			return err
		}
		newAnswer(http.StatusOK, "application/json", raw, one("Cache-Control", cacheNever)).send(w)
		return nil
	case publishArchive:
		return send(w)(publisher.Archive(r.Context(), p.id, p.digest))
	case publishProposal:
		return rt.propose(w, r, p)
	case publishCommit:
		return rt.commit(w, r, p)
	}
	return rt.arrive(w, r, p)
}

func takes(p publishPath, method string) bool {
	switch p.kind {
	case publishState, publishPending, publishArchive:
		return method == http.MethodGet || method == http.MethodHead
	case publishCommit:
		return method == http.MethodPost || method == http.MethodPut
	}
	return method == http.MethodPut
}

// send returns what answers with a result unless there is an error.
func send(w *reply) func(origin.Archive, error) error {
	return func(a origin.Archive, err error) error {
		if err == nil {
			sendJSON(w, http.StatusOK, a)
		}
		return err
	}
}

func sendJSON(w *reply, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // no value of the types that are sent fails to marshal
	}
	newAnswer(code, "application/json", append(body, '\n'), one("Cache-Control", cacheNever)).send(w)
}

// propose takes a list or a root from anyone.
func (rt *router) propose(w *reply, r *http.Request, p publishPath) error {
	lane := rt.bodies.checking
	if r.ContentLength <= smallUpload {
		lane = rt.bodies.small
	}
	raw, done, err := rt.upload(w, r, func() (func(), error) { return acquire(r.Context(), 1, lane) })
	if err != nil {
		return err
	}
	defer done()
	if err := p.fits(raw); err != nil {
		return err
	}
	out, err := rt.config.Publisher.Propose(r.Context(), p.role, raw)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if out.Status == origin.StatusPending {
		code = http.StatusAccepted
	}
	sendJSON(w, code, out)
	return nil
}

// fits refuses a file that says of itself that it has another version. Whether it is well-formed is not
// looked at.
func (p publishPath) fits(raw []byte) error {
	var file struct {
		Signed struct {
			Version json.Number `json:"version"`
		} `json:"signed"`
	}
	if json.Unmarshal(raw, &file) != nil {
		return nil // Propose says what is wrong
	}
	if got, want := file.Signed.Version.String(), fmt.Sprint(p.version); got != want {
		return fmt.Errorf("%w: expected %s %s, as in the path, got version %.20q", trust.ErrMalformed, p.role, want, got)
	}
	return nil
}

// arrive takes a block, a part of one, or a block list. Whether it is wanted is known before its body is asked for.
func (rt *router) arrive(w *reply, r *http.Request, p publishPath) error {
	if err := rt.deliver(r.Context(), p, nil); err != nil && !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	body, done, err := rt.body(w, r)
	if err != nil {
		return err
	}
	defer done()
	if err := rt.deliver(r.Context(), p, body); err != nil {
		return err
	}
	w.Header()["Cache-Control"] = []string{cacheNever}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (rt *router) deliver(ctx context.Context, p publishPath, body []byte) error {
	switch p.kind {
	case publishBlocks:
		return rt.config.Publisher.PutBlocks(ctx, p.id, p.digest, body)
	case publishPart:
		return rt.config.Publisher.PutPart(ctx, p.id, p.digest, p.block, p.at, body)
	}
	return rt.config.Publisher.PutBlock(ctx, p.id, p.digest, p.block, body)
}

// commit publishes a staged list. It goes on without its caller: a reverse proxy may lose patience
// while large archives are looked at for the last time.
func (rt *router) commit(w *reply, r *http.Request, p publishPath) error {
	now, err := rt.config.Publisher.Commit(context.WithoutCancel(r.Context()), p.id)
	if err != nil {
		return err
	}
	sendJSON(w, http.StatusOK, now)
	return nil
}

// refusePublish answers a request below /publish that failed.
func (rt *router) refusePublish(w *reply, r *http.Request, err error) {
	wire, _ := status.WireOf(err)
	if wire.Status >= http.StatusInternalServerError && !errors.Is(err, errBusy) && r.Context().Err() == nil {
		rt.config.Logger.LogAttrs(r.Context(), slog.LevelError, "publish failed",
			slog.String("method", r.Method), slog.String("path", logged(r.URL.Path)), slog.Any("error", err))
	}
	if wire.Status != http.StatusRequestTimeout { // what comes too slowly is not waited for again
		giveUp(w, r)
	}
	h := w.Header()
	switch wire.Status {
	case http.StatusMethodNotAllowed:
		var method methodError
		errors.As(err, &method)
		h["Allow"] = []string{string(method)}
	case http.StatusRequestTimeout:
		h["Connection"] = []string{"close"}
	case http.StatusServiceUnavailable:
		h["Retry-After"] = []string{retryAfter}
	}
	sendJSON(w, wire.Status, origin.FailureOf(err))
}
