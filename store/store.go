// Package store keeps a repository on the disk: archives by digest, signed metadata as they were received, and
// archives that are still arriving.
//
//	<dir>/lock                         held by the one process that writes
//	<dir>/sha256/<ab>/<digest>         archives ("blobs"), mode 0444
//	<dir>/sha256/<ab>/<digest>.blocks  their block lists
//	<dir>/targets/<digest>.<name>      the same files by the path that TUF clients ask for
//	<dir>/metadata/                    the signed files; see trust.State
//	<dir>/staging/<digest>.part        an archive that is arriving, of full length, its space allocated
//	<dir>/staging/<digest>.map         which blocks of it are verified and on the disk
//	<dir>/quarantine/<digest>          a file that was found damaged
//	<dir>/gc.json                      when GC was last
//	<dir>/scrub.json                   how far Scrub is
//
// Any server of static files can serve <dir> as a TUF repository, and a server can continue with a directory that
// boxsign made.
//
// # Ingest and commit
//
// There is one way in for bytes, whoever brings them: Ingest takes a release that verified metadata list, and its
// blocks. Each block is verified in memory before a byte of it is written, and the digest of the whole before the
// archive gets its name. Commit then makes a repository the current one, once all archives that it needs are in
// place. Its timestamp comes last.
//
// # Invariants
//
// At any instant, whatever was killed or failed before: the served repository is complete, consistent and verified;
// every update that it lists can be read; and each blob's content has the digest that is its name.
//
// The order in which an archive arrives:
//
//	write     <digest>.part          verified blocks, in any order
//	fsync     <digest>.part
//	replace   <digest>.map           only now says that those blocks are there
//	…                                until all are
//	fsync     <digest>.part          with its last mode, 0444; then the whole is verified
//	create    <digest>.blocks
//	rename    <digest>.part <digest> and fsync both directories
//	link      targets/<digest>.<name>, if it is listed already
//	remove    <digest>.map
//
// The order of a commit: make the links, fsync their directories, commit as trust.State.Commit does, serve the new
// repository, and remove the links of archives that are no longer listed.
//
// Files are opened without following a symbolic link, and only regular ones.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// The errors that a caller may branch on.
var (
	// ErrCorrupt says that bytes are not what their digest says.
	ErrCorrupt error = status.Corrupt

	// ErrIncomplete says that archives which a repository lists, or blocks of an archive, are not in
	// place.
	ErrIncomplete error = status.Incomplete

	// ErrReadOnly says that the store was opened for reading only.
	ErrReadOnly = errors.New("store is open for reading only")

	errClosed = fmt.Errorf("store is closed: %w", fs.ErrClosed)
)

// Config says where a store is and how it behaves. Only Dir is required.
type Config struct {
	Dir string

	// Root is the root file that is trusted, for a store whose metadata come from elsewhere. nil means that the
	// oldest root in the directory is trusted.
	Root []byte

	FS     disk.FS
	Logger *slog.Logger     // nil: no log
	Now    func() time.Time // nil: time.Now
	Grace  time.Duration    // how long GC keeps an archive after it was withdrawn; 0: 24 h

	// Superseded is how long snapshots and lists are served after newer ones replaced them; 0: 1 h. A client or a
	// cache that still has the timestamp before asks for them.
	Superseded time.Duration

	Reserve int64 // bytes of the disk that are left free

	// Elsewhere opens the archive with that digest in another place, to which others write, if that has it. As far as
	// known, the file has exactly those bytes. The caller closes it. nil: there is no other place.
	Elsewhere func(update.Digest) (*os.File, bool)

	// Kept returns the releases of a repository whose archives are kept: only these must be in place, and GC removes
	// the others. It must return the same releases for the same repository. nil: all.
	Kept func(*trust.Repository) []trust.Release
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return Config{}, errors.New("store: a directory is needed")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Grace == 0 {
		c.Grace = 24 * time.Hour
	}
	if c.Superseded == 0 {
		c.Superseded = time.Hour
	}
	if c.Kept == nil {
		c.Kept = (*trust.Repository).Releases
	}
	return c, nil
}

