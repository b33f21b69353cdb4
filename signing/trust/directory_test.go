package trust_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func TestVerifyArchiveRefusesOtherBytes(t *testing.T) {
	w := newWorld(t)
	r := w.propose(w.releases, one).Releases()[0]
	good := content(one)
	if _, err := trust.VerifyArchive(t.Context(), r, bytes.NewReader(good), nil); err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"changed": append([]byte("A"), good[1:]...), "short": good[1:], "long": append(good[:len(good):len(good)], '!'), "empty": nil,
	} {
		if _, err := trust.VerifyArchive(t.Context(), r, bytes.NewReader(data), nil); !errors.Is(err, trust.ErrMismatch) {
			t.Errorf("%s: expected %q, got %v", what, trust.ErrMismatch, err)
		}
	}
	if _, err := trust.VerifyArchive(t.Context(), trust.Release{}, bytes.NewReader(nil), nil); err == nil {
		t.Error("expected the zero Release to be refused")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := trust.VerifyArchive(ctx, r, bytes.NewReader(good), nil)
	wantErr(t, err, context.Canceled)
}

func TestBlockListDigestIsChecked(t *testing.T) {
	w := newWorld(t)
	e := w.edit()
	data := make([]byte, update.BlockSize+1) // of one block the signer knows the list
	a := addition(t, one, data)
	a.Blocks[0] ^= 1
	if err := e.Add(a); err != nil {
		t.Fatal(err)
	}
	r := w.sign(e, w.releases...).Releases()[0]
	_, err := trust.VerifyArchive(t.Context(), r, bytes.NewReader(data), nil)
	wantErr(t, err, trust.ErrMismatch)
}

func TestCommitNothing(t *testing.T) {
	if err := newWorld(t).state.Commit(nil); err == nil {
		t.Error("expected no repository to be refused")
	}
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, w *world)
		want   error // where there are no copies
		says   string
	}{
		{"timestamp is missing", func(t *testing.T, w *world) { remove(t, w, "timestamp.json") }, trust.ErrNone, "timestamp.json"},
		{"snapshot is missing", func(t *testing.T, w *world) { remove(t, w, "2.snapshot.json") }, trust.ErrNone, "2.snapshot.json"},
		{"list is missing", func(t *testing.T, w *world) { remove(t, w, "2.targets.json") }, trust.ErrNone, "2.targets.json"},
		{"list is another", func(t *testing.T, w *world) {
			put(t, w, "2.targets.json", read(t, filepath.Join(w.dir.Path, "metadata", "1.targets.json")))
		}, trust.ErrMismatch, "targets"},
		{"root is missing", func(t *testing.T, w *world) {
			w.newRoot(w.roots, nil)
			w.newRoot(w.roots, nil)
			remove(t, w, "2.root.json")
		}, trust.ErrNotFound, "2.root.json"},
		{"root of another repository", func(t *testing.T, w *world) {
			put(t, w, "1.root.json", newWorldOf(t, 2, 2).repo.Raw(trust.RoleRoot))
		}, trust.ErrFork, "root 1"},
		{"ledger says otherwise", func(t *testing.T, w *world) {
			put(t, w, "ledger", []byte(strings.Repeat("1", 64)+"  "+one+"\n"))
		}, disk.ErrDamaged, "ledger"},
		{"ledger is no ledger", func(t *testing.T, w *world) { put(t, w, "ledger", []byte("x")) }, disk.ErrDamaged, "ledger"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add(one)
			pinned := w.repo.Raw(trust.RoleRoot)
			c.change(t, w)
			if c.want != trust.ErrFork {
				// Beside its copy what is wrong is mended, and named too.
				s, err := trust.Open(config(w.dir, pinned))
				if err != nil {
					t.Fatal(err)
				}
				if told := errors.Join(s.Damage()...); told == nil || !strings.Contains(told.Error(), c.says) {
					t.Errorf("expected %q to be named, got %v", c.says, told)
				}
				cur, err := s.Current()
				if err != nil || cur.Root().Version() != w.repo.Root().Version() {
					t.Errorf("expected it to be mended, got %v", err)
				}
			}
			copies, err := filepath.Glob(filepath.Join(w.dir.Path, "metadata", "*.copy"))
			if err != nil || len(copies) < 4 {
				t.Fatal(copies, err)
			}
			for _, c := range copies {
				if err := os.Remove(c); err != nil {
					t.Fatal(err)
				}
			}
			s, err := trust.Open(config(w.dir, pinned))
			if err == nil {
				_, err = s.Current()
				err = errors.Join(append(s.Damage(), err)...)
			}
			wantErr(t, err, c.want)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("expected %q to be named, got %v", c.says, err)
			}
		})
	}
}

func remove(t *testing.T, w *world, file string) {
	t.Helper()
	if err := os.Remove(filepath.Join(w.dir.Path, "metadata", file)); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, w *world, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir.Path, "metadata", file), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLostLedgerIsLearntAgain(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	remove(t, w, "ledger")
	if d, ok := reopened(t, w.dir).Ledger().Digest(name(t, one)); !ok || d.IsZero() {
		t.Error("expected the ledger to know what is listed")
	}
}

func TestOldListsArePruned(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		w.publish(trust.Change{Targets: w.propose(w.releases)})
	}
	for file, there := range map[string]bool{"3.targets.json": false, "4.targets.json": true, "5.targets.json": true, "3.snapshot.json": false, "5.snapshot.json": true, "1.root.json": true} {
		_, err := os.Stat(filepath.Join(w.dir.Path, "metadata", file))
		if there != (err == nil) {
			t.Errorf("%s: expected to be there: %v, got %v", file, there, err)
		}
	}
}
