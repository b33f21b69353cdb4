package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// newest keeps the newest of the updates alone.
func newest(r *trust.Repository) []trust.Release {
	releases := r.Releases()
	return releases[max(len(releases)-1, 0):]
}

// newKeeper returns a store that keeps the newest update, and lists those.
func newKeeper(t *testing.T, now func() time.Time, names ...string) (*origin, *Store) {
	t.Helper()
	o := newOrigin(t)
	c := o.config(filepath.Join(testworld.TempDir(t), "R"))
	c.Kept, c.Now = newest, now
	s := mustOpen(t, c)
	mustPublish(t, s, o.lists(names...))
	return o, s
}

func wantGone(t *testing.T, s *Store, rel trust.Release) {
	t.Helper()
	if err := readUpdate(s, rel.Update()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v: expected it not there, got %v", rel.Name(), err)
	}
	if _, err := os.Lstat(s.path(targetsDir, targetFile(rel))); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v: expected no path, got %v", rel.Name(), err)
	}
}

func wantRead(t *testing.T, s *Store, rel trust.Release) {
	t.Helper()
	if err := readUpdate(s, rel.Update()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.path(targetsDir, targetFile(rel))); err != nil {
		t.Fatal(err)
	}
}

func wantSound(t *testing.T, s *Store) {
	t.Helper()
	problems, err := s.Check(t.Context(), Check{Hash: true})
	if err != nil || len(problems) > 0 {
		t.Fatalf("expected no problem, got %v, %v", problems, err)
	}
}

// TestOnlyTheKeptAreNeeded: a commit needs what is kept and nothing else.
func TestOnlyTheKeptAreNeeded(t *testing.T) {
	o := newOrigin(t)
	c := o.config(filepath.Join(testworld.TempDir(t), "R"))
	c.Kept = newest
	s := mustOpen(t, c)
	repo := o.lists(small, other)
	kept, left := release(t, repo, other), release(t, repo, small)
	wantErr(t, s.Commit(t.Context(), repo), ErrIncomplete)
	if missing := s.Missing(repo); len(missing) != 1 || missing[0].Name() != kept.Name() {
		t.Fatalf("expected %v missing, got %v", kept.Name(), missing)
	}
	mustPublish(t, s, repo)
	wantSound(t, s)
	wantRead(t, s, kept)
	wantGone(t, s, left)
	if err := ingest(s, left); err != nil { // somebody wanted it
		t.Fatal(err)
	}
	wantRead(t, s, left)
	wantSound(t, s)
}

// TestKeptThatIsLostIsAProblem: what need not be there is none.
func TestKeptThatIsLostIsAProblem(t *testing.T) {
	_, s := newKeeper(t, nil, small, other)
	kept := release(t, s.Repository(), other)
	if err := os.Remove(s.blobPath(kept.Digest())); err != nil {
		t.Fatal(err)
	}
	problems, err := s.Check(t.Context(), Check{})
	if err != nil || len(problems) != 1 || problems[0].Name != kept.Name() {
		t.Fatalf("expected %v as the one problem, got %v, %v", kept.Name(), problems, err)
	}
}

// TestDamageOfTheUnkeptIsAProblem: bytes that are there must be right, kept or not.
func TestDamageOfTheUnkeptIsAProblem(t *testing.T) {
	_, s := newKeeper(t, nil, small, other)
	left := release(t, s.Repository(), small)
	if err := ingest(s, left); err != nil {
		t.Fatal(err)
	}
	damage(t, s.blobPath(left.Digest()), 0)
	problems, err := s.Check(t.Context(), Check{Hash: true})
	if err != nil || len(problems) != 1 || !errors.Is(problems[0].Err, ErrCorrupt) {
		t.Fatalf("expected one damaged archive, got %v, %v", problems, err)
	}
}

// damage changes one byte of a file.
func damage(t *testing.T, path string, at int64) {
	t.Helper()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, f)
	if _, err := f.WriteAt([]byte{'?'}, at); err != nil {
		t.Fatal(err)
	}
}

// TestGCRemovesTheUnkept: with its path, after the grace period, which begins when it is dropped.
func TestGCRemovesTheUnkept(t *testing.T) {
	at := time.Now()
	o, s := newKeeper(t, func() time.Time { return at }, small)
	old := release(t, s.Repository(), small)
	if err := os.Chtimes(s.blobPath(old.Digest()), at, at); err != nil {
		t.Fatal(err)
	}
	before := changeTime(t, s.blobPath(old.Digest()))
	mustPublish(t, s, o.lists(small, other))
	if after := changeTime(t, s.blobPath(old.Digest())); !after.After(before) {
		t.Error("expected the grace period to begin with the commit that drops an archive")
	}
	at = at.Add(23 * time.Hour)
	if got, err := s.GC(t.Context(), GC{}); err != nil || len(got.Digests) != 0 {
		t.Fatalf("expected nothing removed within the grace period, got %v, %v", got, err)
	}
	at = at.Add(2 * time.Hour)
	if got, err := s.GC(t.Context(), GC{DryRun: true}); err != nil || !slices.Equal(got.Digests, []update.Digest{old.Digest()}) {
		t.Fatalf("expected %v named, got %v, %v", old.Digest(), got, err)
	}
	wantRead(t, s, old)
	if got, err := s.GC(t.Context(), GC{}); err != nil || !slices.Equal(got.Digests, []update.Digest{old.Digest()}) {
		t.Fatalf("expected %v removed, got %v, %v", old.Digest(), got, err)
	}
	wantGone(t, s, old)
	wantRead(t, s, release(t, s.Repository(), other))
	wantSound(t, s)
}

