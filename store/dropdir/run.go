package dropdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	parallel     = 2                      // files hashed at a time
	publishEvery = 500 * time.Millisecond // at most one catalog per this time for new digests
	listEvery    = 100 * time.Millisecond // at most one listing per this time; longer if a listing takes long
	absentPoll   = time.Second            // how soon to look again after the directory could not be listed
)

// Run keeps the catalog up to date, hashes and checks until ctx ends. It returns when all of its goroutines have
// ended. The error says why the cache could not be saved at the end. Run may then be called again.
func (d *Dir) Run(ctx context.Context) (err error) {
	l := &loop{d: d, results: make(chan result, parallel+2), saved: make(chan struct{}, 1), idle: parallel, checking: map[pace.Lane]bool{}}
	work, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		l.workers.Wait()
		close(l.results) // no worker is left
		for r := range l.results {
			l.apply(r)
		}
		d.publishNow()
		err = errors.Join(err, d.saveCache())
	}()
	watch, err := d.watch()
	d.reportWatch(err)
	if watch != nil {
		l.watch = watch
		defer func() { err = errors.Join(err, watch.close()) }()
	}
	l.run(work)
	return nil
}

// loop is the one goroutine that lists, publishes and gives out work.
type loop struct {
	d       *Dir
	watch   *watcher // nil: polling only
	workers sync.WaitGroup
	results chan result
	saved   chan struct{}
	idle    int // hashing workers without a task

	checking                   map[pace.Lane]bool // a check is under way
	saving                     bool
	fresh                      bool      // a digest is not published yet
	listAt, publishAt, saveAt  time.Time // zero: not planned
	listed, published, savedAt time.Time // the last times
	gap                        time.Duration
}

func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.listAt = time.Now()
	for ctx.Err() == nil {
		l.act(ctx, time.Now())
		l.dispatch(ctx)
		if l.fresh && l.idle == parallel { // no more digests are coming
			l.publishAt = time.Now()
		}
		timer.Reset(time.Until(l.next()))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.d.wake:
			l.listAt = earlier(l.listAt, l.listed.Add(l.gap))
		case r := <-l.results:
			l.apply(r)
		case <-l.saved:
			l.saving = false
		}
	}
}

// act lists, publishes and saves if these are due.
func (l *loop) act(ctx context.Context, now time.Time) {
	if due(l.listAt, now) {
		l.list(ctx)
	}
	if due(l.publishAt, now) {
		l.publishAt, l.published, l.fresh = time.Time{}, now, false
		l.d.publishNow()
	}
	if due(l.saveAt, now) && !l.saving {
		l.saveAt, l.savedAt, l.saving = time.Time{}, now, true
		l.workers.Go(func() {
			_ = l.d.saveCache() // it reports the error and is called again
			l.saved <- struct{}{}
		})
	}
	if gap, unsaved := l.d.savePlan(); unsaved && l.saveAt.IsZero() {
		l.saveAt = l.savedAt.Add(gap)
	}
}

// next returns when the next of these is due.
func (l *loop) next() time.Time {
	at := earlier(l.listAt, l.publishAt)
	if !l.saving {
		at = earlier(at, l.saveAt)
	}
	return at
}

