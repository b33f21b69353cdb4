package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var (
	day     = testworld.Start // every repository here is signed then
	must    = testworld.Must
	wantErr = testworld.WantErr
)

// The updates of these tests. The large one has two blocks, the huge one more than are synced at once, the
// empty one none.
const (
	small = "opq-box-update-1.tar.bz2"
	other = "opq-box-update-2.tar.gz"
	large = "opq-box-update-3.tar.zst"
	empty = "opq-box-update-4.tar.gz"
	huge  = "opq-box-update-5.tar.zst"
)

// content is the archive of a name, which nobody may change.
func content(name string) []byte {
	switch name {
	case empty:
		return nil
	case huge:
		return hugeContent()
	case large:
		return largeContent()
	}
	return []byte("archive of " + name + "\n")
}

// largeContent is made once, as hugeContent is.
var largeContent = sync.OnceValue(func() []byte {
	return bytes.Repeat([]byte("0123456789abcde\n"), (update.BlockSize+4096)/16)
})

// hugeContent is zero but for the first byte of each of its blocks.
var hugeContent = sync.OnceValue(func() []byte {
	b := make([]byte, (syncBlocks+1)*update.BlockSize)
	for i := range syncBlocks + 1 {
		b[i*update.BlockSize] = byte(i + 1)
	}
	return b
})

func blocksOf(data []byte) (update.Digest, update.Blocks) {
	var h update.Hasher
	h.Write(data)
	d, blocks, _ := h.Result()
	return d, blocks
}

// sumsOf is blocksOf the archive of a name.
func sumsOf(name string) (update.Digest, update.Blocks) {
	if name == large {
		return largeSums()
	}
	return blocksOf(content(name))
}

var largeSums = sync.OnceValues(func() (update.Digest, update.Blocks) { return blocksOf(largeContent()) })

func blockOf(data []byte, i int) []byte {
	return data[i*update.BlockSize:][:update.BlockLength(int64(len(data)), i)]
}

// origin signs repositories.
type origin struct {
	t      testing.TB
	keys   testworld.Keyring
	repo   *trust.Repository
	pinned []byte // the root that everybody else knows
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{t: t, keys: testworld.NewKeyring("")}
	o.repo = o.keys.Init(t, day, 1)
	o.pinned = o.repo.Root().Raw()
	return o
}

// lists makes the next repository, which lists those updates and no others.
func (o *origin) lists(names ...string) *trust.Repository {
	o.t.Helper()
	return o.next(trust.Change{Targets: o.propose(nil, names...)})
}

// propose signs a list of those updates. forge, if not nil, changes what it says of each.
func (o *origin) propose(forge func(*trust.Addition), names ...string) *trust.Proposal {
	o.t.Helper()
	return testworld.SignList(o.t, o.repo, &trust.Ledger{}, day, o.keys.Releases, func(e *trust.TargetsEdit) (err error) {
		for _, rel := range o.repo.Releases() {
			if !slices.Contains(names, rel.Name().String()) {
				err = errors.Join(err, e.Withdraw(rel.Name()))
			}
		}
		for _, n := range names {
			d, blocks := sumsOf(n)
			a := trust.Addition{Name: testworld.Name(n), Digest: d, Length: int64(len(content(n))), Blocks: update.Sum(blocks.Bytes())}
			if forge != nil {
				forge(&a)
			}
			err = errors.Join(err, e.Add(a))
		}
		return err
	})
}

func (o *origin) next(c trust.Change) *trust.Repository {
	o.t.Helper()
	next, err := o.repo.Next(context.Background(), day, c, o.keys.Online)
	must(o.t, err)
	o.repo = next
	return next
}

// newRoot makes a repository with another root.
func (o *origin) newRoot() *trust.Repository {
	o.t.Helper()
	return o.next(trust.Change{Root: testworld.SignRoot(o.t, o.repo, day, o.keys.Roots, testworld.AnotherReleaseKey)})
}

func (o *origin) config(dir string) Config {
	return Config{Dir: dir, Root: o.pinned}
}

