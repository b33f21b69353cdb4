package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// rootsEvery is how often a newer root is looked for while the timestamp stays the same: a root may be published
// alone, to revoke a stolen key.
const rootsEvery = 24 * time.Hour

// Fetcher fetches metadata files from a source that need not be trusted.
type Fetcher interface {
	// Fetch returns the file with that name, which FileName made. It reads no more than limit bytes and may return an
	// error if there are more. The error is ErrNotFound if the source doesn't have the file. known, unless it is
	// zero, is the digest of the file that the caller has: if the source has the same, Fetch may return ErrUnchanged
	// instead. An error says where the file was asked for.
	Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error)
}

// IsNotFound reports whether that HTTP status, as the answer to a request for a metadata file, means that the server
// doesn't have it. For a root, 403 and 410 mean that too: object stores answer 403 if there is no such file, and some
// caches 410, and every client asks for the root after the newest to find the end of the chain. Accepting them gives
// a hostile server no more than it could say with 404.
func IsNotFound(name string, status int) bool {
	role, _, ok := ParseFileName(name)
	switch status {
	case http.StatusNotFound:
		return true
	case http.StatusForbidden, http.StatusGone:
		return ok && role == RoleRoot
	}
	return false
}

// Refresh brings the state up to date, as the client workflow of TUF 1.0 (section 5) says, and returns the newest
// repository. If nothing is new that is the current one itself; this costs one fetch, and once a day another one for
// the root that would follow. A new repository is not stored until Commit; a mirror fetches the archives that it
// lists in between.
//
// What is accepted on the way counts from then on and is remembered: see Look and Remember. With Config.DeferRoots it
// is not: the state stays as it is, and new metadata are compared with the served set alone. So such a state takes
// what a person brings, which may be newer than that set and yet older than what an upstream has shown but can't
// send. After an error nothing else has changed. The errors are ErrExpired, ErrRollback, ErrThreshold, ErrMismatch,
// ErrFork, ErrSecondDigest, ErrMalformed, ErrNotFound and those of the Fetcher.
//
// If a file that the timestamp names is gone, Refresh starts once more: newer metadata may have replaced it since.
func (s *State) Refresh(ctx context.Context, f Fetcher, c Clock) (*Repository, error) {
	if s.cfg.DeferRoots {
		whole, err := s.restored(ctx, f)
		if err != nil {
			return nil, err
		}
		alone := *whole
		alone.memory = whole.set.stillValid(whole.Root())
		seen, err := alone.Look(ctx, f, c)
		return seen.Repository, err
	}
	seen, err := s.Look(ctx, f, c)
	if err == nil {
		_ = s.Remember(seen) // Commit stores all of it again and reports a disk error
		return seen.Repository, nil
	}
	return nil, errors.Join(err, s.Remember(seen))
}

// Look does what Refresh does and remembers nothing: it only reads the state.
func (s *State) Look(ctx context.Context, f Fetcher, c Clock) (Seen, error) {
	seen, err := s.look(ctx, f, c)
	if !errors.As(err, new(*gone)) || ctx.Err() != nil {
		return seen, err
	}
	again, err := s.look(ctx, f, c)
	if err == nil || errors.As(err, new(*gone)) {
		return again, err
	}
	return seen, err // what was verified the first time still counts
}

// gone is an ErrNotFound about a file that a timestamp or a snapshot names.
type gone struct{ error }

func (g *gone) Unwrap() error { return g.error }

func (s *State) look(ctx context.Context, f Fetcher, c Clock) (Seen, error) {
	s, err := s.restored(ctx, f)
	if err != nil {
		return Seen{}, err
	}
	seen := Seen{chain: s.roots, memory: s.memory}
	raw, err := s.fetchTimestamp(ctx, f)
	if err != nil {
		return seen, err
	}
	if s.complete(raw) && s.current.Fresh(c) == nil && !s.rootsDue(c) {
		seen.Repository = s.current
		return seen, nil
	}
	if seen.chain, err = s.walkRoots(ctx, f); err != nil {
		return seen, err
	}
	seen.asked = c.Now
	r := refresh{f: f, clock: c, chain: seen.chain, root: seen.chain[len(seen.chain)-1], memory: s.memory, set: s.set.timestamp, current: s.current}
	if len(seen.chain) > len(s.roots) {
		r.memory, r.set = s.memory.stillValid(r.root), s.set.stillValid(r.root).timestamp
		seen.memory = r.memory
		// The timestamp that was fetched may be older than the newest root.
		if raw, err = f.Fetch(ctx, TimestampName, MaxLength(RoleTimestamp), update.Digest{}); err != nil {
			return seen, err
		}
	}
	repo, err := r.run(ctx, raw)
	seen.memory = r.memory
	if err != nil {
		return seen, err
	}
	if _, err := s.ledger.under(repo.chain).with(repo.targets.releases); err != nil {
		return seen, err
	}
	seen.memory.targets, seen.Repository = repo.targets, repo
	return seen, nil
}

// rootsDue reports whether it is time to ask for a newer root. With a clock that is behind signed time nobody can
// tell, so each Look asks.
func (s *State) rootsDue(c Clock) bool {
	since := c.Now.Sub(s.rootsAsked)
	return since < 0 || since >= rootsEvery || c.reference(s.memory.timestamp).After(c.Now)
}

