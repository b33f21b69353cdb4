package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// arriving returns a store in which the update of that name is arriving, as far as the given blocks.
func arriving(t *testing.T, name string, blocks ...int) (*origin, *Store, *trust.Repository, *Ingest) {
	t.Helper()
	o, s := newStore(t, small)
	next := o.lists(small, name)
	in := mustIngest(t, s, release(t, next, name))
	t.Cleanup(func() { mustClose(t, in) })
	for _, i := range blocks {
		mustWrite(t, in, name, i)
	}
	return o, s, next, in
}

func mustWrite(t *testing.T, in *Ingest, name string, i int) {
	t.Helper()
	if err := in.WriteBlock(i, blockOf(content(name), i)); err != nil {
		t.Fatal(err)
	}
}

// The name of a directory of archives is brought to the disk by the first archive that goes there, and not by each.
func TestDirectoryOfArchivesIsSyncedOnce(t *testing.T) {
	_, s := newStore(t, small)
	var synced []string
	s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if op == disk.OpSyncDir {
			synced = append(synced, path)
		}
		return true, nil
	}
	first, second := update.Digest{0xab, 1}, update.Digest{0xab, 2}
	top := []string{s.path(blobDir)}
	for _, step := range []struct {
		digest update.Digest
		want   []string
	}{{first, top}, {second, nil}} {
		synced = nil
		if err := s.putBlocks(step.digest, update.Blocks{step.digest}); err != nil || !slices.Equal(synced, step.want) {
			t.Errorf("%v: synced %q, want %q; %v", step.digest, synced, step.want, err)
		}
	}
	if err := os.Remove(s.path(blobDir, "ab")); err != nil {
		t.Fatal(err)
	}
	synced = nil
	if err := s.putBlocks(second, update.Blocks{second}); err != nil || !slices.Equal(synced, top) {
		t.Errorf("after it was removed: synced %q, want %q; %v", synced, top, err)
	}
}

func wantMissing(t *testing.T, in *Ingest, want ...int) {
	t.Helper()
	if got := in.Missing(); !slices.Equal(got, want) {
		t.Fatalf("missing are %v, want %v", got, want)
	}
}

func TestIngestRefuses(t *testing.T) {
	o, s := newStore(t, small)
	rel := release(t, o.lists(small, large), large)
	_, blocks := sumsOf(large)
	ingest := func(s *Store, rel trust.Release, blocks update.Blocks) error {
		in, err := s.Ingest(t.Context(), rel, blocks)
		if err == nil {
			mustClose(t, in)
		}
		return err
	}
	if err := ingest(s, trust.Release{}, blocks); err == nil {
		t.Error("took no release")
	}
	wantErr(t, ingest(s, rel, blocks[:1]), ErrCorrupt)
	wantErr(t, ingest(s, rel, nil), ErrCorrupt)
	changed := slices.Clone(blocks)
	changed[1][31] ^= 1
	wantErr(t, ingest(s, rel, changed), ErrCorrupt)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Ingest(cancelled, rel, blocks)
	wantErr(t, err, context.Canceled)
	reader, err := OpenReadOnly(t.Context(), o.config(s.Dir()))
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, ingest(reader, rel, blocks), ErrReadOnly)
	wantEmpty(t, s.path(stagingDir))
	if err := ingest(s, rel, blocks); err != nil {
		t.Error(err)
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%s holds %v, %v", dir, left, err)
	}
}

// TestOneDigestWithTwoLists is a signer's mistake that must not mix two archives.
func TestOneDigestWithTwoLists(t *testing.T) {
	o, s, next, _ := arriving(t, large, 0)
	o.repo = s.Repository()
	_, wrong := blocksOf(content(huge))
	p := o.propose(func(a *trust.Addition) {
		if a.Name.String() == huge {
			a.Digest = release(t, next, large).Digest()
		}
	}, small, huge)
	_, err := s.Ingest(t.Context(), release(t, o.next(trust.Change{Targets: p}), huge), wrong)
	wantErr(t, err, ErrCorrupt)
}

