package origin_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// scenario is a change of a repository, in calls each of which may be repeated.
type scenario struct {
	name  string
	role  trust.Role // whose file changes
	files [][]byte   // what signers send, one after the other
}

// scenarios returns the changes that are tried, made for the repository of w, and nothing of them sent.
func scenarios(t *testing.T, w *world) []scenario {
	t.Helper()
	e := w.edit()
	must(t, errors.Join(e.Withdraw(name(one)), e.Add(addition(three, content(three)))))
	list, err := e.Sign(t.Context(), w.releases[0])
	must(t, err)
	signed, err := list.Cosign(t.Context(), w.releases[1])
	must(t, err)
	root := w.root(w.roots[:1], func(e *trust.RootEdit) error {
		return e.AddKey(trust.RoleTargets, testworld.NewSigner("third").Public())
	})
	rooted, err := root.Cosign(t.Context(), w.roots[1])
	must(t, err)
	return []scenario{
		{"list", trust.RoleTargets, [][]byte{list.Raw(), signed.Raw()}},
		{"root", trust.RoleRoot, [][]byte{root.Raw(), rooted.Raw()}},
		{"renewal", trust.RoleTimestamp, nil},
	}
}

// run does it all. each runs one call, and may run it again.
func (sc scenario) run(w *world, each func(step string, call func() error) error) error {
	if sc.files == nil {
		return each("renew", func() error { return w.Renew(context.Background()) })
	}
	var out origin.Outcome
	propose := func(raw []byte) (err error) {
		out, err = w.Propose(context.Background(), sc.role, raw)
		return err
	}
	for i, raw := range sc.files {
		if err := each(fmt.Sprintf("propose %d", i+1), func() error { return propose(raw) }); err != nil {
			return err
		}
	}
	if sc.role == trust.RoleRoot {
		return nil
	}
	if err := each("upload", func() error { return w.upload(out) }); err != nil {
		return err
	}
	return each("commit", func() error {
		_, err := w.Commit(context.Background(), out.ID)
		if !errors.Is(err, store.ErrIncomplete) {
			return err
		}
		// The disk lost what it had acknowledged to the store.
		if err := propose(sc.files[len(sc.files)-1]); err != nil {
			return err
		}
		if err := w.upload(out); err != nil {
			return err
		}
		_, err = w.Commit(context.Background(), out.ID)
		return err
	})
}

func once(_ string, call func() error) error { return call() }

// faultWorld is a repository with two updates that two of two sign.
func faultWorld(t *testing.T) *world {
	w := newWorldOf(t, 2, 2)
	w.publish(one, two)
	w.at(day.Add(time.Hour))
	return w
}

// wantOldOrNew wants the old repository whole, or the new one; after an acknowledgement the new one.
func wantOldOrNew(t *testing.T, w *world, old *trust.Repository, sc scenario, acknowledged bool) (isNew bool) {
	t.Helper()
	got := w.whole()
	for _, role := range trust.Roles() {
		if d := got.Version(role) - old.Version(role); d < 0 || d > 3 {
			t.Fatalf("%s: expected at least %d, got %d", role, old.Version(role), got.Version(role))
		}
	}
	isNew = got.Version(sc.role) > old.Version(sc.role)
	if acknowledged && !isNew {
		t.Fatal("what was acknowledged is lost")
	}
	if acknowledged && got.Version(trust.RoleTimestamp) <= old.Version(trust.RoleTimestamp) {
		t.Fatal("expected a new timestamp after whatever is new")
	}
	if sc.role != trust.RoleTargets {
		return isNew
	}
	want := []string{one, two}
	if isNew {
		want = []string{two, three}
	}
	if names := testworld.Listed(got); !slices.Equal(names, want) {
		t.Fatalf("expected %v listed, got %v", want, names)
	}
	return isNew
}

// TestCrashAtEveryStep stops at each step of each change, before and after it, restarts, and goes on.
func TestCrashAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	base := faultWorld(t)
	old := base.whole()
	for _, sc := range scenarios(t, base) {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			seen := map[bool]int{}
			total := 1
			for n := 1; n <= total; n++ {
				for _, after := range []bool{false, true} {
					w := base.on(t)
					var steps *int
					w.fs, steps = testworld.Crash(n, after)
					acknowledged := w.tryOpen() == nil && sc.run(w, once) == nil
					if acknowledged {
						total = *steps
					} else {
						total = max(total, n+1)
					}
					w.close()
					w.fs = disk.FS{}
					w.open()
					seen[wantOldOrNew(t, w, old, sc, acknowledged)]++
					must(t, sc.run(w, once))
					w.restart()
					wantOldOrNew(t, w, old, sc, true)
					w.wantKept(nil, nil)
				}
			}
			if total < 6 || seen[false] == 0 || seen[true] == 0 {
				t.Errorf("expected crashes that leave the old one and some that leave the new one, got %v in %d steps", seen, total)
			}
			t.Logf("%d steps, each before and after: %d times the old repository, %d times the new", total, seen[false], seen[true])
		})
	}
}

