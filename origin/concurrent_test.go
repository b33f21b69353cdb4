package origin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// TestTogether has signers, uploads, commits, renewals, junk and readers at the same time. Readers never
// see a list that names an archive which is not there.
func TestTogether(t *testing.T) {
	w := newWorld(t)
	stop := make(chan struct{})
	var readers errgroup.Group
	for range 4 {
		readers.Go(func() error { return until(stop, w.look) })
	}
	readers.Go(func() error { return until(stop, func() error { return w.Renew(t.Context()) }) })
	readers.Go(func() error {
		return until(stop, func() error {
			if _, err := w.Propose(t.Context(), trust.RoleTargets, []byte("junk")); !errors.Is(err, trust.ErrMalformed) {
				return fmt.Errorf("junk: %w", err)
			}
			return nil
		})
	})
	var listed []string
	for i := range 8 {
		n := fmt.Sprintf("opq-box-update-%d.tar.gz", 10+i)
		listed = append(listed, n)
		w.publishTogether(t, n, big)
	}
	close(stop)
	must(t, readers.Wait())
	w.wantListed(append([]string{big}, listed...)...)
}

func until(stop chan struct{}, f func() error) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := f(); err != nil {
			return err
		}
	}
}

// look reads what is served as clients do.
func (w *world) look() error {
	repo := w.s.Repository()
	for _, r := range repo.Releases() {
		f, err := w.s.Open(r.Update())
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	for _, role := range []trust.Role{trust.RoleRoot, trust.RoleTargets} {
		raw, err := w.s.Metadata(trust.FileName(role, repo.Version(role)))
		if err != nil || update.Sum(raw) != update.Sum(repo.Raw(role)) {
			return fmt.Errorf("%s %d: %w", role, repo.Version(role), err)
		}
	}
	w.State()
	w.Health(day)
	return nil
}

// publishTogether has four processes of one signer do all at once.
func (w *world) publishTogether(t *testing.T, names ...string) {
	t.Helper()
	p := w.list(w.releases, names...)
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			out, err := w.Propose(t.Context(), p.Role(), p.Raw())
			if err != nil || out.Status == origin.StatusCommitted {
				return err
			}
			// Another may commit first: then the list is staged no more.
			if err := w.upload(out); err != nil && !errors.Is(err, origin.ErrNotFound) {
				return err
			}
			_, err = w.Commit(t.Context(), out.ID)
			return err
		})
	}
	must(t, g.Wait())
}

// TestConflictAtOnce has several signers publish at the same time: of each number one goes out.
func TestConflictAtOnce(t *testing.T) {
	w := newWorld(t)
	var lists []*trust.Proposal
	for i := range 6 {
		lists = append(lists, w.list(w.releases, fmt.Sprintf("opq-box-update-%d.tar.gz", 10+i)))
	}
	var mu sync.Mutex
	done, conflicts := 0, 0
	var g errgroup.Group
	for _, p := range lists {
		g.Go(func() error {
			out, err := w.Propose(t.Context(), p.Role(), p.Raw())
			if err == nil {
				must(t, w.upload(out))
				_, err = w.Commit(t.Context(), out.ID)
			}
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, trust.ErrConflict) {
				conflicts++
				return nil
			}
			done++
			return err
		})
	}
	must(t, g.Wait())
	if done != 1 || conflicts != 5 {
		t.Fatalf("expected one to go out and five conflicts, got %d and %d", done, conflicts)
	}
	if v := w.whole().Version(trust.RoleTargets); v != 2 {
		t.Fatalf("expected list 2, got %d", v)
	}
}

// TestCallersGiveUp calls for somebody who is gone.
func TestCallersGiveUp(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := w.send(w.list(w.releases, one), origin.StatusStaged)
	must(t, w.upload(out))
	_, err := w.Commit(ctx, out.ID)
	wantErr(t, err, context.Canceled)
	_, err = w.Propose(ctx, trust.RoleTargets, w.list(w.releases, two).Raw())
	wantErr(t, err, context.Canceled)
	wantErr(t, w.Run(ctx), context.Canceled)
	w.finish(out)
}

// TestBlocksOfAPlacedArchive calls for an archive that another caller's commit has placed meanwhile: its block list is
// removed, and nothing of it is missing.
func TestBlocksOfAPlacedArchive(t *testing.T) {
	w := newWorld(t)
	out := w.send(w.list(w.releases, one, big), origin.StatusStaged)
	archive, data := out.Archives[0], content(one)
	blocks := testworld.Blocks(data)
	must(t, w.PutBlocks(t.Context(), out.ID, archive.Digest, blocks.Bytes()))
	must(t, w.PutBlock(t.Context(), out.ID, archive.Digest, 0, data))
	_, err := w.Commit(t.Context(), out.ID)
	wantErr(t, err, store.ErrIncomplete) // it has placed the first archive
	must(t, os.Remove(filepath.Join(w.dir, "staging", "publish", update.Sum(blocks.Bytes()).String()+".blocks")))

	must(t, w.PutBlock(t.Context(), out.ID, archive.Digest, 0, data))
	must(t, w.PutPart(t.Context(), out.ID, archive.Digest, 0, 0, data[:1]))
	if a, err := w.Archive(t.Context(), out.ID, archive.Digest); err != nil || !a.Blocks || len(a.Missing) > 0 {
		t.Errorf("expected nothing to be missing, got %+v, %v", a, err)
	}
	w.finish(w.send(w.list(w.releases, one, big), origin.StatusStaged))
}
