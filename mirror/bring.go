package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// maxErrors is how many archives one error names.
const maxErrors = 3

// maxSyncing is how many archives whose blocks have all come are synced to the disk beside those that are being fetched:
// a disk syncs many in the time of one.
const maxSyncing = 32

// bringAll fetches archives that a repository lacks, several at once, the biggest first. An archive that no upstream has
// intact does not stop the others; a full disk and unavailable upstreams do.
func (m *Mirror) bringAll(ctx context.Context, missing []trust.Release, repo *trust.Repository) (Result, error) {
	wanted := biggestFirst(missing)
	if len(wanted) == 0 {
		return Result{}, nil
	}
	m.plan(wanted)
	defer m.plan(nil)
	if err := m.checkRoom(ctx, wanted, repo); err != nil {
		return Result{}, err
	}
	m.c.Planned(wanted)
	stopped, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.SetLimit(m.c.Parallel + maxSyncing)
	fetching := make(chan struct{}, m.c.Parallel)
	t := tally{}
	for _, rel := range wanted {
		select {
		case fetching <- struct{}{}:
		case <-stopped.Done():
		}
		if stopped.Err() != nil {
			break
		}
		g.Go(func() error {
			fetched := sync.OnceFunc(func() { <-fetching })
			defer fetched()
			bytes, err := m.bring(stopped, rel, fetched)
			if t.add(rel, bytes, err) {
				stop()
			}
			return nil
		})
	}
	_ = g.Wait() // t has the errors
	return t.result, errors.Join(ctx.Err(), t.error())
}

// biggestFirst sorts archives so that the last ones to arrive are small, and drops those with the same digest as another.
func biggestFirst(missing []trust.Release) []trust.Release {
	slices.SortStableFunc(missing, func(a, b trust.Release) int {
		da, db := a.Digest(), b.Digest()
		return cmp.Or(cmp.Compare(b.Length(), a.Length()), bytes.Compare(da[:], db[:]))
	})
	return slices.CompactFunc(missing, func(a, b trust.Release) bool { return a.Digest() == b.Digest() })
}

// plan sets which archives the holder of the lock is fetching. Archives on demand must leave room for them.
func (m *Mirror) plan(wanted []trust.Release) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.planned = wanted
}

// tally counts archives that arrived or failed.
type tally struct {
	mu     sync.Mutex
	result Result
	errs   []error
	failed int
	lost   []update.Digest // of those that failed, the ones that no upstream has intact
}

// lost is the error if some archives are damaged or gone at the upstreams, and all others arrived.
type lost struct {
	archives []update.Digest
	error
}

func (l *lost) Unwrap() error { return l.error }

// isLost reports whether an error says that no upstream has an archive intact. Then neither the network nor the disk is
// at fault.
func isLost(err error) bool {
	return (errors.Is(err, fetch.ErrDamaged) || errors.Is(err, fetch.ErrNotFound)) &&
		!errors.Is(err, fetch.ErrUnavailable) && !errors.Is(err, disk.ErrNoSpace)
}

// add counts an archive, and reports whether further archives would fail too.
func (t *tally) add(rel trust.Release, bytes int64, err error) (hopeless bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.result.Archives++
		t.result.Bytes += bytes
		return false
	}
	if ended(err) {
		return false // another error has ended it
	}
	if t.failed++; t.failed <= maxErrors {
		t.errs = append(t.errs, err)
	}
	if isLost(err) {
		t.lost = append(t.lost, rel.Digest())
	}
	return errors.Is(err, disk.ErrNoSpace) || errors.Is(err, fetch.ErrUnavailable)
}

func (t *tally) error() error {
	if more := t.failed - len(t.errs); more > 0 {
		t.errs = append(t.errs, fmt.Errorf("%d more archives failed", more))
	}
	err := errors.Join(t.errs...)
	if t.failed > 0 && t.failed == len(t.lost) {
		return &lost{t.lost, err}
	}
	return err
}

// ended reports whether an error only says that a context ended. An upstream that does not answer in time is
// context.DeadlineExceeded as well.
func ended(err error) bool {
	return (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, fetch.ErrUnavailable)
}

// flight is an archive that is being fetched, for all callers that wait for it.
type flight struct {
	done  chan struct{} // closed once bytes and err are set
	bytes int64         // that came
	err   error
}

// bring puts an archive in place, and returns how many bytes of it came. If another call is fetching it already, bring
// waits for that one. It calls fetched when all blocks have come, before they are durable.
func (m *Mirror) bring(ctx context.Context, rel trust.Release, fetched func()) (int64, error) {
	for {
		f, mine := m.flight(rel.Digest())
		if mine {
			f.bytes, f.err = m.fetch(ctx, rel, fetched)
			m.mu.Lock()
			delete(m.flights, rel.Digest())
			m.mu.Unlock()
			close(f.done)
			return f.bytes, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if f.err == nil || !ended(f.err) {
			return f.bytes, f.err
		}
	}
}

// flight returns the flight of an archive, and whether the caller has to fetch it.
func (m *Mirror) flight(d update.Digest) (f *flight, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.flights[d]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	m.flights[d] = f
	return f, true
}

// fetch fetches the missing blocks of an archive from the upstreams, and returns how many bytes came.
func (m *Mirror) fetch(ctx context.Context, rel trust.Release, fetched func()) (bytes int64, err error) {
	if m.c.Store.Has(rel) {
		return 0, nil
	}
	began := time.Now()
	bytes, err = fetch.Archives{Client: m.c.Client, Store: m.c.Store}.Bring(ctx, rel, fetched)
	if err != nil {
		return 0, err
	}
	m.noteRate(bytes, time.Since(began))
	return bytes, nil
}

// noteRate updates the average rate with how fast an archive came.
func (m *Mirror) noteRate(bytes int64, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := float64(bytes) / max(took.Seconds(), 0.001)
	if m.rate > 0 {
		rate = (3*m.rate + rate) / 4
	}
	m.rate = rate
}