func due(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// earlier returns the earlier of two times, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// list lists the directory and plans the next listing. The watch is set first, so that no change is missed between
// the two.
func (l *loop) list(ctx context.Context) {
	if l.watch != nil {
		if dir, err := os.Stat(l.d.c.Dir); err == nil { // the listing reports an error
			l.d.reportWatch(l.watch.follow(disk.StampOf(dir)))
		}
	}
	start := time.Now()
	stillAt, err := l.d.list(ctx)
	l.listed = time.Now()
	l.gap = max(listEvery, 10*l.listed.Sub(start))
	poll := l.d.c.Poll
	if err != nil {
		poll = min(poll, absentPoll)
	}
	l.listAt = earlier(l.listed.Add(poll), stillAt)
}

// dispatch starts as many tasks as may run at a time. Checks start only while nothing is hashed.
func (l *loop) dispatch(ctx context.Context) {
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for l.idle > 0 {
		t, ok := d.state.nextHash(time.Now())
		if !ok {
			break
		}
		l.idle--
		l.workers.Go(func() { l.results <- d.hash(ctx, t) })
	}
	if l.idle < parallel {
		return
	}
	for _, lane := range []pace.Lane{pace.QuickLane, pace.SlowLane} {
		if l.checking[lane] {
			continue
		}
		if t, ok := d.state.nextCheck(lane); ok {
			l.checking[lane] = true
			l.workers.Go(func() { l.results <- d.inspect(ctx, t) })
		}
	}
}

// apply applies a result to the state and plans to publish it.
func (l *loop) apply(r result) {
	if r.checked {
		l.checking[r.lane] = false
	} else {
		l.idle++
		l.fresh = true
	}
	l.d.apply(r)
	if l.publishAt.IsZero() {
		l.publishAt = l.published.Add(publishEvery)
	}
}

func (d *Dir) publishNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.publish()
}

// savePlan returns how long to wait between two saves of the cache, and whether one is needed.
func (d *Dir) savePlan() (gap time.Duration, unsaved bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return max(d.saveGap, saveEvery), d.state.unsaved && d.c.Cache != ""
}

// reportWatch sets or clears the warning that changes are noticed late.
func (d *Dir) reportWatch(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.report()
	d.state.note("updates directory is not watched, changes are noticed late", err)
}

// result is the result of a task.
type result struct {
	task
	checked bool // the task was a check
	err     error

	digest   update.Digest
	blocks   update.Blocks
	problems []string
}

// hash computes digest and block list of a file. The error is ErrChanged or fs.ErrNotExist if the file is no longer
// the one of the task.
func (d *Dir) hash(ctx context.Context, t task) result {
	r := result{task: t}
	r.err = d.read(t, func(f *os.File) (err error) {
		var length int64
		r.digest, r.blocks, length, err = update.Hash(ctx, io.LimitReader(f, t.stamp.Size), nil) // it may keep growing
		if err == nil && length < t.stamp.Size {
			err = fmt.Errorf("%s: %w", f.Name(), io.ErrUnexpectedEOF)
		}
		return err
	})
	return r
}

// quickCheck is how long a check may take before checks of other archives go first.
const quickCheck = time.Minute

// inspect calls Config.Check on a file.
func (d *Dir) inspect(ctx context.Context, t task) (r result) {
	r = result{task: t, checked: true}
	r.err = t.lane.Run(ctx, d.quick, func(ctx context.Context) error {
		return d.read(t, func(f *os.File) (err error) {
			r.problems, err = d.c.Check(ctx, f, t.name)
			return err
		})
	})
	return r
}

// read calls use with the open file of a task and checks that the file was the same before and after.
func (d *Dir) read(t task, use func(*os.File) error) error {
	f, err := d.openListed(t)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	err = use(f)
	if same := unchanged(f, t.stamp); same != nil {
		return same // a changed file also explains an error of use
	}
	return err
}

// apply applies a result to the state. If the file was not the listed one, or could not be opened for reasons that are
// not its own, the directory is listed again, which makes a new task.
func (d *Dir) apply(r result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.report()
	switch {
	case errors.Is(r.err, context.Canceled) || errors.Is(r.err, context.DeadlineExceeded):
		d.state.finish(r.task) // Run is ending
	case errors.Is(r.err, fs.ErrNotExist) || r.err != nil && exhausted(r.err):
		d.state.finish(r.task)
		d.relist()
	case r.checked:
		d.state.inspected(r.task, r.problems, r.err)
	default:
		d.state.hashed(r.task, r.digest, r.blocks, r.err, time.Now())
	}
}
