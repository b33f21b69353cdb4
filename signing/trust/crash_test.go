package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestCrashAtEveryStep commits with a crash at each step. What is there afterwards is the old
// repository or the new one, whole, for whoever opens it and for a box; committing again gets through.
func TestCrashAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	changes := map[string]func(w *world) trust.Change{
		"list": func(w *world) trust.Change {
			e := w.edit()
			if err := errors.Join(e.Withdraw(name(t, one)), e.Add(addition(t, three, content(three)))); err != nil {
				t.Fatal(err)
			}
			return trust.Change{Targets: w.sign(e, w.releases...)}
		},
		"root": func(w *world) trust.Change {
			return trust.Change{Root: w.proposeRoot(w.roots, func(e *trust.RootEdit) error {
				return e.AddKey(trust.RoleTargets, testworld.NewSigner("second").Public())
			})}
		},
		"renewal": func(*world) trust.Change { return trust.Change{} },
	}
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.add(one)
			w.add(two)
			w.at = w.at.Add(time.Hour)
			next := w.next(change(w))
			t.Parallel()
			before := os.DirFS(w.dir.Path)
			seen := map[string]int{}
			total := 1
			for step := 1; step <= total; step++ {
				for _, after := range []bool{false, true} {
					w.dir.Path = filepath.Join(testworld.TempDir(t), "R")
					if err := os.CopyFS(w.dir.Path, before); err != nil {
						t.Fatal(err)
					}
					total = crashOnce(t, w, next, step, after, seen)
				}
			}
			if total < 6 || seen["old"] == 0 || seen["new"] == 0 {
				t.Errorf("expected crashes that leave the old one and some that leave the new one, got %v in %d steps", seen, total)
			}
			t.Logf("%d steps, each before and after: %v", total, seen)
		})
	}
}

func crashOnce(t *testing.T, w *world, next *trust.Repository, step int, after bool, seen map[string]int) (total int) {
	t.Helper()
	old := w.repo
	b := newBox(t, old.Root())
	b.must(w.dir, w.clock())
	commit := func(fs disk.FS) error {
		return reopened(t, directory{FS: fs, Path: w.dir.Path}).Commit(next)
	}
	fs, counted := testworld.Crash(step, after)
	if err := commit(fs); err == nil {
		return *counted
	}
	got, err := verify(w.dir, old.Root().Raw(), w.clock())
	if err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	switch string(got.Raw(trust.RoleTimestamp)) {
	case string(old.Raw(trust.RoleTimestamp)):
		seen["old"]++
	case string(next.Raw(trust.RoleTimestamp)):
		seen["new"]++
	default:
		t.Fatalf("step %d: neither the old repository nor the new one", step)
	}
	b.must(w.dir, w.clock())
	if err := commit(disk.FS{}); err != nil {
		t.Fatalf("step %d: again: %v", step, err)
	}
	if r := b.must(w.dir, w.clock()); !slices.Equal(listed(r), listed(next)) {
		t.Fatalf("step %d: expected %v, got %v", step, listed(next), listed(r))
	}
	wantNoTemps(t, w.dir.Path)
	return step + 1
}

func wantNoTemps(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, disk.TempPrefix) {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBoxCrashesAtEveryStep accepts a new root and a new list with a crash at each step.
func TestBoxCrashesAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	w := newWorld(t)
	w.add(one)
	before := copyOf(t, w.dir)
	fresh := testworld.NewSigner("online new")
	old := w.online[0]
	root := w.repo.Root()
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return addOnline(e, fresh) })
	w.online = []*testworld.Signer{fresh}
	w.publish(trust.Change{})
	w.newRoot(w.roots, func(e *trust.RootEdit) error { return removeOnline(e, old) })
	w.add(two)
	steps := 0
	for done := false; !done; steps++ {
		for _, after := range []bool{false, true} {
			b := newBox(t, root)
			b.must(before, w.clock())
			b.cfg.FS, _ = testworld.Crash(steps+1, after)
			b.reopen()
			err := b.refresh(w.dir, w.clock())
			done = err == nil
			b.cfg.FS = disk.FS{}
			b.reopen()
			wantListed(t, b.must(w.dir, w.clock()), one, two)
			wantErr(t, b.refresh(before, w.clock()), trust.ErrThreshold)
		}
	}
	if steps < 20 {
		t.Errorf("expected at least 20 steps, got %d", steps)
	}
}