// Store is a directory with a repository. Its methods are safe for concurrent use. Readers take no lock: neither a
// commit nor a slow upstream delays them.
type Store struct {
	c       Config
	lock    *disk.Lock // nil: open for reading only
	current atomic.Pointer[view]

	// Locks are taken in this order: partial.mu, committing, mu.
	committing sync.RWMutex // held while names of archives or metadata change; for reading while archives get their names
	state      *trust.State // guarded by committing
	mended     bool         // the metadata files that were damaged were written again; guarded by committing

	dirs       sync.Mutex
	dirsSynced bool // the names of all directories for archives are on the disk; guarded by dirs

	readFromDisk func(f *os.File, b []byte, off int64) error // for Scrub

	hashing sync.Mutex // held while a block list is computed, so that it is computed once

	mu           sync.Mutex
	ingesting    map[update.Digest]*partial
	closed       bool
	collected    time.Time // when GC was last; zero: never
	notCollected time.Time // when GC failed; zero: its last run succeeded
	scrubbed     Scrubbed
	lost         lost // the last result of Lost
}

// view is what the store serves at one time.
type view struct {
	repo    *trust.Repository // nil: none
	problem error             // why repo is nil
	catalog *update.Catalog
	root    *trust.Root
	ledger  *trust.Ledger

	optional map[update.Digest]bool // archives that are listed and not kept
}