func TestWriteBlockRefuses(t *testing.T) {
	_, s, next, in := arriving(t, large)
	data := content(large)
	first := blockOf(data, 0)
	changed := bytes.Clone(first)
	changed[len(changed)-1] ^= 1
	for what, p := range map[string][]byte{"changed": changed, "short": first[1:], "long": append(bytes.Clone(first), 0), "another": blockOf(data, 1), "none": nil} {
		if err := in.WriteBlock(0, p); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, i := range []int{-1, 2, 1 << 30} {
		if err := in.WriteBlock(i, first); err == nil {
			t.Errorf("took block %d", i)
		}
	}
	part, err := os.ReadFile(s.path(stagingDir, release(t, next, large).Digest().String()+partSuffix))
	if err != nil || !bytes.Equal(part, make([]byte, len(data))) {
		t.Errorf("a refused block reached the disk, %v", err)
	}
	wantMissing(t, in, 0, 1)
	wantErr(t, in.Commit(t.Context()), ErrIncomplete)
	if s.Has(release(t, next, large)) {
		t.Error("an archive without blocks is in place")
	}
}

// TestEveryOrder brings the blocks in all orders of three callers, of which each knows its own only.
func TestEveryOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}, {1, 1, 0, 0}} {
		o, s, next, in := arriving(t, large)
		for _, i := range order {
			one := mustIngest(t, s, release(t, next, large))
			mustWrite(t, one, large, i)
			mustClose(t, one)
			mustClose(t, one)
		}
		wantMissing(t, in)
		if err := in.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := in.Commit(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
		mustPublish(t, s, next)
		o.check(s)
		info, err := os.Stat(s.blobPath(release(t, next, large).Digest()))
		if err != nil || info.Mode().Perm() != 0o444 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

// TestBlocksInOrderAreNotReadBack removes the bytes from under an arrival: what was hashed on the way
// in is not hashed again, what came out of order is read once.
func TestBlocksInOrderAreNotReadBack(t *testing.T) {
	_, _, _, in := arriving(t, huge)
	for i := range syncBlocks + 1 {
		mustWrite(t, in, huge, i)
		if in.partial.hashed != i+1 {
			t.Fatalf("block %d is not hashed", i)
		}
	}
	_, _, _, in = arriving(t, huge, 3, 2, 1, 0)
	if in.partial.hashed != 3 {
		t.Errorf("%d blocks are hashed of those that came before their turn, want 3", in.partial.hashed)
	}
	mustWrite(t, in, huge, 5)
	mustWrite(t, in, huge, 4)
	if in.partial.hashed != 6 {
		t.Errorf("%d blocks are hashed, want 6", in.partial.hashed)
	}
}

// TestResume goes on in another store, as another process would: synced or closed, nothing comes twice.
func TestResume(t *testing.T) {
	o, s, next, in := arriving(t, huge)
	for i := range syncBlocks {
		mustWrite(t, in, huge, i)
	}
	wantMissing(t, in, syncBlocks)
	in.partial.mu.Lock()
	in.partial.awaitSync()
	in.partial.mu.Unlock()
	// What a kill would leave: the map as it is.
	killed := copyDir(t, s.Dir())
	resumed := mustOpen(t, o.config(killed))
	again := mustIngest(t, resumed, release(t, next, huge))
	defer mustClose(t, again)
	wantMissing(t, again, syncBlocks)
	mustWrite(t, again, huge, syncBlocks)
	if err := again.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, resumed, next)
	o.check(resumed)

	_, s, next, in = arriving(t, large, 1)
	mustClose(t, in)
	in = mustIngest(t, s, release(t, next, large))
	defer mustClose(t, in)
	wantMissing(t, in, 0)
}

// copyDir copies a store without its hard links.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(testworld.TempDir(t), "R")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestMapThatLies says that blocks are there which are not: they come again, the others don't.
func TestMapThatLies(t *testing.T) {
	o, s, next, in := arriving(t, large, 0, 1)
	mustClose(t, in)
	part := s.path(stagingDir, release(t, next, large).Digest().String()+partSuffix)
	f, err := os.OpenFile(part, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("tampered"), 100)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	in = mustIngest(t, s, release(t, next, large))
	defer mustClose(t, in)
	wantMissing(t, in)
	wantErr(t, in.Commit(t.Context()), ErrIncomplete)
	wantMissing(t, in, 0)
	mustWrite(t, in, large, 0)
	if err := in.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, s, next)
	o.check(s)
}

