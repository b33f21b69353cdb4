package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Verifier verifies what an upstream has against what is trusted: a trust.State, or a store.Store.
type Verifier interface {
	// Look is that of trust.State. Several are under way at once, none beside Remember.
	Look(ctx context.Context, f trust.Fetcher, c trust.Clock) (trust.Seen, error)

	// Remember is that of trust.State.
	Remember(trust.Seen) error
}

// Search says how the newest repository is looked for. Trusted is required.
type Search struct {
	Trusted Verifier
	Clock   trust.Clock

	// Enough, if not nil, reports whether the first repository that is accepted makes it needless to ask
	// the other upstreams.
	Enough func(*trust.Repository) bool

	// Looked, if not nil, is told what each upstream that was asked showed: a repository that is accepted,
	// or an error. It is called by one goroutine at a time.
	Looked func(*Upstream, *trust.Repository, error)
}

// Newest returns the newest repository of all upstreams, verified; the current one where none has a newer
// one. It is not stored. What was accepted on the way is remembered. An upstream that turns out to be behind
// is asked last from then on, and one that sent what no honest upstream has is set aside, where there are
// others.
//
// The first answer is waited for as Ask does, except that while an upstream is silent the next one is asked
// beside it. The other upstreams are asked once, all together, and what goes wrong there is no error. Where
// none has a repository that is accepted, the error is that of each upstream.
func (c *Client) Newest(ctx context.Context, s Search) (*trust.Repository, error) {
	r := round{client: c, Search: s, found: map[*Upstream]*trust.Repository{}, tried: map[*Upstream]bool{}}
	err := c.inquire(ctx, c.overdue, r.look)
	if err == nil && (s.Enough == nil || !s.Enough(r.newest)) {
		r.askOthers(ctx)
		err = ctx.Err()
	}
	for _, seen := range r.seen {
		rememberErr := s.Trusted.Remember(seen)
		if err != nil {
			err = errors.Join(err, rememberErr)
		} else if rememberErr != nil { // what is stored next says more
			c.c.Logger.Warn("not remembered", "err", oneLine(rememberErr))
		}
	}
	if err != nil {
		return nil, err
	}
	for u, repo := range r.found {
		u.SetBehind(newer(r.newest, repo))
	}
	return r.newest, nil
}

// round is one call of Newest.
type round struct {
	client *Client
	Search

	mu     sync.Mutex
	seen   []trust.Seen // to be remembered once no Look is under way
	found  map[*Upstream]*trust.Repository
	tried  map[*Upstream]bool
	newest *trust.Repository
}

// askOthers asks the upstreams that were not asked yet. One that is silent is not waited for.
func (r *round) askOthers(ctx context.Context) {
	var all sync.WaitGroup
	for _, u := range r.client.upstreams {
		r.mu.Lock()
		tried := r.tried[u]
		r.mu.Unlock()
		if tried || !u.State().Until.IsZero() {
			continue
		}
		all.Go(func() {
			if err := r.client.unlessSilent(ctx, u, r.look); err != nil && !ended(ctx) {
				r.client.c.Logger.Warn("upstream refused", "upstream", u.String(), "err", oneLine(err))
			}
		})
	}
	all.Wait()
}

// look asks one upstream for its repository. Files that another upstream showed already are not fetched again.
func (r *round) look(ctx context.Context, u *Upstream) error {
	r.mu.Lock()
	newest := r.newest
	r.mu.Unlock()
	seen, err := r.Trusted.Look(ctx, atHand{u, newest}, r.Clock)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, seen)
	if err != nil && ended(ctx) {
		return err
	}
	r.tried[u] = true
	if repo := seen.Repository; err == nil {
		u.SetBehind(false)
		r.found[u] = repo
		if r.newest == nil || newer(repo, r.newest) {
			r.newest = repo
		}
	} else {
		err = r.client.judge(u, err)
	}
	if r.Looked != nil {
		r.Looked(u, seen.Repository, err)
	}
	return err
}

// judge draws the consequences from why metadata of an upstream are not accepted, and returns the error
// with the name of the upstream.
func (c *Client) judge(u *Upstream, err error) error {
	u.SetBehind(errors.Is(err, trust.ErrRollback) || errors.Is(err, trust.ErrExpired))
	told := FromUpstream(err)
	if !told && !errors.Is(err, trust.ErrNotFound) { // which names the URL
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
