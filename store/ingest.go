package store

import (
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// settleEvery is how many blocks may be written before the map of blocks follows them to the disk: a
// crash costs at most so many.
const settleEvery = 8

// Ingest is one caller's part in the arrival of an archive. Several callers may bring blocks of one
// archive at the same time; each has an Ingest of its own, which it must close.
type Ingest struct {
	*arrival
	closed bool
}

// arrival is an archive on its way in. All its callers share it.
type arrival struct {
	store  *Store
	rel    trust.Release
	blocks update.Blocks
	users  int // guarded by Store.mu

	mu      sync.Mutex
	file    *os.File
	have    bitmap
	written int       // blocks since the map was stored
	whole   hash.Hash // of the blocks before next
	next    int
	done    bool // the archive is in place
}

// Ingest begins, or goes on with, the arrival of an archive that verified metadata lists, of which
// blocks is the block list. Whatever arrived before, in this process or another, is kept.
//
// The error is ErrNoSpace where the disk has no room for the rest, and ErrCorrupt where the block list
// is not the one that the metadata names.
func (s *Store) Ingest(ctx context.Context, rel trust.Release, blocks update.Blocks) (*Ingest, error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	if rel.IsZero() {
		return nil, errors.New("ingest: no verified release")
	}
	if got := update.Sum(blocks.Bytes()); got != rel.Blocks() {
		return nil, fmt.Errorf("ingest %v: block list: %w: expected digest %v, got %v", rel.Name(), ErrCorrupt, rel.Blocks(), got)
	}
	if len(blocks) != update.BlockCount(rel.Length()) {
		return nil, fmt.Errorf("ingest %v: block list: %w: expected %d blocks, got %d", rel.Name(), ErrCorrupt, update.BlockCount(rel.Length()), len(blocks))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.ingesting[rel.Digest()]
	if a == nil {
		a = &arrival{store: s, rel: rel, blocks: slices.Clone(blocks), whole: sha256.New()}
		if err := a.open(ctx); err != nil {
			return nil, fmt.Errorf("ingest %v: %w", rel.Name(), err)
		}
		s.ingesting[rel.Digest()] = a
	}
	a.users++
	return &Ingest{arrival: a}, nil
}

func (a *arrival) partPath() string { return a.store.path(stagingDir, a.rel.Digest().String()+".part") }
func (a *arrival) mapPath() string  { return a.store.path(stagingDir, a.rel.Digest().String()+".map") }

func (a *arrival) open(ctx context.Context) (err error) {
	if a.store.Has(a.rel) {
		a.done, a.have = true, newBitmap(len(a.blocks)).filled()
		return nil
	}
	a.have = newBitmap(len(a.blocks))
	if raw, err := readUpTo(a.mapPath(), maxMap); err == nil {
		if m, err := parseMap(raw, a.rel.Blocks(), len(a.blocks)); err == nil {
			a.have = m
		}
	}
	a.file, err = os.OpenFile(a.partPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return noSpace(err)
	}
	if err := a.size(); err != nil {
		return errors.Join(noSpace(err), a.file.Close())
	}
	if err := a.room(); err != nil {
		return errors.Join(err, a.file.Close())
	}
	return nil
}

// size gives the part its length; a part that is shorter than its map says has lost its blocks.
func (a *arrival) size() error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != a.rel.Length() {
		a.have = newBitmap(len(a.blocks))
		return a.file.Truncate(a.rel.Length())
	}
	return nil
}

// room refuses an archive that would not fit.
func (a *arrival) room() error {
	free, err := freeSpace(a.store.c.Dir)
	if err != nil {
		return err
	}
	need := int64(0)
	for _, i := range a.have.missing() {
		need += update.BlockLength(a.rel.Length(), i)
	}
	if free-a.store.c.Reserve < need {
		return fmt.Errorf("%w: %d bytes are needed in %s, %d are free and %d of them are reserved", ErrNoSpace, need, a.store.c.Dir, free, a.store.c.Reserve)
	}
	return nil
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// noSpace makes ErrNoSpace of what the system says about a full disk.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// Missing returns the numbers of the blocks that have not arrived, ascending.
func (a *arrival) Missing() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.have.missing()
}

// WriteBlock takes block i, all of it. The error is ErrCorrupt where p is not that block; then nothing
// was written. A block that is there already is not written again.
func (a *arrival) WriteBlock(i int, p []byte) error {
	if i < 0 || i >= len(a.blocks) {
		return fmt.Errorf("%v: block %d: expected a block below %d", a.rel.Name(), i, len(a.blocks))
	}
	if want := update.BlockLength(a.rel.Length(), i); int64(len(p)) != want {
		return fmt.Errorf("%v: block %d: %w: expected %d bytes, got %d", a.rel.Name(), i, ErrCorrupt, want, len(p))
	}
	if got := update.Sum(p); got != a.blocks[i] {
		return fmt.Errorf("%v: block %d: %w: expected digest %v, got %v", a.rel.Name(), i, ErrCorrupt, a.blocks[i], got)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.have.has(i) {
		return nil
	}
	if _, err := a.file.WriteAt(p, int64(i)*update.BlockSize); err != nil {
		return fmt.Errorf("%v: block %d: %w", a.rel.Name(), i, noSpace(err))
	}
	if i == a.next {
		a.whole.Write(p)
		a.next++
	}
	a.have.set(i)
	if a.written++; a.written >= settleEvery {
		return a.settle()
	}
	return nil
}

// settle brings the blocks to the disk, and then the map that says that they are there. The caller
// holds a.mu.
func (a *arrival) settle() error {
	if a.written == 0 {
		return nil
	}
	if err := a.store.c.FS.Sync(a.file); err != nil {
		return noSpace(err)
	}
	if err := a.store.c.FS.WriteFile(a.mapPath(), a.have.encode(a.rel.Blocks()), 0o600); err != nil {
		return noSpace(err)
	}
	a.written = 0
	return nil
}

// Commit gives the archive its name, durably, once all its blocks are there. The error is ErrCorrupt
// where the whole is not what the metadata say although each block is: then the parts are gone, and the
// signer has to publish again under another version.
func (a *arrival) Commit(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return nil
	}
	if m := a.have.missing(); len(m) > 0 {
		return fmt.Errorf("%v: %w: %d of %d blocks", a.rel.Name(), ErrIncomplete, len(m), len(a.blocks))
	}
	if err := a.settle(); err != nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), err)
	}
	if err := a.check(ctx); err != nil {
		return err
	}
	if err := a.place(); err != nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), noSpace(err))
	}
	return nil
}