// TestPartOfAnotherLength has lost its blocks, whatever the map says.
func TestPartOfAnotherLength(t *testing.T) {
	_, s, next, in := arriving(t, large, 0, 1)
	mustClose(t, in)
	if err := os.Truncate(in.partial.partPath(), 5); err != nil {
		t.Fatal(err)
	}
	in = mustIngest(t, s, release(t, next, large))
	defer mustClose(t, in)
	wantMissing(t, in, 0, 1)
	if _, err := os.Stat(in.partial.mapPath()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the map stays: %v", err)
	}
}

// TestWholeIsAnother has a signed digest that the signed blocks don't make: nothing is left of it.
func TestWholeIsAnother(t *testing.T) {
	o, s := newStore(t, small)
	p := o.propose(func(a *trust.Addition) {
		if a.Name.String() == large {
			a.Digest[0] ^= 1
		}
	}, small, large)
	in := mustIngest(t, s, release(t, o.next(trust.Change{Targets: p}), large))
	defer mustClose(t, in)
	mustWrite(t, in, large, 0)
	mustWrite(t, in, large, 1)
	wantErr(t, in.Commit(t.Context()), ErrCorrupt)
	wantEmpty(t, s.path(stagingDir))
	wantMissing(t, in, 0, 1)
	wantErr(t, in.WriteBlock(0, blockOf(content(large), 0)), fs.ErrClosed)
	wantErr(t, s.Commit(t.Context(), o.repo), ErrIncomplete)
}

// TestFailedSync forgets what the disk may have lost: a second fsync would say nothing of it.
func TestFailedSync(t *testing.T) {
	fault := errors.New("fault")
	o, s, next, in := arriving(t, huge)
	failing := true
	s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if failing && op == disk.OpSync && filepath.Ext(path) == partSuffix {
			return false, fault
		}
		return true, nil
	}
	for i := range syncBlocks {
		mustWrite(t, in, huge, i)
	}
	wantErr(t, in.Commit(t.Context()), fault)
	if got := len(in.Missing()); got != syncBlocks+1 {
		t.Fatalf("%d blocks are missing, want all", got)
	}
	failing = false
	for i := range syncBlocks + 1 {
		mustWrite(t, in, huge, i)
	}
	if err := in.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, s, next)
	o.check(s)
}

// TestCloseTellsWhatASettlingMet: nobody else would be told of it.
func TestCloseTellsWhatASettlingMet(t *testing.T) {
	fault := errors.New("fault")
	_, s, _, in := arriving(t, huge)
	s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if op == disk.OpSync && filepath.Ext(path) == partSuffix {
			return false, fault
		}
		return true, nil
	}
	for i := range syncBlocks {
		mustWrite(t, in, huge, i)
	}
	wantErr(t, s.Close(), fault)
	mustDo(t, in.Close())
}

