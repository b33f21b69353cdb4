package publish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// The errors that a caller may branch on, beside those that an Error wraps.
var (
	// ErrNoFile says that the origin lacks an archive of which there is no file.
	ErrNoFile error = status.NoFile

	// ErrChanged says that a file differs from what was signed.
	ErrChanged error = status.Changed

	// ErrOrigin says that only the origin itself can do something.
	ErrOrigin error = status.OriginOnly

	// ErrIncomplete says that the origin asks for more signatures.
	ErrIncomplete = errors.New("the origin asks for more signatures")
)

// File is an archive on this computer.
type File struct {
	Path   string
	Blocks update.Blocks
}

// Files are archives that may be needed, by digest.
type Files map[update.Digest]File

// Publish publishes a change: a root, a list with its archives, or both, the root first. Archives that the origin has need
// no file. It returns when the origin has committed the change, or had committed it before. It does not verify what the
// origin answers; see trust.State.Refresh and Check.
//
// An error is an *Error unless it is about the files. The caller may publish the same again, except after
// trust.ErrConflict: then another change is published, or will be. The zero Change is ErrOrigin, because the origin renews
// snapshot and timestamp.
func (r *Remote) Publish(ctx context.Context, c trust.Change, files Files) error {
	if c.Root == nil && c.Targets == nil {
		return fmt.Errorf("%s: %w: it renews snapshot and timestamp by itself", r.URL(), ErrOrigin)
	}
	for _, p := range []*trust.Proposal{c.Root, c.Targets} {
		if p == nil {
			continue
		}
		status, err := r.submit(ctx, p, files)
		if err != nil {
			return fmt.Errorf("publish %s %d: %w", p.Role(), p.Version(), err)
		}
		if status == origin.StatusPending {
			return fmt.Errorf("publish %s %d: %w", p.Role(), p.Version(), ErrIncomplete)
		}
	}
	return nil
}

// Propose sends the origin a proposal that lacks signatures. If others have sent the missing ones, it is published.
// Propose refuses a complete one with ErrOrigin, because the origin would publish it.
func (r *Remote) Propose(ctx context.Context, p *trust.Proposal, files Files) error {
	if p.Complete() {
		return fmt.Errorf("hold %s %d: %w: a server publishes what has enough signatures", p.Role(), p.Version(), ErrOrigin)
	}
	if _, err := r.submit(ctx, p, files); err != nil {
		return fmt.Errorf("hold %s %d: %w", p.Role(), p.Version(), err)
	}
	return nil
}

// Drop returns ErrOrigin: an origin drops a proposal only when a newer one of the same keys comes, or after a week.
func (r *Remote) Drop(_ context.Context, p *trust.Proposal) error {
	return fmt.Errorf("drop %s %d: %w: a newer one replaces it, or it is dropped after a week", p.Role(), p.Version(), ErrOrigin)
}

// How often the origin may send a publish back to its beginning: without having accepted anything in between, and in all.
const (
	idleRounds = 3
	maxRounds  = 16
)

// submit sends a proposal to the origin, with the archives that are missing, and commits it.
func (r *Remote) submit(ctx context.Context, p *trust.Proposal, files Files) (origin.Status, error) {
	u := &upload{remote: r, patience: newPatience(r.c.Patience), files: files}
	idle := 0
	for round := 1; ; round++ {
		before := u.accepted.Load()
		status, err := u.round(ctx, p)
		if !startAgain(err) {
			return status, err
		}
		if idle++; u.accepted.Load() > before {
			idle = 0
		}
		if idle >= idleRounds || round >= maxRounds {
			return "", err
		}
	}
}

// startAgain reports whether the origin has lost what it had acknowledged, as after it was restored from a backup, or
// dropped the list for another one.
func startAgain(err error) bool {
	return errors.Is(err, origin.ErrNotFound) || errors.Is(err, origin.ErrBlocks) || errors.Is(err, store.ErrIncomplete)
}

// round is one attempt of a publish, from its beginning.
func (u *upload) round(ctx context.Context, p *trust.Proposal) (origin.Status, error) {
	o, err := u.propose(ctx, p)
	if err != nil || o.Status != origin.StatusStaged {
		return o.Status, err
	}
	if p.Role() != trust.RoleTargets {
		return "", fmt.Errorf("%w: the origin says that root %d is staged", errAnswer, p.Version())
	}
	if err := u.send(ctx, o, p.Releases()); err != nil {
		return "", err
	}
	return origin.StatusCommitted, u.commit(ctx, o.ID, p.Version())
}

func (u *upload) propose(ctx context.Context, p *trust.Proposal) (out origin.Outcome, err error) {
	q := request{method: http.MethodPut, path: []string{statePath, string(p.Role()), strconv.FormatInt(p.Version(), 10)}, body: p.Raw()}
	err = u.remote.retry(ctx, u.patience, func() error {
		return u.remote.ask(ctx, q, func(raw []byte) (err error) {
			out, err = parseOutcome(raw, p.Releases())
			return err
		})
	})
	return out, err
}

// commit waits until the list with that ID and version is published.
func (u *upload) commit(ctx context.Context, id update.Digest, version int64) error {
	q := request{method: http.MethodPost, path: []string{statePath, id.String(), commitPath}, wait: u.remote.c.Patience}
	parse := func(raw []byte) error {
		v, err := parseVersions(raw)
		if err == nil && v.Targets != version {
			err = fmt.Errorf("%w: the origin says that targets %d is published, expected %d", errAnswer, v.Targets, version)
		}
		return err
	}
	return u.remote.retry(ctx, u.patience, func() error { return u.remote.ask(ctx, q, parse) })
}