// complete reports whether raw is the newest accepted timestamp and the current repository has both it and the newest
// root.
func (s *State) complete(raw []byte) bool {
	return s.current != nil && s.current.root.version == s.Root().version && s.current.timestamp == s.memory.timestamp &&
		bytes.Equal(raw, s.current.timestamp.raw)
}

func (s *State) fetchTimestamp(ctx context.Context, f Fetcher) ([]byte, error) {
	var known update.Digest
	had := s.memory.timestamp
	if had != nil {
		known = had.digest()
	}
	raw, err := f.Fetch(ctx, TimestampName, MaxLength(RoleTimestamp), known)
	if had != nil && errors.Is(err, ErrUnchanged) {
		return had.raw, nil
	}
	if err != nil {
		return nil, err
	}
	return raw, nil
}

// restored returns s with its damaged roots fetched from f; s itself if none are damaged.
func (s *State) restored(ctx context.Context, f Fetcher) (*State, error) {
	if s.floor == 0 {
		return s, nil
	}
	chain, err := s.walkRoots(ctx, f)
	whole, lacking := s.whole(chain)
	if lacking != nil && err != nil {
		return nil, err // the fetch error is why roots are still lacking
	}
	return whole, lacking // an error after those roots is met again by the caller's own walk
}

// walkRoots returns the known chain of roots with the newer ones that f has. With an error it returns the chain up to
// that point. Only holders of root keys can make the chain long, so there is no limit.
func (s *State) walkRoots(ctx context.Context, f Fetcher) ([]*Root, error) {
	chain := s.roots[:len(s.roots):len(s.roots)]
	for {
		last := chain[len(chain)-1]
		name := FileName(RoleRoot, last.version+1)
		raw, err := f.Fetch(ctx, name, MaxLength(RoleRoot), update.Digest{})
		if errors.Is(err, ErrNotFound) {
			return chain, nil
		}
		if err != nil {
			return chain, err
		}
		next, err := last.openNext(raw)
		if err != nil {
			return chain, fmt.Errorf("%s: %w", name, err)
		}
		chain = append(chain, next)
	}
}

// refresh is one run of the workflow after the roots. Accepted parts are kept in memory, except the list.
type refresh struct {
	f      Fetcher
	clock  Clock
	chain  []*Root
	root   *Root
	memory memory
	set    *online // the timestamp of the current set; nil: none that counts

	current *Repository
}

func (r *refresh) run(ctx context.Context, raw []byte) (*Repository, error) {
	had := r.memory.timestamp
	if err := r.clock.judge(r.root.file, r.clock.reference(had)); err != nil {
		return nil, err
	}
	ts, err := r.timestamp(raw)
	if err != nil {
		return nil, err
	}
	reference := r.clock.reference(had, ts)
	if err := r.clock.judge(r.root.file, reference); err != nil {
		return nil, err
	}
	if err := r.clock.judge(ts.file, reference); err != nil {
		return nil, err
	}
	r.memory.timestamp = ts
	sn, err := r.snapshot(ctx, ts.next)
	if err != nil {
		return nil, err
	}
	if err := r.clock.judge(sn.file, reference); err != nil {
		return nil, err
	}
	r.memory.snapshot = sn
	tg, err := r.targets(ctx, sn.next)
	if err != nil {
		return nil, err
	}
	if err := r.clock.judge(tg.file, reference); err != nil {
		return nil, err
	}
	if c := r.current; c != nil && c.root.version == r.root.version && bytes.Equal(ts.raw, c.timestamp.raw) {
		return c, nil // nothing is new, and sorting a full list again takes long
	}
	return assemble(r.chain, ts, sn, tg)
}

// timestamp reads the new timestamp and checks it against memory. If its version is that of the current set, it
// returns the stored one. Of a timestamp that was accepted without its set only the version counts: otherwise a thief
// who signed one without a set could keep the genuine one out.
func (r *refresh) timestamp(raw []byte) (*online, error) {
	ts, err := openOnline(r.root, RoleTimestamp, raw)
	if err != nil {
		return nil, err
	}
	if err := r.memory.checkTimestamp(ts); err != nil {
		return nil, err
	}
	if r.set != nil && r.set.version == ts.version {
		return r.set, nil
	}
	return ts, nil
}

func (r *refresh) snapshot(ctx context.Context, named link) (*online, error) {
	if had := r.memory.snapshot; had != nil && linkTo(had.file) == named {
		return had, nil
	}
	raw, err := r.fetch(ctx, named)
	if err != nil {
		return nil, err
	}
	sn, err := openSnapshot(r.root, named, raw)
	if err != nil {
		return nil, err
	}
	return sn, r.memory.checkSnapshot(sn)
}

func (r *refresh) targets(ctx context.Context, named link) (*targets, error) {
	if had := r.memory.targets; had != nil && linkTo(had.file) == named {
		return had, nil
	}
	raw, err := r.fetch(ctx, named)
	if err != nil {
		return nil, err
	}
	tg, err := openTargets(r.root, named, raw)
	if err != nil {
		return nil, err
	}
	return tg, r.memory.checkTargets(tg)
}

func (r *refresh) fetch(ctx context.Context, named link) ([]byte, error) {
	name := FileName(named.role, named.version)
	raw, err := r.f.Fetch(ctx, name, named.length, update.Digest{})
	if errors.Is(err, ErrNotFound) {
		return nil, &gone{err}
	}
	if err != nil {
		return nil, err
	}
	return raw, nil
}
