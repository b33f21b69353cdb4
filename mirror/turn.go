package mirror

import (
	"context"
	"errors"
	"sync"
)

// errMakeWay ends what gives way to an import.
var errMakeWay = errors.New("an import comes first")

// turn has syncs, repairs and imports change the store one after another. Imports come first: a person waits
// for one, with the medium in hand, while a sync may be patient with its upstreams for long. What is under way
// then ends, keeps what arrived, and begins anew afterwards.
type turn struct {
	token chan struct{} // held by whoever's turn it is

	mu     sync.Mutex
	first  int                     // imports that wait or are under way
	none   chan struct{}           // closed while there is no such import
	cancel context.CancelCauseFunc // of what is under way and gives way; nil: nothing is
}

func newTurn() *turn {
	t := &turn{token: make(chan struct{}, 1), none: make(chan struct{})}
	close(t.none)
	return t
}

// givingWay calls do in its turn, and once more after an import that came meanwhile: then the context of do
// ends. The error is that of the last call, or of ctx.
func (t *turn) givingWay(ctx context.Context, do func(context.Context) error) error {
	for {
		mine, err := t.begin(ctx)
		if err != nil {
			return err
		}
		err = do(mine)
		again := err != nil && ctx.Err() == nil && errors.Is(context.Cause(mine), errMakeWay)
		t.end()
		if !again {
			return err
		}
	}
}

// comingFirst calls do as soon as what is under way has ended, which gives way unless it is an import as well.
func (t *turn) comingFirst(ctx context.Context, do func() error) error {
	t.claim()
	defer t.waive()
	if err := t.take(ctx); err != nil {
		return err
	}
	defer t.release()
	return do()
}

// begin waits for the turn of what gives way, and returns the context that ends where it is to do so.
func (t *turn) begin(ctx context.Context) (context.Context, error) {
	for {
		select {
		case <-t.noImport():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := t.take(ctx); err != nil {
			return nil, err
		}
		if mine := t.cancellable(ctx); mine != nil {
			return mine, nil
		}
		t.release()
	}
}

func (t *turn) noImport() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.none
}

// cancellable returns a context that claim ends, nil where there is an import already.
func (t *turn) cancellable(ctx context.Context) context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first > 0 {
		return nil
	}
	ctx, t.cancel = context.WithCancelCause(ctx)
	return ctx
}

func (t *turn) end() {
	t.mu.Lock()
	t.cancel(nil)
	t.cancel = nil
	t.mu.Unlock()
	t.release()
}

func (t *turn) claim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first++; t.first == 1 {
		t.none = make(chan struct{})
	}
	if t.cancel != nil {
		t.cancel(errMakeWay)
	}
}

func (t *turn) waive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first--; t.first == 0 {
		close(t.none)
	}
}

// take takes the token, or ends with ctx, and then without it.
func (t *turn) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) release() { <-t.token }
