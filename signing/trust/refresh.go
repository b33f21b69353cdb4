package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
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
// What is accepted on the way counts from then on and is remembered: see Verify and Remember. With Config.DeferRoots
// it is not: the state stays as it is, and new metadata are compared with the served set alone. So such a state
// accepts what a person brings, which may be newer than that set and yet older than what an upstream has shown but
// can't send. After an error nothing else has changed. The errors are ErrExpired, ErrRollback, ErrThreshold,
// ErrMismatch, ErrFork, ErrSecondDigest, ErrMalformed, ErrNotFound and those of the Fetcher.
func (s *State) Refresh(ctx context.Context, f Fetcher, c Clock) (*Repository, error) {
	if s.cfg.DeferRoots {
		whole, err := s.withLostRoots(ctx, f)
		if err != nil {
			return nil, err
		}
		alone := *whole
		alone.trusted = whole.set.acceptedBy(whole.Root())
		got, err := alone.Verify(ctx, f, c)
		return got.Repository, err
	}
	got, err := s.Verify(ctx, f, c)
	if err == nil {
		_ = s.Remember(got) // Commit stores all of it again and reports a disk error
		return got.Repository, nil
	}
	return nil, errors.Join(err, s.Remember(got))
}

// Accepted is what one Verify accepted. Each file counts as soon as it is verified (TUF 1.0, 5.3 to 5.6), whether or
// not the rest can be fetched.
type Accepted struct {
	Repository *Repository // the newest; the current one itself if nothing is new; nil: no whole one

	chain []*Root
	files files
	asked time.Time // when the source said that there is no newer root; zero: it did not
}

// Verify does what Refresh does and stores nothing: it only reads the state. What it accepted counts after Remember.
//
// If a file that the timestamp names is gone, Verify starts once more: newer metadata may have replaced it since.
func (s *State) Verify(ctx context.Context, f Fetcher, c Clock) (Accepted, error) {
	got, err := s.verifyOnce(ctx, f, c)
	if !errors.As(err, new(*gone)) || ctx.Err() != nil {
		return got, err
	}
	again, err := s.verifyOnce(ctx, f, c)
	if err == nil || errors.As(err, new(*gone)) {
		return again, err
	}
	return got, err // what was verified the first time still counts
}

// gone is an ErrNotFound about a file that a timestamp or a snapshot names.
type gone struct{ error }

func (g *gone) Unwrap() error { return g.error }

func (s *State) verifyOnce(ctx context.Context, f Fetcher, c Clock) (Accepted, error) {
	s, err := s.withLostRoots(ctx, f)
	if err != nil {
		return Accepted{}, err
	}
	a := Accepted{chain: s.roots, files: s.trusted}
	raw, err := s.fetchTimestamp(ctx, f)
	if err != nil {
		return a, err
	}
	if s.isCurrent(raw) && s.current.Fresh(c) == nil && !s.rootsDue(c) {
		a.Repository = s.current
		return a, nil
	}
	if a.chain, err = s.walkRoots(ctx, f); err != nil {
		return a, err
	}
	a.asked = c.Now
	set := s.set
	if root := newest(a.chain); len(a.chain) > len(s.roots) {
		a.files, set = s.trusted.acceptedBy(root), set.acceptedBy(root)
		// The timestamp that was fetched may be older than the newest root.
		if raw, err = f.Fetch(ctx, TimestampName, MaxLength(RoleTimestamp), update.Digest{}); err != nil {
			return a, err
		}
	}
	parts, err := a.walk(ctx, f, c, set[RoleTimestamp], raw)
	if err != nil {
		return a, err
	}
	repo := s.current // if nothing is new: sorting a full list again takes long
	if repo == nil || repo.Version(RoleRoot) != newest(a.chain).version || !bytes.Equal(parts[RoleTimestamp].raw, repo.Raw(RoleTimestamp)) {
		if repo, err = assemble(a.chain, parts); err != nil {
			return a, err
		}
	}
	if _, err := s.ledger.underRoots(repo.chain).add(repo.list().releases); err != nil {
		return a, err
	}
	a.files[RoleTargets], a.Repository = repo.list(), repo
	return a, nil
}

// rootsDue reports whether it is time to ask for a newer root. With a clock that is behind signed time nobody can
// tell, so each Verify asks.
func (s *State) rootsDue(c Clock) bool {
	since := c.Now.Sub(s.rootsAsked)
	return since < 0 || since >= rootsEvery || c.reference(s.trusted[RoleTimestamp]).After(c.Now)
}

// isCurrent reports whether raw is the newest accepted timestamp and the current repository has both it and the newest
// root.
func (s *State) isCurrent(raw []byte) bool {
	return s.current != nil && s.current.Version(RoleRoot) == s.Root().version &&
		s.current.files[RoleTimestamp] == s.trusted[RoleTimestamp] && bytes.Equal(raw, s.current.Raw(RoleTimestamp))
}

func (s *State) fetchTimestamp(ctx context.Context, f Fetcher) ([]byte, error) {
	had := s.trusted[RoleTimestamp]
	if had == nil {
		return f.Fetch(ctx, TimestampName, MaxLength(RoleTimestamp), update.Digest{})
	}
	raw, err := f.Fetch(ctx, TimestampName, MaxLength(RoleTimestamp), had.digest())
	if errors.Is(err, ErrUnchanged) {
		return had.raw, nil
	}
	return raw, err
}

