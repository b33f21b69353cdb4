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

// rootsEvery is after which time a newer root is looked for although the timestamp is the same: a root may
// be published alone, to take a stolen key away.
const rootsEvery = 24 * time.Hour

// Fetcher brings metadata files from somewhere that nobody has to trust.
type Fetcher interface {
	// Fetch returns the file of that name, which FileName made. It reads no more than limit bytes and
	// is free to return an error where there are more. A source that doesn't have the file gives
	// ErrNotFound. known, unless it is zero, is the digest of the file that the caller has: where the
	// source has the same, ErrUnchanged may be returned instead. An error says where the file was asked for.
	Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error)
}

// IsNotFound reports whether a server that answers a request for a metadata file with that HTTP status doesn't
// have it. Object stores answer 403 where there is no such file, and some caches 410: for the root after the
// newest, which every client asks for, that is the end of the chain. It is no more than who serves could
// say with 404.
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

// Refresh brings the state up to date, as the client workflow of TUF 1.0 (section 5) says, and returns
// the newest repository: the current one itself where there is nothing new, which costs one fetch, and once
// a day another one for the root that would follow. Another one is not stored until Commit; a mirror gets
// the archives that it lists in between.
//
// What is accepted on the way counts from then on, and is remembered: see Look and Remember. A state that is
// served stays as it is, and judges by the set that is served alone: so it is for what a person brings, which
// may be newer than that set and older than what an upstream showed and can't send. After an error nothing
// else has changed. The errors are ErrExpired, ErrRollback, ErrThreshold, ErrMismatch, ErrFork,
// ErrSecondDigest, ErrMalformed, ErrNotFound and those of the Fetcher.
//
// Where a file is gone that the timestamp names, Refresh begins once more: newer ones may have replaced it since.
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
		_ = s.Remember(seen) // Commit stores it all once more, and tells of a disk that takes nothing
		return seen.Repository, nil
	}
	return nil, errors.Join(err, s.Remember(seen))
}

// Look is Refresh without what is remembered of it. It only reads the state.
func (s *State) Look(ctx context.Context, f Fetcher, c Clock) (Seen, error) {
	seen, err := s.look(ctx, f, c)
	if !errors.As(err, new(*gone)) || ctx.Err() != nil {
		return seen, err
	}
	again, err := s.look(ctx, f, c)
	if err == nil || errors.As(err, new(*gone)) {
		return again, err
	}
	return seen, err // what was verified the first time counts
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
		// The one in hand may be older than the newest root.
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

// rootsDue reports whether it is time to ask for a newer root. A clock that is behind signed time can't tell: then
// each Look asks.
func (s *State) rootsDue(c Clock) bool {
	since := c.Now.Sub(s.rootsAsked)
	return since < 0 || since >= rootsEvery || c.reference(s.memory.timestamp).After(c.Now)
}

// complete reports whether raw is the newest timestamp that was accepted, and the current repository has it
// and the newest root.
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

// restored returns s as it is once the damaged roots are back; s itself where none are damaged.
func (s *State) restored(ctx context.Context, f Fetcher) (*State, error) {
	if s.floor == 0 {
		return s, nil
	}
	chain, err := s.walkRoots(ctx, f)
	whole, lacking := s.whole(chain)
	if lacking != nil && err != nil {
		return nil, err // that is why
	}
	return whole, lacking // what is wrong beyond is met again
}

// walkRoots returns the chain of roots, those that f has beyond the known ones included; after an error
// those up to it. Nobody but the holders of root keys can make it long.
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

// refresh is one run of the workflow below the root. What it accepts gets into memory, the list excepted.
type refresh struct {
	f      Fetcher
	clock  Clock
	chain  []*Root
	root   *Root
	memory memory
	set    *online // that of the current set, nil for none that counts

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
		return c, nil // there is nothing new, and a full list takes long to put in order again
	}
	return assemble(r.chain, ts, sn, tg)
}

// timestamp keeps the one of the current set where the version is the same. Of one that was accepted alone
// the number counts, and no more: whoever made its set impossible must not keep the genuine one out.
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
