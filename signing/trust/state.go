package trust

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
)

// Config says where a State lies.
type Config struct {
	FS  disk.FS
	Dir string

	// Pinned is the root file from which trust comes. Where newer roots are stored, they must follow
	// from it. nil means that the oldest root in Dir is trusted, because nobody else writes there.
	Pinned []byte

	// DeferRoots is for a Dir that others read while it is in use. A root that Refresh finds then gets its
	// place together with the set that fits it, by Commit; otherwise Refresh puts it there at once. Such a Dir
	// also has copies of its files: nobody may be there to fetch them from again.
	DeferRoots bool

	// Superseded is how long a snapshot or targets file stays in Dir after Commit replaced it by a newer one,
	// for clients and caches that have the timestamp of before. 0: until the next Commit.
	Superseded time.Duration
	Now        func() time.Time // for Superseded; nil: time.Now

	// RootsAsked is when a source last said that there is no newer root, as State.RootsAsked told before.
	// The zero time has the first Refresh ask.
	RootsAsked time.Time
}

// State is a directory of metadata that was verified: what a box, a mirror or a signer trusts, or what
// an origin publishes. Its files are named as FileName says, and the ledger:
//
//	1.root.json 2.root.json …  every root, for ever
//	7.snapshot.json 5.targets.json timestamp.json  the set accepted last; beside it those before, see Prune
//	ledger                     the digest of every name that was accepted, see Ledger
//	9.ledger                   what of it was learned since root 9, which replaced the release keys; else there is none
//	remembered/                what was accepted and is no whole set yet; see rememberedDir
//
// The timestamp is written last: it says which set counts. A State has one user at a time; the caller
// locks the directory.
type State struct {
	cfg     Config
	roots   []*Root // a chain; the last is the newest that is stored, remembered or, before the first Commit, pinned
	set     memory  // the stored set, as far as the newest stored root accepts it
	memory  memory  // the newest of all that was accepted
	current *Repository
	problem error // why current is nil
	damage  []error
	floor   int64 // the newest root that was there, where the chain to it is damaged, so that nothing else counts; 0: it is whole
	ledger  *Ledger

	rootsAsked time.Time
}

// Open reads and verifies the state in a directory. One that is missing or empty is a state without a
// current repository, provided that a root is pinned; without a root the error is ErrNotFound. Nothing
// is written, and expiry is not judged.
func Open(cfg Config) (*State, error) {
	s := &State{cfg: cfg, rootsAsked: cfg.RootsAsked}
	if err := s.loadRoots(); err != nil {
		return nil, explain.At(cfg.Dir, err)
	}
	if s.floor > 0 {
		// An older root accepts what a newer one took back, and does not accept what guards against going back.
		s.ledger, s.problem = &Ledger{}, errors.Join(s.damage...)
		return s, nil
	}
	if err := s.loadRest(); err != nil {
		return nil, explain.At(cfg.Dir, err)
	}
	return s, nil
}

// loadRest reads what the roots vouch for.
func (s *State) loadRest() error {
	if err := s.loadLedger(); err != nil {
		return err
	}
	s.problem = s.loadSet()
	if s.problem == nil {
		s.current, s.problem = assemble(s.roots, s.memory.timestamp, s.memory.snapshot, s.memory.targets)
	}
	if s.cfg.DeferRoots && errors.Is(s.problem, ErrThreshold) {
		s.loadOlder()
	}
	s.learn()
	s.set = s.memory
	s.recall()
	return nil
}

// loadOlder makes current the stored set under an older root that accepts it. A Commit that follows several
// new roots at once stores them first: until its timestamp is stored too, the set before is what is
// served. What guards against going back stays as the newest root has it.
func (s *State) loadOlder() {
	for n := len(s.roots) - 1; n > 0; n-- {
		old := State{cfg: s.cfg, roots: s.roots[:n]}
		if old.loadSet() != nil {
			continue
		}
		m := old.memory
		if r, err := assemble(old.roots, m.timestamp, m.snapshot, m.targets); err == nil {
			s.current, s.problem = r, nil
			return
		}
	}
}

// RootsAsked returns when a source last said that there is no newer root, for Config.RootsAsked.
func (s *State) RootsAsked() time.Time { return s.rootsAsked }

// Root returns the newest trusted root.
func (s *State) Root() *Root { return s.roots[len(s.roots)-1] }

// Roots returns the trusted roots, the newest last.
func (s *State) Roots() []*Root { return slices.Clone(s.roots) }

// Ledger returns the ledger.
func (s *State) Ledger() *Ledger { return s.ledger }

// Current returns the repository that was committed last. Where there is none, or where a newer root
// no longer accepts it, or a file is damaged, the error is ErrNone and says which.
func (s *State) Current() (*Repository, error) {
	if s.current == nil {
		return nil, fmt.Errorf("%s: %w: %w", s.cfg.Dir, ErrNone, s.problem)
	}
	return s.current, nil
}
