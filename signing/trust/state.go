package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
)

// Config says where a State is and how it is used.
type Config struct {
	FS  disk.FS
	Dir string

	// Pinned is the root file that is trusted. Stored newer roots must follow from it. nil means that the oldest root
	// in Dir is trusted, because nobody else writes there.
	Pinned []byte

	// DeferRoots is for a Dir that others read while it is in use. Then a new root is stored by Commit, together with
	// the set that fits it; otherwise Refresh stores it at once. Such a Dir also has copies of its files, because
	// there may be nobody to fetch them from again.
	DeferRoots bool

	// Superseded is how long a snapshot or targets file stays in Dir after Commit replaced it, for clients and caches
	// that still have the timestamp before. 0: until the next Commit.
	Superseded time.Duration
	Now        func() time.Time // for Superseded; nil: time.Now

	// RootsAsked is when a source last said that there is no newer root, from State.RootsAsked of an earlier run.
	// With the zero time the first Refresh asks.
	RootsAsked time.Time
}

// State is a directory of verified metadata: what a box, a mirror or a signer trusts, or what an origin publishes.
// Its files are named as FileName says, and the ledger:
//
//	1.root.json 2.root.json …  every root, for ever
//	7.snapshot.json 5.targets.json timestamp.json  the current set; beside it superseded ones, see Prune
//	ledger                     the digest of every name that was accepted, see Ledger
//	9.ledger                   the part of it learned since root 9, if that root replaced the release keys
//	remembered/                what was accepted and is not a whole set yet; see rememberedDir
//
// The timestamp is written last: it says which set is current. A State has one user at a time; the caller locks the
// directory.
type State struct {
	cfg     Config
	roots   []*Root // a chain; the last is the newest that is stored, remembered or, before the first Commit, pinned
	set     files   // the stored set, as far as the newest stored root accepts it
	trusted files   // the newest of all that was accepted
	current *Repository
	problem error // why current is nil
	damage  []error
	ledger  *Ledger

	// lostBelow is the newest stored root if the chain to it is damaged; then nothing else counts. 0: the chain is
	// whole.
	lostBelow int64

	rootsAsked time.Time
}

// Open reads and verifies the state in a directory. A directory that is missing or empty gives a state without a
// current repository if a root is pinned; without a pinned root the error is ErrNotFound. Open writes nothing and
// does not judge expiry.
func Open(cfg Config) (*State, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &State{cfg: cfg, rootsAsked: cfg.RootsAsked}
	if err := s.loadRoots(); err != nil {
		return nil, explain.At(cfg.Dir, err)
	}
	if s.lostBelow > 0 {
		// An older root accepts keys that a newer one revoked, and may refuse the metadata that guard against
		// rollback.
		s.ledger, s.problem = &Ledger{}, errors.Join(s.damage...)
		return s, nil
	}
	if err := s.loadRest(); err != nil {
		return nil, explain.At(cfg.Dir, err)
	}
	return s, nil
}

// loadRest reads everything but the roots, as the newest of them accepts it.
func (s *State) loadRest() error {
	if err := s.loadLedger(); err != nil {
		return err
	}
	if s.problem = s.loadSet(); s.problem == nil {
		s.current, s.problem = assemble(s.roots, s.trusted)
	}
	if s.cfg.DeferRoots && errors.Is(s.problem, ErrThreshold) {
		s.loadOlder()
	}
	s.learn()
	s.set = s.trusted
	s.loadRemembered()
	return nil
}

// loadOlder makes the stored set current under an older root that accepts it. A Commit with several new roots stores
// them first; until its timestamp is stored too, the set before is served. What guards against rollback stays what the
// newest root accepts.
func (s *State) loadOlder() {
	for n := len(s.roots) - 1; n > 0; n-- {
		old := State{cfg: s.cfg, roots: s.roots[:n]}
		if old.loadSet() != nil {
			continue
		}
		if r, err := assemble(old.roots, old.trusted); err == nil {
			s.current, s.problem = r, nil
			return
		}
	}
}

// RootsAsked returns when a source last said that there is no newer root, for Config.RootsAsked.
func (s *State) RootsAsked() time.Time { return s.rootsAsked }

// Root returns the newest trusted root.
func (s *State) Root() *Root { return newest(s.roots) }

func newest(chain []*Root) *Root { return chain[len(chain)-1] }

// Roots returns the trusted roots, the newest last.
func (s *State) Roots() []*Root { return slices.Clone(s.roots) }

// Ledger returns the ledger.
func (s *State) Ledger() *Ledger { return s.ledger }

// Current returns the repository that was committed last. The error is ErrNone if there is none, if a newer root no
// longer accepts it, or if a file is damaged, and says which.
func (s *State) Current() (*Repository, error) {
	if s.current == nil {
		return nil, fmt.Errorf("%s: %w: %w", s.cfg.Dir, ErrNone, s.problem)
	}
	return s.current, nil
}

