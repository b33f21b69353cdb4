package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// The errors that a caller may branch on, beside those of signing/trust and of store.
var (
	// ErrNotFound says that no proposal has that ID, or that a staged list has no such archive.
	ErrNotFound error = status.NoProposal

	// ErrNoKey says that this origin lacks the online key that the root names, so that it can't commit.
	ErrNoKey error = status.NoKey

	// ErrBlocks says that blocks came before their block list.
	ErrBlocks error = status.NoBlocks
)

// ConflictError says what stands in the way of a proposal. It wraps trust.ErrConflict or a more exact error of
// signing/trust.
type ConflictError struct {
	Current status.Versions // what is published
	Staged  int64           // the version of the newest complete list that waits for its archives, 0: none
	Err     error
}

// Error returns the message of the wrapped error.
func (e *ConflictError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *ConflictError) Unwrap() error { return e.Err }

// Config says what an Origin works on. Store is required.
type Config struct {
	// Store is open for writing and has a repository. It is the caller's to close, after the Origin.
	Store *store.Store

	// Online are the signers of the online key: one, or two while it is being replaced. Without any, the origin keeps
	// proposals that lack signatures, and refuses with ErrNoKey whatever it would have to commit.
	Online []signing.Signer

	FS     disk.FS
	Logger *slog.Logger     // nil: no log
	Now    func() time.Time // nil: time.Now

	// Local says that the caller is the signer, who publishes in a directory without a server. Then a proposal waits
	// without a time limit until it is published or dropped; a complete list that waits accepts further signatures;
	// files that are damaged or can't be published stay, for Read to report; and errors are about the signer's clock
	// and keys.
	Local bool

	Built        time.Time // the program's build date; zero: not known
	ClockChecked time.Time // when somebody confirmed that the clock is right; zero: never

	Keep      time.Duration // how long a proposal waits; 0: 7 days
	MaxStaged int           // complete lists that wait for archives; 0: 4. Beyond that the lowest version is dropped.
	MaxOpen   int           // archives that are open for writing between blocks; 0: 64
	GCEvery   time.Duration // how often Run removes withdrawn archives; 0: 24 h
}

func (c Config) withDefaults() (Config, error) {
	if c.Store == nil {
		return Config{}, errors.New("origin: a store is needed")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Local {
		c.Keep, c.MaxStaged = forever, math.MaxInt
	}
	c.Keep = orDefault(c.Keep, 7*24*time.Hour)
	c.MaxStaged = orDefault(c.MaxStaged, 4)
	c.MaxOpen = orDefault(c.MaxOpen, 64)
	c.GCEvery = orDefault(c.GCEvery, 24*time.Hour)
	return c, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Origin accepts proposals and commits them. Its methods are safe for concurrent use.
type Origin struct {
	begun bool // the first renewal is done; only Begin and Run use it

	c    Config
	dir  string
	last atomic.Pointer[trust.Repository] // see repository

	// changing is held while proposals or the repository change. Its holder may wait for the disk, so waiting for it
	// ends with a context.
	changing  *semaphore.Weighted
	unsettled bool // guarded by changing: what is current may not be on the disk, or lack the timestamp after its root

	mu      sync.Mutex
	kept    map[update.Digest]*proposal // by ID
	unfit   map[string]stagedFile       // files of staging/publish that nobody can publish, by name
	held    []*proposal                 // complete lists that the signer of the directory keeps from this server
	open    map[update.Digest]*arrival  // archives that are open for writing, by digest
	uses    int64                       // counts uses of open, to find the one that was used least recently
	parts   []*begunBlock               // blocks that arrive in parts; the one touched last stands last
	failure error                       // of the last renewal; nil: it went well
	lost    update.Name                 // the first missing archive that was logged; zero: none
	closed  bool

	// When this process signed last, by the monotonic clock and by Config.Now; zero: not yet.
	signed, signedAt time.Time
}

// Open reads the proposals on the disk, and drops those that no longer follow what is published. The error is
// trust.ErrNone if the store has no repository.
func Open(ctx context.Context, c Config) (*Origin, error) {
	o, err := newOrigin(c)
	if err != nil {
		return nil, err
	}
	if err := o.load(ctx); err != nil {
		return nil, fmt.Errorf("origin: %w", err)
	}
	return o, nil
}

// newOrigin returns an Origin without proposals.
func newOrigin(c Config) (*Origin, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.Store.Repository() == nil {
		return nil, noRepository(c.Store)
	}
	return &Origin{
		c: c, dir: filepath.Join(c.Store.Dir(), "staging", "publish"),
		changing: semaphore.NewWeighted(1), unsettled: true,
		kept: map[update.Digest]*proposal{}, open: map[update.Digest]*arrival{}, unfit: map[string]stagedFile{},
	}, nil
}

// noRepository returns the error for a store without a repository. If the repository is damaged, the signer must not
// make a new one, which boxes would refuse.
func noRepository(s *store.Store) error {
	if err := store.Begun(s.Dir()); errors.Is(err, trust.ErrNone) {
		return fmt.Errorf("origin: %w: make one with boxsign init", err)
	}
	return fmt.Errorf("origin: %w: bring the file back from a backup, or from a mirror, which serves it under /metadata/", errors.Join(s.Damage()...))
}

// Close closes the archives that are arriving, and keeps their blocks. Later calls fail.
func (o *Origin) Close() error {
	o.mu.Lock()
	o.closed = true
	open := o.open
	o.open = map[update.Digest]*arrival{}
	o.mu.Unlock()
	var errs []error
	for _, a := range open {
		// On a full disk it is not noted which blocks came last. They come again, so the end of a server is no failure.
		if err := a.Close(); !errors.Is(err, disk.ErrNoSpace) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// repository returns what is published. If the store can't read its metadata any more, it is what was published before.
func (o *Origin) repository() *trust.Repository {
	if r := o.c.Store.Repository(); r != nil {
		o.last.Store(r)
	}
	return o.last.Load()
}

// during adds the operation to an error, unless the caller is the signer, who knows it.
func (o *Origin) during(operation string, err error) error {
	if o.c.Local {
		return err
	}
	return fmt.Errorf("%s: %w", operation, err)
}
