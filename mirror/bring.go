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

// maxErrors bounds how many archives one error tells of.
const maxErrors = 3

// maxSettling is how many archives that are all there are brought to the disk beside those that are being
// fetched: a disk takes many at once in the time of one.
const maxSettling = 32

// bringAll fetches archives that a repository lacks, several at once, the biggest first. One that no upstream has
// right doesn't keep the others from arriving; a full disk, and upstreams that are gone, do.
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
	g.SetLimit(m.c.Parallel + maxSettling)
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
	_ = g.Wait() // what failed is in t
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

// plan says which archives are being fetched by whoever has the lock: what comes on demand leaves their room.
func (m *Mirror) plan(wanted []trust.Release) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.planned = wanted
}

// tally counts how archives arrive.
type tally struct {
	mu     sync.Mutex
	result Result
	errs   []error
	failed int
	lost   []update.Digest // of those that failed, what no upstream has whole
}

// lost is the error where some archives are damaged at the upstreams, or gone, and all others arrived.
type lost struct {
	archives []update.Digest
	error
}

func (l *lost) Unwrap() error { return l.error }

// isLost reports whether an error says that an archive is not to be had, which is no fault of the way there or of
// the disk here.
func isLost(err error) bool {
	return (errors.Is(err, fetch.ErrDamaged) || errors.Is(err, fetch.ErrNotFound)) &&
		!errors.Is(err, fetch.ErrUnavailable) && !errors.Is(err, disk.ErrNoSpace)
}

// add reports whether further archives would fail too.
func (t *tally) add(rel trust.Release, bytes int64, err error) (hopeless bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.result.Archives++
		t.result.Bytes += bytes
		return false
	}
	if ended(err) {
		return false // what ended it is told already
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
		t.errs = append(t.errs, fmt.Errorf("%d more archives did not arrive", more))
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

// flight is one archive that is being fetched, for however many wait for it.
type flight struct {
	done  chan struct{} // closed when the others are set
	bytes int64         // that came
	err   error
}

// bring makes an archive be in place, and returns how many bytes of it came. Where another call is
// fetching it already, it waits for that. It calls fetched, where all blocks came, before they are on the disk.
func (m *Mirror) bring(ctx context.Context, rel trust.Release, fetched func()) (int64, error) {
	for {
		f, mine := m.board(rel.Digest())
		if mine {
			f.bytes, f.err = m.fetch(ctx, rel, fetched)
			m.land(rel.Digest(), f)
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

func (m *Mirror) board(d update.Digest) (f *flight, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.flights[d]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	m.flights[d] = f
	return f, true
}

func (m *Mirror) land(d update.Digest, f *flight) {
	m.mu.Lock()
	delete(m.flights, d)
	m.mu.Unlock()
	close(f.done)
}

// fetch gets an archive from the upstreams, with what is on the disk already, and returns how many bytes
// came.
func (m *Mirror) fetch(ctx context.Context, rel trust.Release, fetched func()) (bytes int64, err error) {
	if m.c.Store.Has(rel) {
		return 0, nil
	}
	began := time.Now()
	bytes, err = fetch.Archives{Client: m.c.Client, Store: m.c.Store}.Bring(ctx, rel, fetched)
	if err != nil {
		return 0, err
	}
	m.measured(bytes, time.Since(began))
	return bytes, nil
}

// measured takes in how fast an archive came.
func (m *Mirror) measured(bytes int64, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := float64(bytes) / max(took.Seconds(), 0.001)
	if m.rate > 0 {
		rate = (3*m.rate + rate) / 4
	}
	m.rate = rate
}