// withLostRoots returns s with its damaged roots fetched from f; s itself if none are damaged.
func (s *State) withLostRoots(ctx context.Context, f Fetcher) (*State, error) {
	if s.lostBelow == 0 {
		return s, nil
	}
	chain, err := s.walkRoots(ctx, f)
	whole, lacking := s.openedWith(chain)
	if lacking != nil && err != nil {
		return nil, err // the fetch error is why roots are still lacking
	}
	return whole, lacking // an error after those roots is met again by the caller's own walk
}

// walkRoots returns the known chain of roots with the newer ones that f has (TUF 1.0, 5.3). With an error it returns
// the chain up to that point. Only holders of root keys can make the chain long, so there is no limit.
func (s *State) walkRoots(ctx context.Context, f Fetcher) ([]*Root, error) {
	chain := slices.Clip(s.roots)
	for {
		last := newest(chain)
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

// walk reads a timestamp, and the snapshot and list that it leads to (TUF 1.0, 5.4 to 5.6), under the newest root of
// the chain. It adds timestamp and snapshot to a.files once each is accepted.
//
// set is the timestamp of the stored set; nil: none that counts. If the new one has its version, it is used. Of a
// timestamp that was accepted without its set only the version counts: otherwise a thief who signed one without a set
// could keep the genuine one out.
func (a *Accepted) walk(ctx context.Context, f Fetcher, c Clock, set *file, raw []byte) (files, error) {
	root, had := newest(a.chain), a.files[RoleTimestamp]
	if err := c.judge(root.file, c.reference(had)); err != nil {
		return nil, err
	}
	ts, err := link{role: RoleTimestamp}.open(root, raw)
	if err != nil {
		return nil, err
	}
	if err := a.files.check(ts); err != nil {
		return nil, err
	}
	if set != nil && set.version == ts.version {
		ts = set
	}
	reference := c.reference(had, ts)
	for _, f := range []*file{root.file, ts} {
		if err := c.judge(f, reference); err != nil {
			return nil, err
		}
	}
	a.files = maps.Clone(a.files)
	a.files[RoleTimestamp] = ts
	parts := files{RoleTimestamp: ts}
	for named := ts.names; named.role != ""; {
		next := a.files[named.role]
		if next == nil || linkTo(next) != named {
			if next, err = fetchNamed(ctx, f, root, named); err != nil {
				return nil, err
			}
			if err := a.files.check(next); err != nil {
				return nil, err
			}
		}
		if err := c.judge(next, reference); err != nil {
			return nil, err
		}
		if next.role == RoleSnapshot { // a list counts once its names are compared with the ledger
			a.files[RoleSnapshot] = next
		}
		parts[next.role], named = next, next.names
	}
	return parts, nil
}

func fetchNamed(ctx context.Context, f Fetcher, root *Root, named link) (*file, error) {
	raw, err := f.Fetch(ctx, FileName(named.role, named.version), named.length, update.Digest{})
	if errors.Is(err, ErrNotFound) {
		return nil, &gone{err}
	}
	if err != nil {
		return nil, err
	}
	return named.open(root, raw)
}

// files is a timestamp, a snapshot and a list. As what was accepted before, it guards against older metadata. A file is
// missing if none was accepted, or if a newer root revoked the keys that had signed it. Then its version no longer
// counts: that is how boxes recover from a thief who signed high ones. It is not changed once a State has it.
type files map[Role]*file

// readingOrder returns the roles of files in the order in which they are read; each file names the next one. They are
// written in the opposite order.
func readingOrder() []Role { return []Role{RoleTimestamp, RoleSnapshot, RoleTargets} }

// acceptedBy returns the files of m that a newer root still accepts. Timestamp and snapshot are forgotten together
// (TUF 1.0, 5.3.11).
func (m files) acceptedBy(root *Root) files {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(_ Role, f *file) bool { return root.verify(f) != nil })
	if out[RoleTimestamp] != m[RoleTimestamp] || out[RoleSnapshot] != m[RoleSnapshot] {
		delete(out, RoleTimestamp)
		delete(out, RoleSnapshot)
	}
	return out
}

// withNewer returns the newer one of m and other for each role, and that of m if their versions are equal.
func (m files) withNewer(other files) files {
	out := files{}
	maps.Copy(out, m)
	for role, f := range other {
		if had := out[role]; had == nil || f.version > had.version {
			out[role] = f
		}
	}
	return out
}

// check refuses, with ErrRollback, a file that is older than the accepted one, or that names an older file than was
// accepted or named before (TUF 1.0, 5.4.3 and 5.5.5). Equal versions are accepted, but not, with ErrFork, another
// list. The same list with more signatures is not another list.
func (m files) check(f *file) error {
	had, named := m[f.role], m[f.names.role]
	switch {
	case had != nil && f.version < had.version:
		return rollback(f.name(), had.version)
	case had != nil && f.names.version < had.names.version:
		return rollback(f.name()+" names "+f.names.name(), had.names.version)
	case named != nil && f.names.version < named.version:
		return rollback(f.name()+" names "+f.names.name(), named.version)
	case had != nil && f.role == RoleTargets && f.version == had.version && !bytes.Equal(f.signed, had.signed):
		return fmt.Errorf("%s: %w: another list with this number was accepted before; a release signer must publish one with a higher number", f.name(), ErrFork)
	}
	return nil
}

func rollback(what string, had int64) error {
	return fmt.Errorf("%s: %w: version %d was; ask another mirror, this one is behind or hostile", what, ErrRollback, had)
}