func changeTime(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return disk.StampOf(info).ChangeTime()
}

// TestRoom counts what arrives, what is there, and nothing twice.
func TestRoom(t *testing.T) {
	o := newOrigin(t)
	s := mustOpen(t, o.config(filepath.Join(testworld.TempDir(t), "R")))
	repo := o.lists(small, large)
	big := release(t, repo, large)
	room := func(wanted ...trust.Release) Room {
		t.Helper()
		r, err := s.Room(t.Context(), wanted)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	all := room(append(repo.Releases(), big)...)
	if want := big.Length() + int64(len(content(small))); all.Need < want || all.Need > want+4*fileOverhead {
		t.Errorf("expected need for %d bytes, got %d", want, all.Need)
	}
	if all.Used != 0 || all.Free <= 0 {
		t.Errorf("expected an empty store on a disk with space, got %+v", all)
	}
	in := mustIngest(t, s, big) // sets its space aside
	some := room(big)
	if some.Need > 2*fileOverhead || some.Used < big.Length() {
		t.Errorf("expected the part counted as used, got %+v", some)
	}
	mustClose(t, in)
	mustPublish(t, s, repo)
	if done := room(repo.Releases()...); done.Need != 0 || done.Used < big.Length() || done.Used > big.Length()+fileOverhead {
		t.Errorf("expected all of it used and nothing needed, got %+v", done)
	}
}

// TestSalvage: of a damaged archive the damaged block alone has to come again.
func TestSalvage(t *testing.T) {
	o, s := newStore(t, large)
	rel := release(t, s.Repository(), large)
	damage(t, s.blobPath(rel.Digest()), update.BlockSize+7)
	problems, err := s.Check(t.Context(), Check{Hash: true, Quarantine: true})
	if err != nil || len(problems) != 1 {
		t.Fatalf("expected one problem, got %v, %v", problems, err)
	}
	in := mustIngest(t, s, rel)
	defer mustClose(t, in)
	all := update.BlockCount(rel.Length())
	if n, err := in.Salvage(t.Context()); err != nil || n != all-1 {
		t.Fatalf("expected %d blocks, got %d, %v", all-1, n, err)
	}
	if missing := in.Missing(); !slices.Equal(missing, []int{1}) {
		t.Fatalf("expected block 1 missing, got %v", missing)
	}
	if err := errors.Join(in.WriteBlock(1, blockOf(content(large), 1)), in.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	o.check(s)
}

// TestSalvageOfNothing: an archive that was never in quarantine arrives as ever.
func TestSalvageOfNothing(t *testing.T) {
	o := newOrigin(t)
	s := mustOpen(t, o.config(filepath.Join(testworld.TempDir(t), "R")))
	in := mustIngest(t, s, release(t, o.lists(large), large))
	defer mustClose(t, in)
	if n, err := in.Salvage(t.Context()); err != nil || n != 0 || len(in.Missing()) == 0 {
		t.Errorf("expected nothing taken over, got %d, %v", n, err)
	}
}

// TestEvictRemovesLeftPaths withdraws an archive on a disk that does not remove its path: bytes count as freed only once no
// path holds them.
func TestEvictRemovesLeftPaths(t *testing.T) {
	for what, remove := range map[string]func(*Store) (Collected, error){
		"Evict": func(s *Store) (Collected, error) { return s.Evict(t.Context(), Eviction{Bytes: 1}) },
		"GC":    func(s *Store) (Collected, error) { return s.GC(t.Context(), GC{}) },
	} {
		o, s := newStore(t, "p-1.tar.gz", "p-2.tar.gz")
		s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
			if op == disk.OpRemove && strings.Contains(path, "/targets/") {
				return false, syscall.EIO
			}
			return true, nil
		}
		mustPublish(t, s, o.lists("p-2.tar.gz"))
		s.c.FS.Hook = nil
		at := time.Now().Add(2 * time.Hour)
		if what == "GC" {
			at = at.Add(1000 * time.Hour)
		}
		s.c.Now = func() time.Time { return at }
		if what == "Evict" { // it spares what a superseded list names
			_, err := s.GC(t.Context(), GC{})
			mustDo(t, err)
		}
		got, err := remove(s)
		mustDo(t, err)
		if len(got.Digests) != 1 {
			t.Errorf("%s: expected it to remove one archive, got %+v", what, got)
		}
		if left, err := filepath.Glob(s.path(targetsDir, "*.p-1.tar.gz")); err != nil || len(left) > 0 {
			t.Errorf("%s says that it freed %d bytes, and left %v (%v)", what, got.Bytes, left, err)
		}
	}
}
