// Package store keeps a repository on the disk: archives by digest, signed metadata as it was received,
// and what is on its way in.
//
//	<dir>/lock                         held by the one process that writes
//	<dir>/sha256/<ab>/<digest>         archives ("blobs"), mode 0444
//	<dir>/sha256/<ab>/<digest>.blocks  their block lists
//	<dir>/targets/<digest>.<name>      the same files by the path that TUF clients ask for
//	<dir>/metadata/                    the signed files; see trust.State
//	<dir>/staging/                     parts of archives, with a map of the blocks that are verified
//	<dir>/quarantine/                  files that were found damaged
//
// Any server of static files that is put in front of <dir> is a TUF repository; and a directory that
// boxsign made is one that a server can go on with.
//
// # The one door
//
// Bytes enter in one way only, whoever brings them: Ingest takes a release that verified metadata
// lists, and blocks. Each block is verified in memory before a byte of it reaches the disk, the digest
// of the whole before the archive gets its name. Commit then makes a repository the current one, once
// all that it lists is in place, its timestamp last.
//
// # What holds
//
// At any instant, whatever was killed or failed before: what is served is one complete, consistent,
// verified repository; every update that it lists can be read; and no blob's content differs from
// its name.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// The errors that a caller may branch on.
var (
	// ErrCorrupt says that bytes are not what their digest says.
	ErrCorrupt = errors.New("corrupt")

	// ErrNoSpace says that there is too little room on the disk.
	ErrNoSpace = errors.New("no space left")

	// ErrIncomplete says that archives which a repository lists are not in place.
	ErrIncomplete = errors.New("archives are missing")

	// ErrReadOnly says that the store was opened for reading only.
	ErrReadOnly = errors.New("store is open for reading only")
)

// Config says where a store lies. Only Dir is required.
type Config struct {
	Dir string

	// Root is the root file from which trust comes, for a store whose metadata come from elsewhere.
	// nil means that the oldest root in the directory is trusted.
	Root []byte

	FS      durable.FS
	Logger  *slog.Logger     // nil: no log
	Now     func() time.Time // nil: time.Now
	Grace   time.Duration    // how long GC keeps an archive after it was withdrawn; 0: 24 h
	Reserve int64            // bytes of the disk that are left free

	// Elsewhere are further places where archives may lie.
	Elsewhere []Place
}

// Place is a source of archives that somebody else writes to.
type Place interface {
	// OpenDigest opens the archive with that digest, if the place has it. The file holds exactly
	// the bytes of the digest, as far as is known.
	OpenDigest(d update.Digest) (*os.File, bool)
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
	return c, nil
}

// Store is a directory with a repository. Its methods are safe for concurrent use.
type Store struct {
	c       Config
	lock    *durable.Lock // nil: for reading only
	current atomic.Pointer[view]

	committing sync.Mutex // held while metadata change
	state      *trust.State

	mu        sync.Mutex
	ingesting map[update.Digest]*arrival
}

// view is the repository that is served.
type view struct {
	repo    *trust.Repository // nil: none yet
	catalog *update.Catalog
}

// Open opens the directory for this process alone, making it if it is missing, and clears up after a
// crash. It is an error, durable.ErrLocked, if another process has it.
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
	lock, err := durable.TryLock(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s, err := open(ctx, c, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return s, nil
}

// OpenReadOnly opens the directory beside the process that writes to it. Nothing is changed, and the
// repository stays the one that was current then.
func OpenReadOnly(ctx context.Context, c Config) (*Store, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return open(ctx, c, nil)
}

func open(ctx context.Context, c Config, lock *durable.Lock) (*Store, error) {
	s := &Store{c: c, lock: lock, ingesting: map[update.Digest]*arrival{}}
	state, err := trust.Open(trust.Config{FS: c.FS, Dir: filepath.Join(c.Dir, metadataDir), Pinned: c.Root, Served: true})
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.state = state
	repo, err := state.Current()
	if err != nil && !errors.Is(err, trust.ErrNone) {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := s.show(repo); err != nil {
		return nil, err
	}
	if lock == nil {
		return s, nil
	}
	return s, s.recover(ctx)
}

// recover undoes what a crash left half done.
func (s *Store) recover(ctx context.Context) error {
	if err := s.removeTemps(ctx); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	repo := s.Repository()
	if repo == nil {
		return nil
	}
	if missing := s.Missing(repo); len(missing) > 0 {
		s.c.Logger.Error("archives are missing", "count", len(missing), "first", missing[0].Name().String())
	}
	if err := s.link(repo); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return s.unlink(repo)
}

// show makes repo what is served.
func (s *Store) show(repo *trust.Repository) error {
	if repo == nil {
		// Boxes must not take a repository that has not arrived for one that has nothing.
		empty, err := update.NewCatalog(nil, true)
		if err != nil {
			return err
		}
		s.current.Store(&view{catalog: empty})
		return nil
	}
	s.current.Store(&view{repo, repo.Catalog()})
	return nil
}

// Close releases the directory. Arrivals that are still open keep their parts.
func (s *Store) Close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Unlock()
}

// Dir returns the directory.
func (s *Store) Dir() string { return s.c.Dir }

// Repository returns the current repository, nil where there is none yet.
func (s *Store) Repository() *trust.Repository { return s.current.Load().repo }

// Catalog returns what the current repository lists: the same pointer until it changes.
func (s *Store) Catalog() *update.Catalog { return s.current.Load().catalog }

// Root returns the newest root that the store trusts.
func (s *Store) Root() *trust.Root {
	s.committing.Lock()
	defer s.committing.Unlock()
	return s.state.Root()
}

// Ledger returns the digests of all names that ever were listed.
func (s *Store) Ledger() *trust.Ledger {
	s.committing.Lock()
	defer s.committing.Unlock()
	return s.state.Ledger()
}

// Refresh looks for a newer repository; see trust.State.Refresh. Nothing is stored before Commit.
func (s *Store) Refresh(ctx context.Context, f trust.Fetcher, c trust.Clock) (*trust.Repository, error) {
	s.committing.Lock()
	defer s.committing.Unlock()
	return s.state.Refresh(ctx, f, c)
}

func (s *Store) writable() error {
	if s.lock == nil {
		return ErrReadOnly
	}
	return nil
}
