package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/openpowerquality/box-update-server/update"
)

// maxRootSteps bounds how many new roots one Refresh follows.
const maxRootSteps = 256

// Fetcher brings metadata files from somewhere that nobody has to trust.
type Fetcher interface {
	// Fetch returns the file of that name, which FileName made. It reads no more than limit bytes and
	// is free to return an error where there are more. A source that doesn't have the file gives
	// ErrNotFound. known, unless it is zero, is the digest of the file that the caller has: where the
	// source has the same, ErrUnchanged may be returned instead.
	Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error)
}

// Refresh brings the state up to date, as the client workflow of TUF 1.0 (section 5) says, and returns
// the newest repository: the current one itself where there is nothing new, which costs one fetch.
// Another one is not stored until Commit; a mirror gets the archives that it lists in between.
//
// New roots are stored as they are accepted, unless the state is served. After an error nothing else
// has changed. The errors are ErrExpired, ErrRollback, ErrThreshold, ErrMismatch, ErrFork,
// ErrSecondDigest, ErrMalformed, ErrNotFound and those of the Fetcher.
func (s *State) Refresh(ctx context.Context, f Fetcher, c Clock) (*Repository, error) {
	raw, err := s.fetchTimestamp(ctx, f)
	if err != nil {
		return nil, err
	}
	// Every root is followed by a new timestamp, unless whoever publishes was cut between the two: so roots
	// are asked for at least once.
	if s.asked && s.current != nil && bytes.Equal(raw, s.current.timestamp.raw) && s.current.Fresh(c) == nil {
		return s.current, nil
	}
	chain, err := s.walkRoots(ctx, f)
	if err != nil {
		return nil, err
	}
	s.asked = true
	r := refresh{f: f, clock: c, chain: chain, root: chain[len(chain)-1], memory: s.memory}
	advanced := len(chain) > len(s.roots)
	if advanced {
		if r.memory, err = s.adopt(chain); err != nil {
			return nil, err
		}
		// The one in hand may be older than the newest root.
		if raw, err = f.Fetch(ctx, TimestampName, MaxLength(RoleTimestamp), update.Digest{}); err != nil {
			return nil, fmt.Errorf("%s: %w", TimestampName, err)
		}
	}
	repo, err := r.run(ctx, raw)
	if err != nil {
		return nil, err
	}
	if _, err := s.ledger.with(repo.targets.releases); err != nil {
		return nil, err
	}
	if s.current != nil && !advanced && bytes.Equal(repo.timestamp.raw, s.current.timestamp.raw) {
		return s.current, nil
	}
	return repo, nil
}

func (s *State) fetchTimestamp(ctx context.Context, f Fetcher) ([]byte, error) {
	var known update.Digest
	if s.current != nil {
		known = s.current.timestamp.digest()
	}
	raw, err := f.Fetch(ctx, TimestampName, MaxLength(RoleTimestamp), known)
	if s.current != nil && errors.Is(err, ErrUnchanged) {
		return s.current.timestamp.raw, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", TimestampName, err)
	}
	return raw, nil
}

// walkRoots returns the chain of roots, those that f has beyond the stored ones included.
func (s *State) walkRoots(ctx context.Context, f Fetcher) ([]*Root, error) {
	chain := s.roots[:len(s.roots):len(s.roots)]
	for range maxRootSteps {
		last := chain[len(chain)-1]
		name := FileName(RoleRoot, last.version+1)
		raw, err := f.Fetch(ctx, name, MaxLength(RoleRoot), update.Digest{})
		if errors.Is(err, ErrNotFound) {
			return chain, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		next, err := parseRoot(last, raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := verifyRootChain(last, next); err != nil {
			return nil, err
		}
		chain = append(chain, next)
	}
	return chain, nil // the rest is found next time
}

// adopt stores the new roots of a chain, unless the state is served, and returns what the newest of
// them still accepts of what was accepted before.
func (s *State) adopt(chain []*Root) (memory, error) {
	m := s.memory.under(chain[len(chain)-1])
	if s.cfg.Served {
		return m, nil
	}
	if err := s.storeRoots(chain); err != nil {
		return memory{}, err
	}
	s.memory = m
	if s.current != nil && (m.timestamp == nil || m.targets == nil) {
		s.current, s.problem = nil, fmt.Errorf("%s: %w: it no longer accepts what was current", s.Root().name(), ErrThreshold)
	}
	return m, nil
}

// refresh is one run of the workflow below the root.
type refresh struct {
	f      Fetcher
	clock  Clock
	chain  []*Root
	root   *Root
	memory memory
}

func (r *refresh) run(ctx context.Context, raw []byte) (*Repository, error) {
	had := r.memory.timestamp
	if err := r.clock.judge(r.root.name(), RoleRoot, r.root.expires, r.clock.reference(had)); err != nil {
		return nil, err
	}
	ts, err := r.timestamp(raw)
	if err != nil {
		return nil, err
	}
	reference := r.clock.reference(had, ts)
	if err := r.clock.judge(r.root.name(), RoleRoot, r.root.expires, reference); err != nil {
		return nil, err
	}
	if err := r.clock.judge(ts.name(), RoleTimestamp, ts.expires, reference); err != nil {
		return nil, err
	}
	sn, err := r.snapshot(ctx, ts.next)
	if err != nil {
		return nil, err
	}
	if err := r.clock.judge(sn.name(), RoleSnapshot, sn.expires, reference); err != nil {
		return nil, err
	}
	tg, err := r.targets(ctx, sn.next)
	if err != nil {
		return nil, err
	}
	if err := r.clock.judge(tg.name(), RoleTargets, tg.expires, reference); err != nil {
		return nil, err
	}
	return assemble(r.chain, ts, sn, tg)
}

// timestamp keeps the accepted one where the version is the same.
func (r *refresh) timestamp(raw []byte) (*timestamp, error) {
	ts, err := verifyTimestamp(r.root, raw)
	if err != nil {
		return nil, err
	}
	if err := r.memory.checkTimestamp(ts); err != nil {
		return nil, err
	}
	if had := r.memory.timestamp; had != nil && had.version == ts.version {
		return had, nil
	}
	return ts, nil
}

func (r *refresh) snapshot(ctx context.Context, named link) (*snapshot, error) {
	if had := r.memory.snapshot; had != nil && linkTo(had.file) == named {
		return had, nil
	}
	raw, err := r.fetch(ctx, named)
	if err != nil {
		return nil, err
	}
	sn, err := verifySnapshot(r.root, named, raw)
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
	tg, err := verifyTargets(r.root, named, raw)
	if err != nil {
		return nil, err
	}
	return tg, r.memory.checkTargets(tg)
}

func (r *refresh) fetch(ctx context.Context, named link) ([]byte, error) {
	name := FileName(named.role, named.version)
	raw, err := r.f.Fetch(ctx, name, named.length, update.Digest{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return raw, nil
}