// TestJoinWhileTheLastLeaves waits for what is being brought to the disk, and goes on with all of it.
func TestJoinWhileTheLastLeaves(t *testing.T) {
	o, s, next, in := arriving(t, large, 1)
	leaving, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if op == disk.OpSync && filepath.Ext(path) == partSuffix {
			once.Do(func() { close(leaving); <-goOn })
		}
		return true, nil
	}
	var left sync.WaitGroup
	left.Go(func() { mustClose(t, in) })
	<-leaving
	rel := release(t, next, large)
	if !s.isIngesting(rel.Digest()) {
		t.Error("nobody can join, and nobody knows that it is being written")
	}
	joined := make(chan *Ingest, 1)
	left.Go(func() {
		_, blocks := sumsOf(large)
		again, err := s.Ingest(t.Context(), rel, blocks)
		if err != nil {
			t.Error(err)
		}
		joined <- again
	})
	close(goOn)
	left.Wait()
	again := <-joined
	wantMissing(t, again, 0)
	mustWrite(t, again, large, 0)
	mustDo(t, errors.Join(again.Commit(t.Context()), again.Close()))
	if s.isIngesting(rel.Digest()) {
		t.Error("it is arriving still")
	}
	mustPublish(t, s, next)
	o.check(s)
}

// TestCommitAgain follows one that got as far as the name and then failed.
func TestCommitAgain(t *testing.T) {
	fault := errors.New("fault")
	for _, step := range []string{"rename blob", "syncdir sha256/ab"} {
		o, s, next, in := arriving(t, large, 0, 1)
		renamed, failed := false, false
		s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
			name := stepName(s.Dir(), op, path)
			renamed = renamed || name == "rename blob"
			if !renamed || failed || name != step {
				return true, nil
			}
			failed = true
			return true, fault
		}
		wantErr(t, in.Commit(t.Context()), fault)
		mustDo(t, in.Commit(t.Context()))
		mustPublish(t, s, next)
		o.check(s)
	}
}

// TestPlantedParts puts what a store didn't make where it writes: nothing outside is touched.
func TestPlantedParts(t *testing.T) {
	for what, plant := range map[string]func(victim, path string) error{
		"symbolic link": os.Symlink,
		"hard link":     os.Link,
		"pipe":          func(_, path string) error { return syscall.Mkfifo(path, 0o600) },
		"nothing":       func(string, string) error { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			o, s := newStore(t, small)
			next := o.lists(small, large)
			rel := release(t, next, large)
			victim := filepath.Join(s.Dir(), "..", "victim")
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, suffix := range []string{partSuffix, mapSuffix} {
				if err := plant(victim, s.path(stagingDir, rel.Digest().String()+suffix)); err != nil {
					t.Fatal(err)
				}
			}
			mustPublish(t, s, next)
			o.check(s)
			if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
				t.Errorf("it is %q now, %v", got, err)
			}
		})
	}
}

