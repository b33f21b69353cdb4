package fetch

import (
	"context"
	"errors"
	"fmt"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Verifier verifies what an upstream has against what is trusted: a trust.State, or a store.Store.
type Verifier interface {
	// Refresh is that of trust.State.
	Refresh(ctx context.Context, f trust.Fetcher, c trust.Clock) (*trust.Repository, error)
}

// Search says how the newest repository is looked for. Trusted is required.
type Search struct {
	Trusted Verifier
	Clock   trust.Clock

	// Enough, if not nil, reports whether the first repository that is accepted makes it needless to ask
	// the other upstreams.
	Enough func(*trust.Repository) bool

	// Looked, if not nil, is told what each upstream that was asked showed: a repository that is accepted,
	// or an error.
	Looked func(*Upstream, *trust.Repository, error)
}

// Newest returns the newest repository of all upstreams, verified; the current one where none has a newer
// one. It is not stored. An upstream that turns out to be behind is asked last from then on, and one that
// sent what no honest upstream has is set aside, where there are others.
//
// The first answer is waited for as Ask does. The other upstreams are asked once, as long as none is far slower than
// another, and what goes wrong
// there is no error. Where none has a repository that is accepted, the error is that of each upstream.
func (c *Client) Newest(ctx context.Context, s Search) (*trust.Repository, error) {
	found := map[*Upstream]*trust.Repository{}
	var newest *trust.Repository
	ask := func(ctx context.Context, u *Upstream) error {
		repo, err := c.look(ctx, s, u, newest)
		if err != nil {
			return err
		}
		found[u] = repo
		if newest == nil || newer(repo, newest) {
			newest = repo
		}
		return nil
	}
	if err := c.Ask(ctx, ask); err != nil {
		return nil, err
	}
	if s.Enough != nil && s.Enough(newest) {
		return newest, nil
	}
	for _, u := range c.upstreams {
		if found[u] != nil || !u.State().Until.IsZero() {
			continue
		}
		if err := c.try(ctx, u, ask); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			c.c.Logger.Warn("upstream refused", "upstream", u.String(), "err", oneLine(err))
		}
	}
	for u, repo := range found {
		u.SetBehind(newer(newest, repo))
	}
	return newest, nil
}

// look asks one upstream for its repository. Files that another upstream showed already, in newest, are
// not fetched again.
func (c *Client) look(ctx context.Context, s Search, u *Upstream, newest *trust.Repository) (*trust.Repository, error) {
	repo, err := s.Trusted.Refresh(ctx, atHand{u, newest}, s.Clock)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err == nil {
		u.SetBehind(false)
	} else {
		err = c.judge(u, err)
	}
	if s.Looked != nil {
		s.Looked(u, repo, err)
	}
	return repo, err
}

// judge draws the consequences from why metadata of an upstream are not accepted, and returns the error
// with the name of the upstream.
func (c *Client) judge(u *Upstream, err error) error {
	u.SetBehind(errors.Is(err, trust.ErrRollback) || errors.Is(err, trust.ErrExpired))
	told := FromUpstream(err)
	if !told {
		err = fmt.Errorf("%v: %w", u, err)
	}
	if Hostile(err) && len(c.upstreams) > 1 {
		u.SetAside(err)
	} else if !told {
		u.Blame(err)
	}
	return err
}

// FromUpstream reports whether an error is one of this package's, which name the upstream.
func FromUpstream(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound)
}

// Hostile reports whether metadata can't have come from an upstream that is only behind, or cut.
func Hostile(err error) bool {
	for _, e := range []error{trust.ErrMalformed, trust.ErrThreshold, trust.ErrFork, trust.ErrMismatch, trust.ErrSecondDigest} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// atHand is an upstream of which some files are known from another one. Whether they fit its own is for
// the caller to find out, as with all that it fetches.
type atHand struct {
	trust.Fetcher
	repo *trust.Repository // nil: none
}

// Fetch returns the file at hand, or asks.
func (a atHand) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	role, version, ok := trust.ParseFileName(name)
	if ok && a.repo != nil && role != trust.RoleTimestamp && version == a.repo.Version(role) && int64(len(a.repo.Raw(role))) <= limit {
		return a.repo.Raw(role), nil
	}
	return a.Fetcher.Fetch(ctx, name, limit, known)
}

// newer reports whether a is a newer repository than b.
func newer(a, b *trust.Repository) bool {
	for _, role := range []trust.Role{trust.RoleRoot, trust.RoleTimestamp, trust.RoleSnapshot} {
		if x, y := a.Version(role), b.Version(role); x != y {
			return x > y
		}
	}
	return false
}
