package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// Publisher takes lists, roots and archives from signers. An origin.Origin is one; its methods state the contracts in
// full.
type Publisher interface {
	// State says what is published and what waits.
	State() origin.State

	// PendingRaw returns the file of a proposal that lacks signatures.
	PendingRaw(id update.Digest) ([]byte, error)

	// Propose takes a proposal. It does not retain raw.
	Propose(ctx context.Context, role trust.Role, raw []byte) (origin.Outcome, error)

	// Archive says how much of an archive has arrived.
	Archive(ctx context.Context, id, digest update.Digest) (origin.Archive, error)

	// PutBlocks takes the block list of an archive. It does not retain list.
	PutBlocks(ctx context.Context, id, digest update.Digest, list []byte) error

	// PutBlock takes block i of an archive. It does not retain p. If p is not that block, as an empty p never is, it
	// returns store.ErrCorrupt and writes nothing; all other refusals come before this one.
	PutBlock(ctx context.Context, id, digest update.Digest, i int, p []byte) error

	// PutPart takes a part of block i, from offset at on. It does not retain p. An empty p only asks whether a part
	// that begins there is wanted.
	PutPart(ctx context.Context, id, digest update.Digest, i int, at int64, p []byte) error

	// Commit publishes a staged list.
	Commit(ctx context.Context, id update.Digest) (status.Versions, error)
}

// publish answers everything below /publish.
func (rt *router) publish(w *reply, r *http.Request, target string) error {
	p, err := parsePublishPath(target)
	if err != nil {
		return err
	}
	if allow := p.allow(); !slices.Contains(strings.Split(allow, ", "), r.Method) {
		return methodError(allow)
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
		state, err := publisher.Archive(r.Context(), p.id, p.digest)
		if err != nil {
			return err
		}
		sendJSON(w, http.StatusOK, state)
		return nil
	case publishProposal:
		return rt.propose(w, r, p)
	case publishCommit:
		return rt.commit(w, r, p)
	}
	return rt.putBody(w, r, p)
}

func sendJSON(w *reply, code int, v any) {
	newAnswer(code, "application/json", append(marshal(v), '\n'), one("Cache-Control", cacheNever)).send(w)
}

// propose takes a list or a root, which anybody may send.
func (rt *router) propose(w *reply, r *http.Request, p publishPath) error {
	lane := rt.bodies.checkLarge
	if r.ContentLength <= smallUpload {
		lane = rt.bodies.checkSmall
	}
	raw, done, err := rt.upload(w, r, lane)
	if err != nil {
		return err
	}
	defer done()
	if err := p.checkVersion(raw); err != nil {
		return err
	}
	out, err := rt.config.Publisher.Propose(r.Context(), p.role, raw)
	rt.metrics.published(string(out.Status), err)
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

// checkVersion refuses a file whose own version differs from that of the path. It does not check whether the file is
// well-formed.
func (p publishPath) checkVersion(raw []byte) error {
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

// putBody takes a block, a part of one, or a block list. It asks the publisher first with an empty body, so that an
// unwanted body is refused before the client sends it.
func (rt *router) putBody(w *reply, r *http.Request, p publishPath) error {
	publisher := rt.config.Publisher
	put := func(body []byte) error {
		switch p.kind {
		case publishBlocks:
			return publisher.PutBlocks(r.Context(), p.id, p.digest, body)
		case publishPart:
			return publisher.PutPart(r.Context(), p.id, p.digest, p.block, p.at, body)
		}
		return publisher.PutBlock(r.Context(), p.id, p.digest, p.block, body)
	}
	if err := put(nil); err != nil && !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	body, done, err := rt.body(w, r)
	if err != nil {
		return err
	}
	defer done()
	if err := put(body); err != nil {
		if len(body) > 0 {
			rt.metrics.verified(err)
		}
		return err
	}
	w.Header()["Cache-Control"] = []string{cacheNever}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// commit publishes a staged list. The commit continues even if the client goes away, because a reverse proxy may time
// out while large archives are checked for the last time.
func (rt *router) commit(w *reply, r *http.Request, p publishPath) error {
	now, err := rt.config.Publisher.Commit(context.WithoutCancel(r.Context()), p.id)
	rt.metrics.published(string(origin.StatusCommitted), err)
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
	if wire.Status != http.StatusRequestTimeout { // a body that came too slowly is not waited for again
		boundRest(w, r)
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
