package trust_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

func TestTwoProgramsOnOneDirectory(t *testing.T) {
	w := newWorld(t)
	lock, err := w.dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.dir.Lock()
	wantErr(t, err, durable.ErrLocked)
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if lock, err = w.dir.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestCreateTwice(t *testing.T) {
	w := newWorld(t)
	_, err := w.dir.Create(w.init())
	wantErr(t, err, fs.ErrExist)
}

func TestPutRefusesOtherBytes(t *testing.T) {
	w := newWorld(t)
	p := w.propose(w.releases, one)
	good := content(one)
	for what, data := range map[string][]byte{
		"changed": append([]byte("A"), good[1:]...), "short": good[1:], "long": append(good[:len(good):len(good)], '!'), "empty": nil,
	} {
		wantErr(t, w.dir.Put(t.Context(), p.Releases()[0], bytes.NewReader(data)), trust.ErrMismatch)
		paths, err := filepath.Glob(filepath.Join(w.dir.Path, "sha256", "*", "*"))
		if err != nil || len(paths) > 0 {
			t.Errorf("%s: left behind: %v, %v", what, paths, err)
		}
	}
	wantErr(t, w.dir.Publish(w.state, w.next(trust.Change{Targets: p})), trust.ErrNotFound)
	if err := w.dir.Put(t.Context(), trust.Release{}, nil); err == nil {
		t.Error("expected the zero Release to be refused")
	}
	if err := w.state.Commit(nil); err == nil {
		t.Error("expected no repository to be refused")
	}
}

func TestBlockListDigestIsChecked(t *testing.T) {
	w := newWorld(t)
	e := w.edit()
	a := addition(t, one, content(one))
	a.Blocks[0] ^= 1
	if err := e.Add(a); err != nil {
		t.Fatal(err)
	}
	p := w.sign(e, w.releases...)
	wantErr(t, w.dir.Put(t.Context(), p.Releases()[0], bytes.NewReader(content(one))), trust.ErrMismatch)
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, w *world)
		want   error
		says   string
	}{
		{"archive is missing", func(t *testing.T, w *world) { eachArchive(t, w, os.Remove) }, trust.ErrNotFound, one},
		{"archive is changed", func(t *testing.T, w *world) { eachArchive(t, w, overwrite) }, trust.ErrMismatch, one},
		{"timestamp is missing", func(t *testing.T, w *world) { remove(t, w, "timestamp.json") }, trust.ErrNone, "timestamp.json"},
		{"snapshot is missing", func(t *testing.T, w *world) { remove(t, w, "2.snapshot.json") }, trust.ErrNone, "2.snapshot.json"},
		{"list is missing", func(t *testing.T, w *world) { remove(t, w, "2.targets.json") }, trust.ErrNone, "2.targets.json"},
		{"list is another", func(t *testing.T, w *world) {
			put(t, w, "2.targets.json", read(t, filepath.Join(w.dir.Path, "metadata", "1.targets.json")))
		}, trust.ErrMismatch, "targets 2"},
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
		}, trust.ErrSecondDigest, one},
		{"ledger is no ledger", func(t *testing.T, w *world) { put(t, w, "ledger", []byte("x")) }, trust.ErrMalformed, "ledger"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add(one)
			pinned := w.repo.Raw(trust.RoleRoot)
			c.change(t, w)
			r, err := w.dir.Verify(pinned, w.clock())
			if err == nil {
				err = w.dir.VerifyArchives(t.Context(), r, nil)
			}
			wantErr(t, err, c.want)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("expected %q to be named, got %v", c.says, err)
			}
		})
	}
}

func eachArchive(t *testing.T, w *world, do func(string) error) {
	t.Helper()
	for _, pattern := range []string{"sha256/*/*", "targets/*"} {
		paths, err := filepath.Glob(filepath.Join(w.dir.Path, pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("expected one file, got %v, %v", paths, err)
		}
		if err := do(paths[0]); err != nil {
			t.Fatal(err)
		}
	}
}

func overwrite(path string) error {
	return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, bytes.ToUpper(content(one)), 0o644))
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