func mustOpen(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustClose(t testing.TB, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// newStore returns a store whose repository lists those updates.
func newStore(t testing.TB, names ...string) (*origin, *Store) {
	t.Helper()
	o := newOrigin(t)
	s := mustOpen(t, o.config(filepath.Join(testworld.TempDir(t), "R")))
	if err := publish(s, o.lists(names...)); err != nil {
		t.Fatal(err)
	}
	o.check(s)
	return o, s
}

// publish brings what is missing and commits.
func publish(s *Store, r *trust.Repository) error {
	for _, rel := range s.Missing(r) {
		if err := ingest(s, rel); err != nil {
			return err
		}
	}
	return s.Commit(context.Background(), r)
}

func ingest(s *Store, rel trust.Release) error {
	_, blocks := sumsOf(rel.Name().String())
	return s.IngestFile(context.Background(), rel, blocks, bytes.NewReader(content(rel.Name().String())))
}

func mustPublish(t testing.TB, s *Store, r *trust.Repository) {
	t.Helper()
	if err := publish(s, r); err != nil {
		t.Fatal(err)
	}
}

func release(t testing.TB, r *trust.Repository, name string) trust.Release {
	t.Helper()
	rel, ok := r.Release(testworld.Name(name))
	if !ok {
		t.Fatalf("%s is not listed", name)
	}
	return rel
}

func mustIngest(t testing.TB, s *Store, rel trust.Release) *Ingest {
	t.Helper()
	_, blocks := sumsOf(rel.Name().String())
	in, err := s.Ingest(context.Background(), rel, blocks)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// served is a store as a client fetches its metadata.
type served struct{ *Store }

func (s served) Fetch(ctx context.Context, name string, limit int64, known update.Digest) ([]byte, error) {
	b, err := s.Metadata(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, trust.ErrNotFound)
	}
	if err == nil && !known.IsZero() && update.Sum(b) == known {
		return nil, trust.ErrUnchanged
	}
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, errors.Join(err, ctx.Err())
}

// check is the invariant: what the store serves, what anybody who opens its directory finds, and what a
// server of its files would serve is each one complete, verified repository whose updates can be read,
// and no blob differs from its name.
func (o *origin) check(s *Store) {
	o.t.Helper()
	o.checkServed(s)
	reader, err := OpenReadOnly(context.Background(), o.config(s.Dir()))
	if err != nil {
		o.t.Fatal(err)
	}
	o.checkServed(reader)
	state, err := trust.Open(trust.Config{Dir: s.path(metadataDir), Pinned: o.pinned, DeferRoots: true})
	if err != nil {
		o.t.Fatal(err)
	}
	r, err := state.Current()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := errors.Join(r.Fresh(trust.Clock{Now: day}), r.VerifyDetached()); err != nil {
		o.t.Fatal(err)
	}
	for _, rel := range r.Releases() {
		blob, err := os.Lstat(s.blobPath(rel.Digest()))
		byPath, pathErr := os.Lstat(s.path(targetsDir, targetFile(rel)))
		if err := errors.Join(err, pathErr); err != nil || !os.SameFile(blob, byPath) {
			o.t.Fatalf("%v by its path is another file, %v", rel.Name(), err)
		}
	}
	checkBlobs(o.t, s.Dir())
}

func (o *origin) checkServed(s *Store) {
	o.t.Helper()
	ctx := context.Background()
	state, err := trust.Open(trust.Config{Dir: "/nonexistent", Pinned: o.pinned, DeferRoots: true})
	if err != nil {
		o.t.Fatal(err)
	}
	r, err := state.Refresh(ctx, served{s}, trust.Clock{Now: day})
	if err != nil {
		o.t.Fatalf("a client: %v", err)
	}
	if s.Repository() == nil || !sameRepository(r, s.Repository()) || r.Catalog().Updates() == nil != (s.Catalog().Updates() == nil) {
		o.t.Fatal("a client gets another repository than the store has")
	}
	for _, rel := range r.Releases() {
		if err := readUpdate(s, rel.Update()); err != nil {
			o.t.Fatal(err)
		}
	}
	problems, err := s.Check(ctx, Check{})
	if err != nil || len(problems) > 0 {
		o.t.Fatalf("check: %v, %v", problems, err)
	}
}

// readUpdate reads an update as a server does.
func readUpdate(s *Store, u update.Update) error {
	f, err := s.Open(u)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	return mapped(f, func(got []byte) error {
		if want := content(u.Name.String()); !bytes.Equal(got, want) {
			return fmt.Errorf("%v: %d bytes that differ from the %d expected", u.Name, len(got), len(want))
		}
		return nil
	})
}

func checkBlobs(t testing.TB, dir string) (count int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, blobDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) == blocksSuffix {
			return err
		}
		count++
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() // opened for reading
		return mapped(f, func(data []byte) error {
			if got := update.Sum(data); got.String() != filepath.Base(path) {
				return fmt.Errorf("%s holds other bytes than its name says: %v", path, got)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// mapped calls do with what a file holds. It is mapped: to read it into memory would take the race detector
// longer than all the rest.
func mapped(f *os.File, do func([]byte) error) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return errors.Join(err, do(nil))
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return errors.Join(do(data), unix.Munmap(data))
}

// crashAfter makes the first n changes of a store the last ones; half, if set, carries out the next one
// without its being reported.
func crashAfter(n int, half bool, seen func(disk.Op, string)) disk.FS {
	var step atomic.Int64 // blocks reach the disk beside other steps
	return disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
		switch at := step.Add(1); {
		case at <= int64(n):
			return true, nil
		case at == int64(n)+1:
			seen(op, path)
			return half, errCrash
		}
		return false, errCrash
	}}
}

var errCrash = errors.New("crash")