// on returns a world of another test on a copy of the directory, which is not open.
func (w *world) on(t *testing.T) *world {
	t.Helper()
	other := *w
	other.t, other.dir, other.s, other.Origin = t, filepath.Join(testworld.TempDir(t), "copy"), nil, nil
	must(t, os.CopyFS(other.dir, os.DirFS(w.dir)))
	t.Cleanup(func() { other.close() })
	return &other
}

// TestFailureAtEveryStep has the disk fail once, at each step of each change, with the step done all
// the same or not. The same process then repeats the call that failed and goes on.
func TestFailureAtEveryStep(t *testing.T) {
	t.Parallel()
	base := faultWorld(t)
	old := base.whole()
	for _, sc := range scenarios(t, base) {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			failures := map[string]int{}
			for n, done := 1, false; !done; n++ {
				for _, applied := range []bool{false, true} {
					done = failOnce(t, base.on(t), old, sc, n, applied, failures)
				}
			}
			if len(failures) == 0 {
				t.Error("expected failures")
			}
			for _, step := range slices.Sorted(maps.Keys(failures)) {
				t.Logf("%s: failed %d times", step, failures[step])
			}
		})
	}
}

// failOnce reports whether there was no step n.
func failOnce(t *testing.T, w *world, old *trust.Repository, sc scenario, n int, applied bool, failures map[string]int) bool {
	t.Helper()
	steps := 0
	opened := false
	w.fs = disk.FS{Hook: func(disk.Op, string) (bool, error) {
		if !opened {
			return true, nil
		}
		if steps++; steps == n {
			return applied, syscall.ENOSPC
		}
		return true, nil
	}}
	w.open()
	opened = true
	err := sc.run(w, func(step string, call func() error) error {
		err := call()
		if err == nil {
			return nil
		}
		failures[step]++
		if f := origin.FailureOf(err); f.Code != "no_space" {
			t.Fatalf("%s, step %d: expected code no_space, got %q: %v", step, n, f.Code, err)
		}
		if missing := w.s.Missing(w.s.Repository()); len(missing) > 0 {
			t.Fatalf("%s, step %d: missing: %v", step, n, missing)
		}
		wantOldOrNew(t, w, old, sc, false)
		return call()
	})
	if err != nil {
		t.Fatalf("step %d: again: %v", n, err)
	}
	opened = false
	w.restart()
	wantOldOrNew(t, w, old, sc, true)
	w.wantKept(nil, nil)
	return steps < n
}

// TestAcknowledgedIsSynced has the very last step of a commit fail: the timestamp has its name, but the
// directory may not be on the disk. To commit again must bring it there and not only look.
func TestAcknowledgedIsSynced(t *testing.T) {
	for what, before := range map[string]func(w *world){
		"after a start":  func(*world) {},
		"after a commit": func(w *world) { w.publish(two) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.close()
			armed, named, synced := false, false, 0
			w.fs = disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
				named = named || armed && op == disk.OpRename && strings.HasSuffix(path, trust.TimestampName)
				if named && op == disk.OpSyncDir && strings.HasSuffix(path, "metadata") {
					if synced++; synced < 3 {
						return false, testworld.ErrCrash
					}
				}
				return true, nil
			}}
			w.open()
			before(w)
			out := w.send(w.list(w.releases, one), origin.StatusStaged)
			must(t, w.upload(out))
			armed = true
			for range 2 {
				_, err := w.Commit(t.Context(), out.ID)
				wantErr(t, err, testworld.ErrCrash)
			}
			v, err := w.Commit(t.Context(), out.ID)
			must(t, err)
			if v.Targets < 2 || synced < 3 {
				t.Fatalf("expected it published and synced, got %v after %d attempts", v, synced)
			}
		})
	}
}

// TestFullDisk publishes on a file system that is too small, and again when there is room.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	w.publish(one)
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		testworld.NotTested(t, "an origin on a full disk", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	small := w.on(t)
	must(t, os.CopyFS(filepath.Join(dir, "R"), os.DirFS(w.dir)))
	small.dir = filepath.Join(dir, "R")
	small.open()
	t.Cleanup(small.close)
	small.refuse(small.list(w.releases, big), disk.ErrNoSpace)
	fill := filepath.Join(dir, "fill")
	out := small.send(small.list(w.releases, two), origin.StatusStaged)
	fillUp(t, fill)
	for range 2 {
		wantErr(t, small.upload(out), disk.ErrNoSpace)
		small.wantListed(one)
	}
	must(t, os.Remove(fill))
	must(t, small.upload(out))
	fillUp(t, fill)
	_, err := small.Commit(t.Context(), out.ID)
	wantErr(t, err, disk.ErrNoSpace)
	small.wantListed(one)
	wantErr(t, small.Renew(t.Context()), disk.ErrNoSpace)
	must(t, os.Remove(fill))
	_, err = small.Commit(t.Context(), out.ID)
	must(t, err)
	small.wantListed(one, two)
}

// fillUp writes until there is no room.
func fillUp(t *testing.T, path string) {
	t.Helper()
	wantErr(t, os.WriteFile(path, make([]byte, 8<<20), 0o600), syscall.ENOSPC)
}
