package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// later makes the store's clock say so much more than it is.
func later(s *Store, d time.Duration) { s.c.Now = func() time.Time { return time.Now().Add(d) } }

func collect(t *testing.T, s *Store, o GC) []update.Digest {
	t.Helper()
	got, err := s.GC(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return got.Digests
}

func digestOf(name string) update.Digest {
	d, _ := sumsOf(name)
	return d
}

// withdrawn returns a store that once listed an update, and whose present list and the one before don't
// name it; the list that does is served for an hour.
func withdrawn(t *testing.T) (*origin, *Store) {
	t.Helper()
	o, s := newStore(t, small, other)
	mustPublish(t, s, o.lists(small))
	mustPublish(t, s, o.lists(small, large))
	return o, s
}

func TestGC(t *testing.T) {
	o, s := newStore(t, small, other)
	u := release(t, o.repo, other).Update()
	s.c.Superseded = 72 * time.Hour
	mustReload(t, s)
	mustPublish(t, s, o.lists(small))
	later(s, 48*time.Hour)
	if got := collect(t, s, GC{}); got != nil {
		t.Errorf("collected %v, which a list names that is still served", got)
	}
	s.c.Superseded = time.Hour
	mustReload(t, s)
	reader, err := s.Open(u)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	later(s, 23*time.Hour)
	if got := collect(t, s, GC{}); got != nil {
		t.Errorf("collected %v within the grace period", got)
	}
	later(s, 25*time.Hour)
	if got := collect(t, s, GC{Keep: func(d update.Digest) bool { return d == u.Digest }}); got != nil {
		t.Errorf("collected %v, which is spoken for", got)
	}
	want := []update.Digest{u.Digest}
	if got := collect(t, s, GC{DryRun: true}); !slices.Equal(got, want) || !exists(t, s.blobPath(u.Digest)) {
		t.Errorf("dry run: would collect %v, want %v, and it is there: %t", got, want, exists(t, s.blobPath(u.Digest)))
	}
	out, err := s.GC(t.Context(), GC{})
	if err != nil || !slices.Equal(out.Digests, want) || out.Bytes != u.Length {
		t.Errorf("collected %v, %v, want %v with %d bytes", out, err, want, u.Length)
	}
	if exists(t, s.blobPath(u.Digest)) || exists(t, s.blocksPath(u.Digest)) {
		t.Error("it is still there")
	}
	got := make([]byte, u.Length)
	if _, err := reader.ReadAt(got, 0); err != nil || !bytes.Equal(got, content(other)) {
		t.Errorf("who was reading it gets %q, %v", got, err)
	}
	o.check(s)
	mustPublish(t, s, o.lists(small, other))
	o.check(s)
}

// TestGCOfQuarantine leaves what an archive may still be made of, and takes what is of no use after a week.
func TestGCOfQuarantine(t *testing.T) {
	o, s := newStore(t, small, large)
	rel := release(t, o.repo, large)
	spoil(t, s.blobPath(rel.Digest()))
	if _, err := s.Check(t.Context(), Check{Hash: true, Quarantine: true}); err != nil {
		t.Fatal(err)
	}
	path := s.path(quarantineDir, rel.Digest().String())
	left := func(want bool) {
		t.Helper()
		if collect(t, s, GC{}); exists(t, path) != want {
			t.Errorf("it is in quarantine: %t", !want)
		}
	}
	later(s, partLife+time.Hour)
	left(true)
	later(s, 0)
	mustDo(t, ingest(s, rel))
	left(true)
	later(s, partLife+time.Hour)
	left(false)
	o.check(s)
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// TestGCLeavesWhatIsWanted has an archive that is about to be listed again, before, while and after it
// is looked for.
func TestGCLeavesWhatIsWanted(t *testing.T) {
	o, s := withdrawn(t)
	later(s, 48*time.Hour)
	next := o.lists(small, other)
	in := mustIngest(t, s, release(t, next, other))
	wantMissing(t, in)
	for _, dry := range []bool{true, false} {
		if got := collect(t, s, GC{DryRun: dry}); got != nil {
			t.Fatalf("collected %v, which is arriving", got)
		}
	}
	mustClose(t, in)
	before, err := os.Stat(s.blobPath(digestOf(other)))
	if err != nil {
		t.Fatal(err)
	}
	// The change time was renewed: an hour before the grace period is over since then, it stays.
	s.c.Now = func() time.Time { return disk.StampOf(before).ChangeTime().Add(s.c.Grace - time.Hour) }
	if got := collect(t, s, GC{}); got != nil {
		t.Fatalf("collected %v, which was just wanted", got)
	}
	mustPublish(t, s, next)
	later(s, 48*time.Hour)
	if got := collect(t, s, GC{}); slices.Contains(got, digestOf(other)) {
		t.Fatalf("collected %v, which is listed", got)
	}
	o.check(s)
}

// TestIngestRenewsTheGrace sees an old archive become young again.
func TestIngestRenewsTheGrace(t *testing.T) {
	o, s := withdrawn(t)
	old, err := os.Stat(s.blobPath(digestOf(other)))
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustIngest(t, s, release(t, o.lists(small, other), other)))
	young, err := os.Stat(s.blobPath(digestOf(other)))
	if err != nil || !disk.StampOf(young).ChangeTime().After(disk.StampOf(old).ChangeTime()) {
		t.Errorf("changed %v, before that %v, %v", disk.StampOf(young).ChangeTime(), disk.StampOf(old).ChangeTime(), err)
	}
}

// TestCommitAfterGC lists an archive again that is gone by then.
func TestCommitAfterGC(t *testing.T) {
	o, s := withdrawn(t)
	later(s, 48*time.Hour)
	next := o.lists(small, other)
	in := mustIngest(t, s, release(t, next, other)) // in place, and done
	mustClose(t, in)
	if got := collect(t, s, GC{}); len(got) != 1 {
		t.Fatalf("collected %v, want one", got)
	}
	wantErr(t, s.Commit(t.Context(), next), ErrIncomplete)
	again := mustIngest(t, s, release(t, next, other))
	wantMissing(t, again, 0)
	mustClose(t, again)
	mustPublish(t, s, next)
	o.check(s)
}

// TestArrivalOutlivesItsArchive has an open Ingest of an archive that goes to quarantine.
func TestArrivalOutlivesItsArchive(t *testing.T) {
	o, s := newStore(t, small, large)
	rel := release(t, o.repo, large)
	in := mustIngest(t, s, rel)
	defer mustClose(t, in)
	wantMissing(t, in)
	spoil(t, s.blobPath(rel.Digest()))
	if _, err := s.Check(t.Context(), Check{Hash: true, Quarantine: true}); err != nil {
		t.Fatal(err)
	}
	again := mustIngest(t, s, rel)
	defer mustClose(t, again)
	wantMissing(t, again, 0, 1)
	wantMissing(t, in, 0, 1)
	wantErr(t, in.Commit(t.Context()), ErrIncomplete)
	mustPublish(t, s, o.repo)
	o.check(s)
}

func TestGCWithoutRepository(t *testing.T) {
	o := newOrigin(t)
	s := mustOpen(t, o.config(filepath.Join(testworld.TempDir(t), "R")))
	next := o.lists(small)
	if err := ingest(s, release(t, next, small)); err != nil {
		t.Fatal(err)
	}
	later(s, 48*time.Hour)
	if got := collect(t, s, GC{}); got != nil {
		t.Errorf("collected %v", got)
	}
	mustPublish(t, s, next)
	o.check(s)
}

// TestStaleParts go after a week, but not while they arrive; what is not ours stays.
func TestStaleParts(t *testing.T) {
	_, s, next, in := arriving(t, large, 0)
	proposal := s.path(stagingDir, "7.targets.json")
	if err := os.WriteFile(proposal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	later(s, 8*24*time.Hour)
	collect(t, s, GC{})
	if !exists(t, in.partial.partPath()) {
		t.Error("an old part is gone while it arrives")
	}
	mustWrite(t, in, large, 1)
	mustClose(t, in)
	collect(t, s, GC{})
	if !exists(t, proposal) {
		t.Error("a proposal that waits for signatures is gone")
	}
	if err := os.Remove(proposal); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s.path(stagingDir))
	later(s, 6*24*time.Hour)
	in = mustIngest(t, s, release(t, next, large))
	mustWrite(t, in, large, 1)
	mustClose(t, in)
	collect(t, s, GC{})
	in = mustIngest(t, s, release(t, next, large))
	defer mustClose(t, in)
	wantMissing(t, in, 0)
}

// TestOrphanedList is what a crash between the two removals of GC leaves.
func TestOrphanedList(t *testing.T) {
	_, s := withdrawn(t)
	if err := os.Remove(s.blobPath(digestOf(other))); err != nil {
		t.Fatal(err)
	}
	later(s, 48*time.Hour)
	if got := collect(t, s, GC{}); got != nil || exists(t, s.blocksPath(digestOf(other))) {
		t.Errorf("collected %v, and the list is there: %t", got, exists(t, s.blocksPath(digestOf(other))))
	}
}

// spoil changes one byte of a file, whose length and times stay.
func spoil(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0), os.Chmod(path, info.Mode()), os.Chtimes(path, time.Time{}, info.ModTime())); err != nil {
		t.Fatal(err)
	}
}