// Open opens the directory for this process alone, makes it if it is missing, and cleans up after a crash. The error
// is disk.ErrLocked if another process has it open. For a directory that can't be written to, use OpenReadOnly.
func Open(ctx context.Context, c Config) (*Store, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"", blobDir, targetsDir, stagingDir} {
		if err := c.FS.MkdirAll(filepath.Join(c.Dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	lock, err := disk.TryLock(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s, err := open(c, lock)
	if err == nil {
		err = s.recover(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", err), lock.Unlock())
	}
	return s, nil
}

// readTries is how often a reader tries again after the writer has changed files under it.
const readTries = 5

// OpenReadOnly opens the directory beside the process that writes to it. It changes nothing, and the repository stays
// the one that was current at the time of the call.
func OpenReadOnly(ctx context.Context, c Config) (*Store, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		s, err := open(c, nil)
		if err == nil && (s.Repository() != nil || try == readTries) {
			return s, nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
}

func open(c Config, lock *disk.Lock) (*Store, error) {
	s := &Store{c: c, lock: lock, readFromDisk: readFromDisk, ingesting: map[update.Digest]*partial{}}
	s.scrubbed = readNote[Scrubbed](s, scrubName) // without it, a pass begins again
	s.scrubbed.Block = max(0, s.scrubbed.Block)
	return s, s.load()
}

// load reads the state from the directory and serves its repository.
func (s *Store) load() error {
	state, err := trust.Open(trust.Config{FS: s.c.FS, Dir: s.path(metadataDir), Pinned: s.c.Root, DeferRoots: true,
		Superseded: s.c.Superseded, Now: func() time.Time { return s.c.Now() }}) // tests move the clock
	if err != nil {
		if s.c.Root != nil {
			return err
		}
		if damage := Begun(s.c.Dir); errors.Is(damage, ErrNoRoot) {
			return damage
		}
		return err
	}
	s.mended = false
	return s.serve(state)
}

// serve makes state the state of the store and serves its repository. A repository that is served already stays the
// same pointer.
func (s *Store) serve(state *trust.State) error {
	v := &view{root: state.Root(), ledger: state.Ledger()}
	v.repo, v.problem = state.Current()
	if v.problem != nil && !errors.Is(v.problem, trust.ErrNone) {
		return v.problem
	}
	old := s.current.Load()
	switch {
	case old != nil && sameRepository(old.repo, v.repo):
		v.repo, v.catalog, v.optional = old.repo, old.catalog, old.optional
	case v.repo != nil:
		v.catalog, v.optional = v.repo.Catalog(), s.optional(v.repo)
	default:
		// Boxes must not take a repository that has not arrived for an empty one.
		empty, err := update.NewCatalog(nil, true)
		if err != nil {
			return err
		}
		v.catalog = empty
	}
	s.state = state
	s.current.Store(v)
	return nil
}

// sameRepository reports whether both are nil, or the same repository.
func sameRepository(a, b *trust.Repository) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Raw(trust.RoleTimestamp), b.Raw(trust.RoleTimestamp)) && bytes.Equal(a.Raw(trust.RoleRoot), b.Raw(trust.RoleRoot))
}

// recover completes or undoes what a crash interrupted.
func (s *Store) recover(ctx context.Context) error {
	if err := s.removeTemps(ctx); err != nil {
		return err
	}
	s.collected = readNote[collected](s, collectedName).At // without it GC is due, which is safe: it removes nothing too early
	s.rewriteDamaged()
	repo := s.Repository()
	if repo == nil {
		return nil
	}
	// The last run may have crashed between a commit and its links.
	whole, err := s.link(repo.Releases())
	if err != nil {
		return err
	}
	if !whole {
		if missing := s.Missing(repo); len(missing) > 0 {
			s.c.Logger.Error("archives are missing", "count", len(missing), "first", missing[0].Name().String())
		}
	}
	s.unlink(repo)
	return nil
}

// Close ends every open Ingest, whose blocks are kept, waits for writes that are under way, and releases the
// directory. Nothing is written after it; the current repository can still be read. Closing again does nothing.
func (s *Store) Close() error {
	if s.lock == nil {
		return nil
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	open := slices.Collect(maps.Values(s.ingesting))
	s.mu.Unlock()
	var err error
	for _, p := range open {
		p.mu.Lock()
		// On a full disk it is not noted which blocks came last. They come again, so the end of a server is no failure.
		if lost := p.syncAll(); !errors.Is(lost, disk.ErrNoSpace) {
			err = errors.Join(err, lost)
		}
		err = errors.Join(err, p.closeFile())
		p.mu.Unlock()
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	return errors.Join(err, s.lock.Unlock())
}

// writable returns why nothing may be written, nil if writing is allowed. A caller that changes names holds
// committing, so that Close waits for it.
func (s *Store) writable() error {
	if s.lock == nil {
		return ErrReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return nil
}

// Dir returns the directory.
func (s *Store) Dir() string { return s.c.Dir }

// Repository returns the current repository, nil if there is none yet.
func (s *Store) Repository() *trust.Repository { return s.current.Load().repo }

// Catalog returns the catalog of the current repository: the same pointer until it changes.
func (s *Store) Catalog() *update.Catalog { return s.current.Load().catalog }

// Root returns the newest root that the store trusts.
func (s *Store) Root() *trust.Root { return s.current.Load().root }

// Ledger returns the digests of all names that were ever listed.
func (s *Store) Ledger() *trust.Ledger { return s.current.Load().ledger }

// Refresh looks for a newer repository and compares it with the served one alone; see trust.State.Refresh. Nothing is
// stored before Commit, and nothing waits for a slow Fetcher.
func (s *Store) Refresh(ctx context.Context, f trust.Fetcher, c trust.Clock) (*trust.Repository, error) {
	return s.trusted().Refresh(ctx, f, c)
}

// Verify calls trust.State.Verify. Several calls may run at the same time.
func (s *Store) Verify(ctx context.Context, f trust.Fetcher, c trust.Clock) (trust.Accepted, error) {
	return s.trusted().Verify(ctx, f, c)
}

// trusted returns a copy of the state for reading. Commit and Remember replace what it points to and never change it,
// so the copy stays whole.
func (s *Store) trusted() *trust.State {
	s.committing.Lock()
	defer s.committing.Unlock()
	state := *s.state
	return &state
}

// Remember calls trust.State.Remember. A store that is open for reading only remembers nothing.
func (s *Store) Remember(seen trust.Accepted) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	if s.writable() != nil {
		return nil
	}
	return s.state.Remember(seen)
}
