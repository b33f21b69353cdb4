package mirror

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"
)

// errImportFirst ends a sync or a repair because an import came.
var errImportFirst = errors.New("an import comes first")

// storeLock makes syncs, repairs and imports change the store one after another. Imports come first, because a person
// waits for an import, while a sync may wait long for its upstreams. An import ends a running sync or repair, which
// keeps what arrived, and begins again afterwards.
type storeLock struct {
	held *semaphore.Weighted // first come, first served

	mu      sync.Mutex
	imports int                     // that wait or are running
	cancel  context.CancelCauseFunc // ends the running sync or repair; nil: there is none
}

func newStoreLock() *storeLock { return &storeLock{held: semaphore.NewWeighted(1)} }

// runPreemptible calls do with the lock. If an import comes meanwhile, the context of do ends, and do is called again
// afterwards. The error is that of the last call, or of ctx.
func (l *storeLock) runPreemptible(ctx context.Context, do func(context.Context) error) error {
	for {
		if err := l.held.Acquire(ctx, 1); err != nil {
			return err
		}
		mine, cancel := context.WithCancelCause(ctx)
		again := l.setCancel(cancel)
		var err error
		if !again {
			err = do(mine)
			again = err != nil && ctx.Err() == nil && errors.Is(context.Cause(mine), errImportFirst)
		}
		l.setCancel(nil)
		cancel(nil)
		l.held.Release(1) // an import that waits asked first, so it has the lock now
		if !again {
			return err
		}
	}
}

// runExclusive calls do with the lock, and ends a running sync or repair for that.
func (l *storeLock) runExclusive(ctx context.Context, do func() error) error {
	l.addImports(1)
	defer l.addImports(-1)
	if err := l.held.Acquire(ctx, 1); err != nil {
		return err
	}
	defer l.held.Release(1)
	return do()
}

// setCancel sets how to end the running sync or repair, and reports whether an import waits already.
func (l *storeLock) setCancel(cancel context.CancelCauseFunc) (waits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
	return l.imports > 0
}

// addImports counts imports. A new one ends the running sync or repair.
func (l *storeLock) addImports(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.imports += n; n > 0 && l.cancel != nil {
		l.cancel(errImportFirst)
	}
}