// TestCheck finds what is damaged or missing, moves it away, and lets it arrive anew.
func TestCheck(t *testing.T) {
	cases := map[string]struct {
		harm func(path string)
		deep bool // it takes reading to find it
		want error
	}{
		"changed":  {func(path string) { spoil(t, path) }, true, ErrCorrupt},
		"cut":      {func(path string) { mustDo(t, os.Truncate(path, 3)) }, false, ErrCorrupt},
		"removed":  {func(path string) { mustDo(t, os.Remove(path)) }, false, fs.ErrNotExist},
		"replaced": {func(path string) { mustDo(t, os.Remove(path)); mustDo(t, os.Mkdir(path, 0o755)) }, false, ErrCorrupt},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			o, s := newStore(t, small, large)
			rel := release(t, o.repo, large)
			c.harm(s.blobPath(rel.Digest()))
			problems, err := s.Check(t.Context(), Check{})
			if err != nil || len(problems) > 0 == c.deep {
				t.Fatalf("without reading: %v, %v", problems, err)
			}
			for _, quarantine := range []bool{false, true} {
				count := 0
				problems, err = s.Check(t.Context(), Check{Hash: true, Quarantine: quarantine, Checked: func(trust.Release) { count++ }})
				if err != nil || len(problems) != 1 || problems[0].Name != rel.Name() || count != 2 {
					t.Fatalf("%v, %v, %d checked", problems, err, count)
				}
				wantErr(t, problems[0].Err, c.want)
			}
			if _, err := s.Open(rel.Update()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("still served: %v", err)
			}
			if moved := exists(t, s.path(quarantineDir, rel.Digest().String())); moved != (c.want != fs.ErrNotExist) {
				t.Errorf("in quarantine: %t", moved)
			}
			if got := s.Missing(o.repo); len(got) != 1 || got[0].Name() != rel.Name() {
				t.Errorf("missing: %v", got)
			}
			if err := ingest(s, rel); err != nil {
				t.Fatal(err)
			}
			o.check(s) // its path too, without a commit
		})
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRepairedMeanwhile has an archive arrive anew while a check has the damaged one in hand.
func TestRepairedMeanwhile(t *testing.T) {
	o, s := newStore(t, small)
	rel := release(t, o.repo, small)
	damaged, err := os.Lstat(s.blobPath(rel.Digest()))
	mustDo(t, errors.Join(err, os.Rename(s.blobPath(rel.Digest()), filepath.Join(s.Dir(), "damaged")), ingest(s, rel)))
	mustDo(t, s.quarantine(rel.Digest(), damaged))
	o.check(s)
}

