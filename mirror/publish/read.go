package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// get reads an answer of at most limit bytes, and retries temporary failures.
func (r *Remote) get(ctx context.Context, limit int64, header http.Header, path ...string) (status int, raw []byte, err error) {
	err = r.retry(ctx, newPatience(r.c.Patience), func() (err error) {
		status, raw, err = r.exchange(ctx, request{method: http.MethodGet, path: path, header: header.Clone()}, limit)
		return err
	})
	return status, raw, err
}

func notFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// Fetch reads a metadata file, as a trust.Fetcher does.
func (r *Remote) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	header := http.Header{}
	if !known.IsZero() {
		header.Set("If-None-Match", `"`+known.String()+`"`)
	}
	status, raw, err := r.get(ctx, limit, header, metadataPath, name)
	var refused *Error
	switch {
	case errors.As(err, &refused) && trust.IsNotFound(name, refused.Status):
		return nil, fmt.Errorf("%s: %w", r.at(metadataPath, name), trust.ErrNotFound)
	case err != nil:
		return nil, err
	case status == http.StatusNotModified:
		if known.IsZero() {
			return nil, fmt.Errorf("%s: %w: 304 without a condition", r.at(metadataPath, name), errAnswer)
		}
		return nil, trust.ErrUnchanged
	}
	return raw, nil
}

// Archive opens an archive; the error is fs.ErrNotExist if the server does not have it. Its bytes are not verified; see
// trust.VerifyArchive. The caller closes it.
func (r *Remote) Archive(ctx context.Context, rel trust.Release) (body io.ReadCloser, err error) {
	err = r.retry(ctx, newPatience(r.c.Patience), func() error {
		resp, err := r.do(ctx, request{method: http.MethodGet, path: []string{targetsPath, rel.Digest().String() + "." + rel.Name().String()}})
		if err == nil {
			body = resp.Body
		}
		return err
	})
	if notFound(err) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return body, err
}

// Pending returns the proposals that wait for signatures and that follow base, lists before roots and
// the lowest version first, and the highest version of all lists that wait, 0 for none. known and at
// are as for trust.Repository.CheckTargets. On a server that is no origin, nothing waits.
func (r *Remote) Pending(ctx context.Context, base *trust.Repository, known *trust.Ledger, at time.Time) ([]*trust.Proposal, int64, error) {
	_, raw, err := r.get(ctx, maxAnswer, nil, statePath, "")
	if notFound(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	s, err := parseState(raw)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", r.URL()+statePath, err)
	}
	// A server must not make a signer sign so high a version that none can follow.
	if most := base.Version(trust.RoleTargets) + maxAhead; s.Reserved > most {
		return nil, 0, fmt.Errorf("%s: %w: the origin says that list %d waits, and targets %d is published", r.URL()+statePath, errAnswer, s.Reserved, base.Version(trust.RoleTargets))
	}
	var out []*trust.Proposal
	for _, p := range s.Pending {
		proposal, err := r.pending(ctx, p, base, known, s.Reserved, at)
		if err != nil {
			return nil, 0, err
		}
		if proposal != nil {
			out = append(out, proposal)
		}
	}
	slices.SortStableFunc(out, func(a, b *trust.Proposal) int {
		return cmp.Or(-cmp.Compare(a.Role(), b.Role()), cmp.Compare(a.Version(), b.Version()))
	})
	return out, s.Reserved, nil
}

// pending returns a proposal, nil if it is gone meanwhile or does not follow base.
func (r *Remote) pending(ctx context.Context, p origin.Pending, base *trust.Repository, known *trust.Ledger, reserved int64, at time.Time) (*trust.Proposal, error) {
	_, raw, err := r.get(ctx, trust.MaxLength(p.Role), nil, statePath, pendingPath, p.ID.String())
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if update.Sum(raw) != p.ID {
		return nil, fmt.Errorf("%s: %w: it has another digest", r.at(statePath, pendingPath, p.ID.String()), errAnswer)
	}
	proposal, err := base.Check(p.Role, known, reserved, raw, at)
	if err != nil {
		return nil, nil // it follows another repository
	}
	return proposal, nil
}