// check compares the digest of the whole, of which the blocks before a.next are hashed already.
func (a *arrival) check(ctx context.Context) error {
	whole, err := cloneHash(a.whole)
	if err != nil {
		return err
	}
	start := int64(a.next) * update.BlockSize
	rest := io.NewSectionReader(a.file, start, max(a.rel.Length()-start, 0))
	if _, err := io.CopyBuffer(whole, untilDone{ctx, rest}, make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), err)
	}
	got := update.Digest(whole.Sum(nil))
	if got == a.rel.Digest() {
		return nil
	}
	err = fmt.Errorf("%v: %w: each block is right, but the whole has digest %v and %v was signed; publish it again under another version", a.rel.Name(), ErrCorrupt, got, a.rel.Digest())
	return errors.Join(a.recheck(ctx, err), a.reset())
}

// recheck returns err where each block on the disk is right, and another error where the disk lost one.
func (a *arrival) recheck(ctx context.Context, err error) error {
	buf := make([]byte, update.BlockSize)
	for i, want := range a.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:update.BlockLength(a.rel.Length(), i)]
		if _, err := a.file.ReadAt(p, int64(i)*update.BlockSize); err != nil {
			return fmt.Errorf("%v: block %d: %w", a.rel.Name(), i, err)
		}
		if got := update.Sum(p); got != want {
			return fmt.Errorf("%v: block %d: %w on the disk: expected digest %v, got %v; it has to be fetched again", a.rel.Name(), i, ErrCorrupt, want, got)
		}
	}
	return err
}

// reset forgets all blocks.
func (a *arrival) reset() error {
	a.have, a.whole, a.next, a.written = newBitmap(len(a.blocks)), sha256.New(), 0, 0
	return a.store.c.FS.Remove(a.mapPath())
}

// place moves the archive where it belongs. Its block list is there before it.
func (a *arrival) place() error {
	fs, d := a.store.c.FS, a.rel.Digest()
	if err := a.store.putBlocks(d, a.blocks); err != nil {
		return err
	}
	if err := a.file.Chmod(0o444); err != nil {
		return err
	}
	if err := fs.Sync(a.file); err != nil {
		return err
	}
	if err := fs.Rename(a.partPath(), a.store.blobPath(d)); err != nil {
		return err
	}
	a.done = true
	return fs.Remove(a.mapPath())
}

// cloneHash returns a hash that goes on where h is.
func cloneHash(h hash.Hash) (hash.Hash, error) {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, err
	}
	c := sha256.New()
	return c, c.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// Close ends this caller's part. What has arrived is kept, for whoever goes on with it.
func (i *Ingest) Close() error {
	s := i.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.closed {
		return nil
	}
	i.closed = true
	if i.users--; i.users > 0 {
		return nil
	}
	delete(s.ingesting, i.rel.Digest())
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.file == nil {
		return nil
	}
	var err error
	if !i.done {
		err = i.settle()
	}
	return errors.Join(err, i.file.Close())
}

// IngestFile takes an archive from a file, from offset 0, through the same door: what lands is what
// was verified, whatever happens to the file meanwhile.
func (s *Store) IngestFile(ctx context.Context, rel trust.Release, blocks update.Blocks, f io.ReaderAt) (err error) {
	in, err := s.Ingest(ctx, rel, blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	buf := make([]byte, update.BlockSize)
	for _, i := range in.Missing() {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:update.BlockLength(rel.Length(), i)]
		if _, err := f.ReadAt(p, int64(i)*update.BlockSize); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("ingest %v: %w", rel.Name(), err)
		}
		if err := in.WriteBlock(i, p); err != nil {
			return fmt.Errorf("ingest %w", err)
		}
	}
	return in.Commit(ctx)
}

// removeTemps removes what crashed writes left, and parts that nobody has gone on with for a week.
func (s *Store) removeTemps(ctx context.Context) error {
	dirs, err := filepath.Glob(s.path(blobDir, "??"))
	if err != nil {
		return err
	}
	for _, dir := range append(dirs, s.path(stagingDir), s.path(targetsDir)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.c.FS.RemoveTemps(dir); err != nil {
			return err
		}
	}
	return s.removeStale(s.c.Now().Add(-partLife))
}

// partLife is how long a part is kept that nobody goes on with.
const partLife = 7 * 24 * time.Hour

func (s *Store) removeStale(before time.Time) error {
	entries, err := os.ReadDir(s.path(stagingDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.ModTime().After(before) || s.inUse(e.Name()) {
			continue
		}
		if err := s.c.FS.Remove(s.path(stagingDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// inUse reports whether a file of the staging directory belongs to an open arrival.
func (s *Store) inUse(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := update.ParseDigest(name[:min(64, len(name))])
	return err == nil && s.ingesting[d] != nil
}