func TestPlantedBlobs(t *testing.T) {
	o, s := newStore(t, small)
	rel := release(t, o.repo, small)
	victim := filepath.Join(s.Dir(), "..", "victim")
	if err := os.WriteFile(victim, content(small), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, plant := range map[string]func(path string) error{
		"symbolic link": func(path string) error { return os.Symlink(victim, path) },
		"pipe":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		path := s.blobPath(rel.Digest())
		if err := errors.Join(os.Remove(path), plant(path)); err != nil {
			t.Fatal(err)
		}
		if s.Has(rel) {
			t.Errorf("%s: counts as the archive", what)
		}
		_, err := s.Open(rel.Update())
		wantErr(t, err, ErrCorrupt)
		problems, err := s.Check(t.Context(), Check{Quarantine: true})
		if err != nil || len(problems) != 1 {
			t.Fatalf("%s: %v, %v", what, problems, err)
		}
		mustPublish(t, s, o.repo)
		o.check(s)
	}
}

func TestIngestFileThatIsAnother(t *testing.T) {
	o, s := newStore(t, small)
	rel := release(t, o.lists(small, large), large)
	data := content(large)
	_, blocks := blocksOf(data)
	for what, f := range map[string][]byte{"short": data[:len(data)-1], "half": data[:update.BlockSize/2], "empty": nil, "changed": append([]byte{'x'}, data[1:]...)} {
		// What arrived from one is there for the next.
		o, s := newStore(t, small)
		rel := release(t, o.lists(small, large), large)
		if err := s.IngestFile(t.Context(), rel, blocks, bytes.NewReader(f)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	longer := append(bytes.Clone(data), "more"...)
	if err := s.IngestFile(t.Context(), rel, blocks, bytes.NewReader(longer)); err != nil {
		t.Error(err)
	}
	checkBlobs(t, s.Dir())
}

// TestClose ends what is arriving. After it nothing is written by anybody, and all is kept.
func TestClose(t *testing.T) {
	o, s, next, in := arriving(t, large, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		t.Errorf("%s %s after Close", op, path)
		return true, nil
	}
	wantErr(t, in.WriteBlock(0, blockOf(content(large), 0)), fs.ErrClosed)
	wantErr(t, in.Commit(t.Context()), ErrIncomplete)
	wantErr(t, s.Commit(t.Context(), s.Repository()), fs.ErrClosed)
	_, err := s.GC(t.Context(), GC{})
	wantErr(t, err, fs.ErrClosed)
	_, err = s.Check(t.Context(), Check{Quarantine: true})
	wantErr(t, err, fs.ErrClosed)
	_, err = s.Ingest(t.Context(), release(t, next, large), in.partial.blocks)
	wantErr(t, err, fs.ErrClosed)
	if err := errors.Join(in.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	s = mustOpen(t, o.config(s.Dir()))
	in = mustIngest(t, s, release(t, next, large))
	defer mustClose(t, in)
	wantMissing(t, in, 0)
	_, err = Open(t.Context(), o.config(s.Dir()))
	wantErr(t, err, disk.ErrLocked)
}

// TestCallersTogether has many callers bring the same blocks, and commit, at the same time.
func TestCallersTogether(t *testing.T) {
	o, s, next, _ := arriving(t, large)
	rel := release(t, next, large)
	data := content(large)
	_, blocks := blocksOf(data)
	var callers sync.WaitGroup
	for n := range 8 {
		callers.Go(func() {
			in, err := s.Ingest(context.Background(), rel, blocks)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range blocks {
				i = (i + n) % len(blocks)
				err = errors.Join(err, in.WriteBlock(i, blockOf(data, i)))
			}
			if err := errors.Join(err, in.Commit(context.Background()), in.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	mustPublish(t, s, next)
	o.check(s)
}

// FuzzParseMap holds that a map is read as it was written, and that nothing else is read.
func FuzzParseMap(f *testing.F) {
	list := update.Sum([]byte("list"))
	for _, n := range []int{0, 1, 7, 8, 9, 300} {
		b := newBlockSet(n)
		for i := 0; i < n; i += 3 {
			b.set(i)
		}
		f.Add(b.encode(list), n)
	}
	f.Add([]byte(mapMagic), 1)
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		if n < 0 || n > update.BlockCount(update.MaxLength) {
			return
		}
		b, err := parseMap(raw, list, n)
		if err != nil {
			return
		}
		if !bytes.Equal(b.encode(list), raw) {
			t.Error("a map has two spellings")
		}
		if got := len(b.missing()) + b.count(); got != n {
			t.Errorf("%d blocks are missing or there, want %d", got, n)
		}
	})
}

// TestMapOfEveryByte changes each byte of a map, and cuts it at each length.
func TestMapOfEveryByte(t *testing.T) {
	list := update.Sum([]byte("list"))
	b := newBlockSet(11)
	b.set(10)
	raw := b.encode(list)
	if _, err := parseMap(raw, list, 11); err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 0x80
		if _, err := parseMap(changed, list, 11); err == nil {
			t.Errorf("byte %d changed", i)
		}
		if _, err := parseMap(raw[:i], list, 11); err == nil {
			t.Errorf("cut at %d", i)
		}
	}
	if _, err := parseMap(raw, update.Sum(nil), 11); err == nil {
		t.Error("of another list")
	}
	for _, n := range []int{9, 10, 17} {
		if _, err := parseMap(raw, list, n); err == nil {
			t.Errorf("for %d blocks", n)
		}
	}
}