// TestCheckUnlisted finds a damaged archive before it is listed again.
func TestCheckUnlisted(t *testing.T) {
	o, s := withdrawn(t)
	spoil(t, s.blobPath(digestOf(other)))
	problems, err := s.Check(t.Context(), Check{Hash: true, Quarantine: true})
	if err != nil || len(problems) != 1 || problems[0].Digest != digestOf(other) || !problems[0].Name.IsZero() {
		t.Fatalf("%v, %v", problems, err)
	}
	wantErr(t, problems[0].Err, ErrCorrupt)
	mustPublish(t, s, o.lists(small, other))
	o.check(s)
}

// TestDamagedList is computed anew, and replaced by a check.
func TestDamagedList(t *testing.T) {
	o, s := newStore(t, small, large)
	rel := release(t, o.repo, large)
	_, want := sumsOf(large)
	path := s.blocksPath(rel.Digest())
	for what, harm := range map[string]func(){
		"changed": func() { spoil(t, path) },
		"removed": func() { mustDo(t, os.Remove(path)) },
		"long":    func() { mustDo(t, errors.Join(os.Remove(path), os.WriteFile(path, make([]byte, 1<<20), 0o444))) },
	} {
		harm()
		if got, err := s.Blocks(rel.Update()); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
		if _, err := s.storedBlocks(rel); err != nil {
			t.Errorf("%s: not stored again: %v", what, err)
		}
	}
	spoil(t, path)
	problems, err := s.Check(t.Context(), Check{Hash: true, Quarantine: true})
	if err != nil || len(problems) != 1 {
		t.Fatalf("%v, %v", problems, err)
	}
	o.check(s)
	mustDo(t, os.Remove(path))
	spoil(t, s.blobPath(rel.Digest()))
	_, err = s.Blocks(rel.Update())
	wantErr(t, err, ErrCorrupt)
	_, err = s.Open(rel.Update())
	wantErr(t, err, fs.ErrNotExist)
}

