package mirror

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// TestImportsComeFirst: an import ends what is under way, goes before what waited longer, and what it ended begins anew.
func TestImportsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newStoreLock()
		var did []string
		release := make(chan struct{})
		sync := func(name string) func(context.Context) error {
			return func(ctx context.Context) error {
				did = append(did, name)
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-release:
					return nil
				}
			}
		}
		for _, name := range []string{"first", "second"} {
			go func() {
				if err := l.runPreemptible(t.Context(), sync(name)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}()
			synctest.Wait()
		}
		importing := make(chan struct{})
		go func() {
			err := l.runExclusive(t.Context(), func() error {
				did = append(did, "import")
				<-importing
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if want := []string{"first", "import"}; !slices.Equal(did, want) {
			t.Errorf("expected %q, got %q", want, did)
		}
		close(importing)
		synctest.Wait()
		close(release)
		synctest.Wait()
		slices.Sort(did)
		if want := []string{"first", "first", "import", "second"}; !slices.Equal(did, want) {
			t.Errorf("expected %q, got %q", want, did)
		}
	})
}

// TestWaitingEnds: whoever waits for the lock stops with its context, and an error that no import caused is returned.
func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, done := newStoreLock(), make(chan struct{})
		go func() { _ = l.runExclusive(t.Context(), func() error { <-done; return nil }) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.runPreemptible(ctx, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(done)
		synctest.Wait()
		failed, tries := errors.New("failed"), 0
		err := l.runPreemptible(t.Context(), func(context.Context) error { tries++; return failed })
		if !errors.Is(err, failed) || tries != 1 {
			t.Errorf("got %v after %d tries", err, tries)
		}
	})
}
