package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// TestReadersDuringCommits has 50 clients read in a loop while lists come and go. None ever gets
// metadata that don't fit together, nor a list that names an archive which isn't there.
func TestReadersDuringCommits(t *testing.T) {
	o, s := newStore(t, small)
	done := make(chan struct{})
	var reads, newest atomic.Int64
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				version, err := readAll(s, o.pinned)
				if err != nil {
					t.Error(err)
					return
				}
				reads.Add(1)
				newest.Store(max(newest.Load(), version))
			}
		})
	}
	lists := [][]string{{small, other}, {other}, {other, empty}, {small, other, empty}, {small}}
	for i := range 20 {
		if i%10 == 5 {
			mustPublish(t, s, o.newRoot2(i))
		}
		mustPublish(t, s, o.lists(lists[i%len(lists)]...))
	}
	close(done)
	readers.Wait()
	o.check(s)
	if reads.Load() < 50 || newest.Load() < 5 {
		t.Errorf("%d reads as far as version %d saw too little", reads.Load(), newest.Load())
	}
	t.Logf("%d complete reads during %d commits", reads.Load(), 22)
}

// newRoot2 makes a repository with another root, whose key is named after i.
func (o *origin) newRoot2(i int) *trust.Repository {
	o.t.Helper()
	e := o.repo.EditRoot(day)
	if err := e.AddKey(trust.RoleTargets, testworld.NewSigner(fmt.Sprint("release ", i)).Public()); err != nil {
		o.t.Fatal(err)
	}
	p, err := e.Sign(context.Background(), o.keys.Roots[0])
	if err != nil {
		o.t.Fatal(err)
	}
	return o.next(trust.Change{Root: p})
}

// readAll does what a client does: metadata first, then all that they list.
func readAll(s *Store, root []byte) (version int64, err error) {
	state, err := trust.Open(trust.Config{Dir: "/nonexistent", Pinned: root, DeferRoots: true})
	if err != nil {
		return 0, err
	}
	r, err := state.Refresh(context.Background(), served{s}, trust.Clock{Now: day})
	if err != nil {
		return 0, fmt.Errorf("a client: %w", err)
	}
	for _, rel := range r.Releases() {
		if err := readUpdate(s, rel.Update()); err != nil {
			return 0, fmt.Errorf("listed by targets %d: %w", r.Version(trust.RoleTargets), err)
		}
	}
	if c := s.Catalog(); !sameReadable(s, c) {
		return 0, errors.New("the catalog lists what can't be opened")
	}
	return r.Version(trust.RoleTimestamp), nil
}

func sameReadable(s *Store, c *update.Catalog) bool {
	for _, u := range c.Updates() {
		f, err := s.Open(u)
		if err != nil {
			return false
		}
		f.Close()
	}
	return true
}

// TestReadOnlyDuringCommits opens the directory again and again while it changes: each time there is
// one whole repository.
func TestReadOnlyDuringCommits(t *testing.T) {
	o, s := newStore(t, small)
	done := make(chan struct{})
	var readers sync.WaitGroup
	var opened atomic.Int64
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				r, err := OpenReadOnly(context.Background(), Config{Dir: s.Dir(), Root: o.pinned})
				if err != nil || r.Repository() == nil {
					t.Errorf("no repository: %v", err)
					return
				}
				opened.Add(1)
			}
		})
	}
	for i := range 30 {
		mustPublish(t, s, o.lists([][]string{{small, other}, {small}}[i%2]...))
	}
	close(done)
	readers.Wait()
	if opened.Load() == 0 {
		t.Error("no reader got through")
	}
}

// stuck is an upstream that answers when it is told to.
type stuck struct {
	served
	asked, answer chan struct{}
	once          *sync.Once
}

func (f stuck) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	f.once.Do(func() { close(f.asked); <-f.answer })
	return f.served.Fetch(ctx, name, limit, known)
}

// TestSlowUpstream holds up nobody, and what it says at last doesn't undo what was committed meanwhile.
func TestSlowUpstream(t *testing.T) {
	o, up := newStore(t, small)
	s := mustOpen(t, o.config(filepath.Join(testworld.TempDir(t), "mirror")))
	mustPublish(t, s, o.repo)
	mustPublish(t, up, o.lists(small, other))
	f := stuck{served{up}, make(chan struct{}), make(chan struct{}), new(sync.Once)}
	var late *trust.Repository
	var err error
	var slow sync.WaitGroup
	slow.Go(func() { late, err = s.Refresh(t.Context(), f, trust.Clock{Now: day}) })
	<-f.asked
	mustPublish(t, s, up.Repository())
	newest := o.lists(other)
	mustPublish(t, s, newest)
	if _, err := s.Metadata("timestamp.json"); err != nil || s.Root() == nil || s.Ledger().Len() != 2 {
		t.Errorf("%v, %d names", err, s.Ledger().Len())
	}
	close(f.answer)
	slow.Wait()
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Commit(t.Context(), late), trust.ErrRollback)
	if !sameRepository(s.Repository(), newest) {
		t.Error("the newest repository is gone")
	}
	o.check(s)
}

// TestEverythingAtOnce ingests, commits, collects, checks and reads for a while, under the race
// detector; then the store is closed in the middle of it.
func TestEverythingAtOnce(t *testing.T) {
	o, s := newStore(t, small)
	s.c.Grace = time.Nanosecond
	var all sync.WaitGroup
	done := make(chan struct{})
	loop := func(do func() error, allowed ...error) {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := do(); err != nil && !isOneOf(err, append(allowed, fs.ErrClosed)) {
					t.Error(err)
					return
				}
			}
		})
	}
	ctx := context.Background()
	wanted := o.lists(small, other, large)
	for range 2 {
		loop(func() error { return ingest(s, release(t, wanted, large)) }, ErrIncomplete)
		loop(func() error { return ingest(s, release(t, wanted, other)) }, ErrIncomplete)
	}
	loop(func() error { _, err := s.GC(ctx, GC{}); return err })
	loop(func() error {
		problems, err := s.Check(ctx, Check{Hash: true, Quarantine: true})
		for _, p := range problems {
			if !errors.Is(p.Err, fs.ErrNotExist) {
				return p.Err
			}
		}
		return err
	})
	loop(func() error {
		for _, u := range s.Catalog().Updates() {
			if _, err := s.Blocks(u); err != nil {
				return err
			}
		}
		return nil
	}, fs.ErrNotExist)
	for i := range 12 {
		next := o.lists([][]string{{small, other}, {small, large}, {small}}[i%3]...)
		for {
			err := publish(s, next)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrIncomplete) {
				t.Fatal(err)
			}
		}
		if err := sound(s); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	close(done)
	all.Wait()
	again := mustOpen(t, o.config(s.Dir()))
	o.check(again)
}

// sound says what of the current list can't be read.
func sound(s *Store) error {
	for _, u := range s.Catalog().Updates() {
		if err := readUpdate(s, u); err != nil {
			return err
		}
	}
	return nil
}

func isOneOf(err error, allowed []error) bool {
	for _, a := range allowed {
		if errors.Is(err, a) {
			return true
		}
	}
	return false
}
