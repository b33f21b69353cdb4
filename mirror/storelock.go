package mirror

import (
	"context"
	"errors"
	"sync"
)

// errMakeWay ends what gives way to an import.
var errMakeWay = errors.New("an import comes first")

// storeLock has syncs, repairs and imports change the store one after another. Imports come first: a person waits
// for one, with the medium in hand, while a sync may be patient with its upstreams for long. What is under way
// then ends, keeps what arrived, and begins anew afterwards.
type storeLock struct {
	held chan struct{} // a mutex that is waited for with a context; it is given in the order of asking

	mu      sync.Mutex
	imports int                     // that wait or are under way
	cancel  context.CancelCauseFunc // of what is under way and gives way; nil: nothing is
}

func newStoreLock() *storeLock { return &storeLock{held: make(chan struct{}, 1)} }

// runPreemptible calls do with the lock, and once more after an import that came meanwhile: then the context of do
// ends. The error is that of the last call, or of ctx.
func (l *storeLock) runPreemptible(ctx context.Context, do func(context.Context) error) error {
	for {
		if err := l.acquire(ctx); err != nil {
			return err
		}
		mine, cancel := context.WithCancelCause(ctx)
		again := l.setCancel(cancel)
		var err error
		if !again {
			err = do(mine)
			again = err != nil && ctx.Err() == nil && errors.Is(context.Cause(mine), errMakeWay)
		}
		l.setCancel(nil)
		cancel(nil)
		<-l.held // an import that waits has asked before, and has the lock now
		if !again {
			return err
		}
	}
}

// runExclusive calls do as soon as what is under way has ended, which gives way unless it is an import as well.
func (l *storeLock) runExclusive(ctx context.Context, do func() error) error {
	l.addImports(1)
	defer l.addImports(-1)
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-l.held }()
	return do()
}

// acquire takes the lock, or ends with ctx, and then without it.
func (l *storeLock) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// setCancel says how to end what is under way, and reports whether an import waits already.
func (l *storeLock) setCancel(cancel context.CancelCauseFunc) (waits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
	return l.imports > 0
}

// addImports counts imports, and ends what gives way to them.
func (l *storeLock) addImports(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.imports += n; n > 0 && l.cancel != nil {
		l.cancel(errMakeWay)
	}
}