// shelf is a directory of files by digest.
type shelf string

func (d shelf) OpenDigest(digest update.Digest) (*os.File, bool) {
	f, err := os.Open(filepath.Join(string(d), digest.String()))
	return f, err == nil
}

// TestElsewhere lists an update whose archive somebody else keeps.
func TestElsewhere(t *testing.T) {
	o := newOrigin(t)
	place := shelf(t.TempDir())
	c := o.config(filepath.Join(testworld.TempDir(t), "R"))
	c.Elsewhere = place.OpenDigest
	s := mustOpen(t, c)
	next := o.lists(large)
	rel := release(t, next, large)
	path := filepath.Join(string(place), rel.Digest().String())
	mustDo(t, os.WriteFile(path, content(large)[1:], 0o444))
	if s.Has(rel) {
		t.Error("an archive of another length counts")
	}
	wantErr(t, s.Commit(t.Context(), next), ErrIncomplete)
	mustDo(t, errors.Join(os.Remove(path), os.WriteFile(path, content(large), 0o444)))
	in := mustIngest(t, s, rel)
	wantMissing(t, in)
	mustDo(t, errors.Join(in.Commit(t.Context()), in.Close()))
	mustPublish(t, s, next)
	o.checkServed(s)
	if checkBlobs(t, s.Dir()) != 0 {
		t.Error("it was copied")
	}
	_, want := sumsOf(large)
	for range 2 {
		if got, err := s.Blocks(rel.Update()); err != nil || !slices.Equal(got, want) {
			t.Errorf("blocks: %v, %v", got, err)
		}
	}
	mustDo(t, os.Remove(path))
	_, err := s.Open(rel.Update())
	wantErr(t, err, fs.ErrNotExist)
	mustPublish(t, s, next)
	o.check(s)
}

// TestMetadata serves what is current and what was before, under strict names, and nothing else.
func TestMetadata(t *testing.T) {
	o, s := newStore(t, small)
	mustPublish(t, s, o.newRoot())
	mustPublish(t, s, o.lists(small, other))
	for _, name := range []string{"1.root.json", "2.root.json", "timestamp.json", trust.FileName(trust.RoleTargets, o.repo.Version(trust.RoleTargets)), trust.FileName(trust.RoleTargets, o.repo.Version(trust.RoleTargets)-1)} {
		if b, err := s.Metadata(name); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	planted := "3.root.json"
	mustDo(t, os.WriteFile(s.path(metadataDir, planted), []byte("{}"), 0o644))
	mustDo(t, os.Remove(s.path(metadataDir, "1.root.json")))
	mustDo(t, os.Symlink("ledger", s.path(metadataDir, "1.root.json")))
	for _, name := range []string{planted, "9.targets.json", "ledger", "root.json", "../lock", "01.root.json", "1.root.json/", "", "0.timestamp.json"} {
		if b, err := s.Metadata(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %d bytes, %v", name, len(b), err)
		}
	}
	if b, err := s.Metadata("1.root.json"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("through a symbolic link: %q, %v", b, err)
	}
}

// TestNoRepository is a mirror before its first refresh.
func TestNoRepository(t *testing.T) {
	o := newOrigin(t)
	s := mustOpen(t, o.config(filepath.Join(testworld.TempDir(t), "R")))
	if s.Repository() != nil || !s.Catalog().HadUpdates() || len(s.Catalog().Updates()) > 0 || s.Root().Version() != 1 || s.Ledger().Len() > 0 {
		t.Error("there is a repository, or it says that there are no updates")
	}
	_, err := s.Metadata("timestamp.json")
	wantErr(t, err, fs.ErrNotExist)
	_, err = s.Check(t.Context(), Check{})
	wantErr(t, err, trust.ErrNone)
	if err := s.Commit(t.Context(), nil); err == nil {
		t.Error("committed nothing")
	}
	c := s.Catalog()
	mustPublish(t, s, o.lists(small))
	after := s.Catalog()
	o.check(s)
	if after == c || after != s.Catalog() {
		t.Error("the catalog changes otherwise than with a commit")
	}
}

// TestRefusedCommit keeps what is served, to the pointer.
func TestRefusedCommit(t *testing.T) {
	o, s := newStore(t, small)
	old := o.repo
	mustPublish(t, s, o.lists(small, other))
	r, c := s.Repository(), s.Catalog()
	wantErr(t, s.Commit(t.Context(), old), trust.ErrRollback)
	wantErr(t, s.Commit(t.Context(), o.lists(small, large)), ErrIncomplete)
	if s.Repository() != r || s.Catalog() != c {
		t.Error("a refused commit changed what is served")
	}
	o.check(s)
}