// readFile reads a regular file of the directory, of at most limit bytes. A file that is longer, or that the disk can't
// read, no longer holds what was written: the error is ErrMalformed.
func (s *State) readFile(name string, limit int64) ([]byte, error) {
	raw, err := disk.ReadFile(s.path(name), limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", filepath.Base(name), ErrNotFound)
	case errors.Is(err, disk.ErrTooLong):
		return nil, fmt.Errorf("%s: %w: more than %d bytes", filepath.Base(name), ErrMalformed, limit)
	case disk.Fault(err):
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return raw, err
}

func (s *State) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// load reads a stored file with open, and its copy if open refuses the file. The error is an *fs.PathError, which
// names the file.
func load[T any](s *State, role Role, version int64, open func(raw []byte) (T, error)) (T, error) {
	name := FileName(role, version)
	path := s.path(name)
	raw, err := s.readFile(name, MaxLength(role))
	if err == nil {
		var v T
		if v, err = open(raw); err == nil {
			return v, nil
		}
	}
	if copied, copyErr := s.readFile(disk.CopyPath(name), MaxLength(role)); copyErr == nil && !bytes.Equal(copied, raw) {
		if v, copyErr := open(copied); copyErr == nil {
			s.damaged(fmt.Errorf("%s: %w; its copy is used", path, err))
			return v, nil
		}
	}
	var none T
	if in := (*fs.PathError)(nil); errors.As(err, &in) && in.Path == path {
		return none, err // it names the file already
	}
	return none, &fs.PathError{Op: "read", Path: path, Err: err}
}

func (s *State) loadRoots() error {
	stored, err := s.versions(RoleRoot)
	if err != nil {
		return err
	}
	first, err := s.firstRoot(stored)
	if err != nil {
		return err
	}
	s.roots = []*Root{first}
	for v := first.version + 1; len(stored) > 0 && v <= stored[len(stored)-1]; v++ {
		if err := s.loadRoot(v); err != nil {
			if s.cfg.Pinned == nil {
				return err
			}
			// Refresh fetches it again; see openedWith.
			s.damaged(fmt.Errorf("%w; it is fetched again", err))
			s.lostBelow = stored[len(stored)-1]
			return nil
		}
	}
	return nil
}

// Roots returns the roots in the directory of a State, each of which follows from the one before. The first is the
// oldest stored one. With an error, Roots returns those before the root that is missing or damaged.
func Roots(dir string) ([]*Root, error) {
	s := &State{cfg: Config{Dir: dir}}
	err := s.loadRoots()
	return s.roots, err
}

// firstRoot returns the pinned root or, if none is pinned, the oldest stored one.
func (s *State) firstRoot(stored []int64) (*Root, error) {
	if s.cfg.Pinned == nil {
		if len(stored) == 0 {
			return nil, fmt.Errorf("%w: no root is there", ErrNotFound)
		}
		return load(s, RoleRoot, stored[0], ParseRoot)
	}
	r, err := ParseRoot(s.cfg.Pinned)
	if err != nil {
		return nil, fmt.Errorf("the given root: %w", err)
	}
	if !slices.Contains(stored, r.version) {
		return r, nil
	}
	there, err := load(s, RoleRoot, r.version, ParseRoot)
	if err != nil {
		s.damaged(fmt.Errorf("%w; the given root is used", err))
		return r, nil
	}
	if string(there.raw) != string(r.raw) {
		return nil, fmt.Errorf("%s: %w: the file there is another than the given root; one of them belongs to another repository", r.name(), ErrFork)
	}
	return r, nil
}

func (s *State) loadRoot(version int64) error {
	next, err := load(s, RoleRoot, version, s.Root().openNext)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: a newer root is there, and without this one nothing links the two", err)
	}
	if err == nil {
		s.roots = append(s.roots, next)
	}
	return err
}

// versions lists the stored versions of a role, ascending. A root counts as stored if only its copy is left:
// otherwise the root before would be taken for the newest, and another one be made in its place. A missing directory
// has none.
func (s *State) versions(role Role) ([]int64, error) {
	names, err := os.ReadDir(s.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []int64
	for _, e := range names {
		name := e.Name()
		if role == RoleRoot {
			name = strings.TrimSuffix(name, disk.CopyPath(""))
		}
		if r, v, ok := ParseFileName(name); ok && r == role {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// loadSet makes the files of the stored set that the newest root accepts the trusted ones. The error says why they are
// not a whole set.
func (s *State) loadSet() (err error) {
	root, named := s.Root(), link{role: RoleTimestamp}
	s.trusted = files{}
	for named.role != "" && err == nil {
		var f *file
		f, err = load(s, named.role, named.version, func(raw []byte) (*file, error) { return named.open(root, raw) })
		if err == nil {
			s.trusted[f.role], named = f, f.names
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrThreshold) && named.role == RoleSnapshot {
		delete(s.trusted, RoleTimestamp) // the two are forgotten together
	}
	// The newest stored list that the newest root accepts still guards against rollback when the timestamp that led
	// to it is forgotten.
	stored, listErr := s.versions(RoleTargets)
	if listErr != nil {
		return err // then nothing else could be read either
	}
	for _, v := range slices.Backward(stored) {
		raw, readErr := s.readFile(FileName(RoleTargets, v), MaxLength(RoleTargets))
		if readErr != nil {
			continue
		}
		if list, openErr := (link{role: RoleTargets}).open(root, raw); openErr == nil && list.version == v {
			s.trusted[RoleTargets] = list
			break
		}
	}
	return err
}
