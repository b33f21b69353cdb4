package store

import (
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// A block that overtook a few others waits so long for them: in order all are hashed in one pass.
const (
	orderBlocks = 8
	orderTime   = 20 * time.Millisecond
)

// arrival is an archive on its way in. All its callers share it.
type arrival struct {
	store  *Store
	rel    trust.Release
	blocks update.Blocks
	users  int // guarded by Store.mu

	mu        sync.Mutex
	file      *os.File // nil while it isn't open
	done      bool     // the archive is in place
	have      bitmap   // what was written
	settled   bitmap   // what the map on the disk says, and the disk has
	unsettled int      // blocks written since
	since     time.Time
	settling  chan struct{} // closed when the settling under way ends; nil: none is
	failed    error         // of a settling that nobody was told of
	mapped    bool          // there may be a map
	whole     hash.Hash     // of the blocks before next
	next      int
	atHand    map[int]int   // how many callers of write have a block
	told      chan struct{} // closed when that changes, or next
}

func newArrival(s *Store, rel trust.Release, blocks update.Blocks) *arrival {
	n := len(blocks)
	a := &arrival{store: s, rel: rel, blocks: blocks, have: newBitmap(n), settled: newBitmap(n)}
	a.whole, a.atHand, a.told = sha256.New(), map[int]int{}, make(chan struct{})
	return a
}

func (a *arrival) partPath() string {
	return a.store.path(stagingDir, a.rel.Digest().String()+partSuffix)
}

func (a *arrival) mapPath() string {
	return a.store.path(stagingDir, a.rel.Digest().String()+mapSuffix)
}

// open makes the arrival ready for blocks, unless it is or the archive is in place. An archive that
// went to quarantine since arrives anew.
func (a *arrival) open(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		return nil
	}
	if err := errors.Join(a.store.writable(), ctx.Err()); err != nil {
		return err
	}
	if a.done = a.store.Has(a.rel); a.done {
		a.store.renew(a.rel)
		return nil
	}
	a.forget(newBitmap(len(a.blocks)))
	raw, err := readUpTo(a.mapPath(), maxMap)
	if a.mapped = !errors.Is(err, fs.ErrNotExist); err == nil {
		if m, err := parseMap(raw, a.rel.Blocks(), len(a.blocks)); err == nil {
			a.forget(m)
		}
	}
	f, err := openPart(a.partPath())
	if err != nil {
		return disk.AsNoSpace(err)
	}
	a.file, a.since = f, a.store.c.Now()
	if err := a.allocate(); err != nil {
		return errors.Join(disk.AsNoSpace(err), a.giveUp())
	}
	return nil
}

// giveUp closes a part that did not get its space, and removes one that has nothing.
func (a *arrival) giveUp() error {
	err := a.file.Close()
	a.file = nil
	if a.have.count() == 0 {
		err = errors.Join(err, a.store.c.FS.Remove(a.partPath()))
	}
	return err
}

// forget makes kept all that has arrived.
func (a *arrival) forget(kept bitmap) {
	a.have, a.settled, a.unsettled = kept.clone(), kept, 0
	a.whole, a.next = sha256.New(), 0
}

func (a *arrival) missing() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return nil
	}
	return a.have.missing()
}

func (a *arrival) write(i int, p []byte) error {
	if i < 0 || i >= len(a.blocks) {
		return fmt.Errorf("%v: block %d: expected a block from 0 to below %d", a.rel.Name(), i, len(a.blocks))
	}
	if want := a.blockLength(i); int64(len(p)) != want {
		return fmt.Errorf("%v: block %d: %w: expected %d bytes, got %d", a.rel.Name(), i, ErrCorrupt, want, len(p))
	}
	whole, leave := a.enter(i)
	defer leave()
	got := sum(whole, p)
	if got != a.blocks[i] {
		return fmt.Errorf("%v: block %d: %w: expected digest %v, got %v", a.rel.Name(), i, ErrCorrupt, a.blocks[i], got)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done || a.have.has(i) {
		return nil
	}
	if err := a.put(i, p, whole); err != nil {
		return fmt.Errorf("%v: block %d: %w", a.rel.Name(), i, disk.AsNoSpace(err))
	}
	return nil
}

// enter begins the writing of block i, and returns what ends it. Where the few blocks before i are written
// or at hand, or come soon, it waits for them and returns a copy of the hash of them all, so that one pass
// over the block serves that hash, too; else nil.
func (a *arrival) enter(i int) (whole hash.Hash, leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.atHand[i]++
	a.tell()
	soon := time.NewTimer(orderTime)
	defer soon.Stop()
	for late := false; a.next < i && i-a.next <= orderBlocks && (!late || a.allAtHand(a.next, i)); {
		told := a.told
		a.mu.Unlock()
		select {
		case <-told:
		case <-soon.C:
			late = true
		}
		a.mu.Lock()
	}
	if a.next == i {
		whole, _ = cloneHash(a.whole) // without it the block is hashed twice
	}
	return whole, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.atHand[i]--; a.atHand[i] == 0 {
			delete(a.atHand, i)
		}
		a.tell()
	}
}

// tell wakes those who wait in enter. The caller holds a.mu.
func (a *arrival) tell() {
	close(a.told)
	a.told = make(chan struct{})
}

// allAtHand reports whether callers of write have the blocks from begin to below end. The caller holds a.mu.
func (a *arrival) allAtHand(begin, end int) bool {
	for i := begin; i < end; i++ {
		if a.atHand[i] == 0 {
			return false
		}
	}
	return true
}

// sum returns the digest of a block, and adds it to whole where that is not nil.
func sum(whole hash.Hash, p []byte) update.Digest {
	if whole == nil {
		return update.Sum(p)
	}
	return update.SumWith(whole, p)
}

func (a *arrival) blockLength(i int) int64 { return update.BlockLength(a.rel.Length(), i) }

// put writes a verified block. whole, where not nil, is the hash of all blocks before it and of it. The
// caller holds a.mu.
func (a *arrival) put(i int, p []byte, whole hash.Hash) error {
	if a.file == nil {
		return fs.ErrClosed
	}
	if err := writeAt(a.file, p, int64(i)*update.BlockSize); err != nil {
		return err
	}
	startWriting(a.file, int64(i)*update.BlockSize, int64(len(p)))
	a.have.set(i)
	a.unsettled++
	if i == a.next {
		if whole == nil {
			whole = a.whole
			whole.Write(p)
		}
		a.whole = whole
		a.next++
	}
	a.catchUp()
	return a.settleBehind()
}

// writeAt writes p in small pieces. For one write of 4 MiB the kernel takes pages from the largest ranges of
// free memory, which the host of a virtual machine may have taken back: then it needs five times as long.
func writeAt(f *os.File, p []byte, off int64) error {
	const piece = 64 << 10
	for len(p) > 0 {
		n, err := f.WriteAt(p[:min(piece, len(p))], off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// catchUp adds to the digest of the whole some blocks that arrived before their turn, which are still in
// memory more often than not. What can't be read now, Commit reads.
func (a *arrival) catchUp() {
	for range 2 {
		if a.next == len(a.blocks) || !a.have.has(a.next) || a.advance() != nil {
			return
		}
	}
}

// advance reads one block back and adds it to the digest of the whole.
func (a *arrival) advance() error {
	// A hash that got a part of the block only would be worth nothing.
	whole, err := cloneHash(a.whole)
	if err != nil {
		return err
	}
	if err := a.read(whole, a.next); err != nil {
		return fmt.Errorf("block %d: %w", a.next, err)
	}
	a.whole = whole
	a.next++
	return nil
}

func (a *arrival) read(to io.Writer, i int) error {
	r := io.NewSectionReader(a.file, int64(i)*update.BlockSize, a.blockLength(i))
	n, err := io.CopyBuffer(to, struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err == nil && n < a.blockLength(i) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (a *arrival) commit(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.awaitSettling()
	if a.done {
		return nil
	}
	if err := a.failure(); err != nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), err)
	}
	if n := len(a.blocks) - a.have.count(); n > 0 {
		return fmt.Errorf("%v: %w: %d of %d blocks", a.rel.Name(), ErrIncomplete, n, len(a.blocks))
	}
	if a.file == nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), fs.ErrClosed)
	}
	if err := a.finish(); err != nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), err)
	}
	if err := a.check(ctx); err != nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), disk.AsNoSpace(err))
	}
	if err := a.place(); err != nil {
		return fmt.Errorf("%v: %w", a.rel.Name(), disk.AsNoSpace(err))
	}
	return nil
}

// finish brings an archive that is all there to the disk, with the mode that it is to have. The map is not
// written for it: a crash before the archive has its name costs what came since the last settling.
func (a *arrival) finish() error {
	if err := a.file.Chmod(0o444); err != nil {
		return err
	}
	if err := a.store.c.FS.Sync(a.file); err != nil {
		a.forget(a.settled)
		return disk.AsNoSpace(err)
	}
	return nil
}

// check compares the digest of the whole, of which the blocks before a.next are hashed already.
func (a *arrival) check(ctx context.Context) error {
	for a.next < len(a.blocks) {
		if err := errors.Join(ctx.Err(), a.advance()); err != nil {
			return err
		}
	}
	got := update.Digest(a.whole.Sum(nil))
	if got == a.rel.Digest() {
		return nil
	}
	if err := a.recheck(ctx); err != nil {
		return err
	}
	return errors.Join(
		fmt.Errorf("%w: each block is right, but the whole has digest %v and %v was signed; publish it again under another version", ErrCorrupt, got, a.rel.Digest()),
		a.discard())
}

// recheck looks at each block on the disk, and where one is damaged, keeps the others.
func (a *arrival) recheck(ctx context.Context) error {
	good := newBitmap(len(a.blocks))
	for i, want := range a.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := sha256.New()
		if err := a.read(h, i); err != nil {
			return err
		}
		if update.Digest(h.Sum(nil)) == want {
			good.set(i)
		}
	}
	lost := good.missing()
	if len(lost) == 0 {
		return nil
	}
	a.forget(good)
	a.mapped = true
	err := fmt.Errorf("%w: the disk lost %d of %d blocks, block %d first; they have to come again", ErrIncomplete, len(lost), len(a.blocks), lost[0])
	return errors.Join(err, a.store.c.FS.WriteFile(a.mapPath(), good.encode(a.rel.Blocks()), 0o600))
}

// discard removes what has arrived.
func (a *arrival) discard() error {
	a.forget(newBitmap(len(a.blocks)))
	err := a.file.Close()
	a.file = nil
	return errors.Join(err, a.store.c.FS.Remove(a.mapPath()), a.store.c.FS.Remove(a.partPath()))
}

// place moves the archive where it belongs. Its block list is there before it.
func (a *arrival) place() error {
	s, d := a.store, a.rel.Digest()
	s.committing.RLock()
	defer s.committing.RUnlock()
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.putBlocks(d, a.blocks); err != nil {
		return err
	}
	if err := a.rename(); err != nil {
		return err
	}
	a.done = true
	err := a.file.Close()
	a.file = nil
	// The archive is in place. What follows is done again by the next commit or start.
	if err := errors.Join(err, s.linkListed(d), a.removeMap()); err != nil {
		s.c.Logger.Warn("after the arrival of an archive", "name", a.rel.Name().String(), "err", err)
	}
	return nil
}

// removeMap removes the map, if there is one.
func (a *arrival) removeMap() error {
	if !a.mapped {
		return nil
	}
	return a.store.c.FS.Remove(a.mapPath())
}

// rename gives the archive its name. An earlier try may have got so far.
func (a *arrival) rename() error {
	fs, to := a.store.c.FS, a.store.blobPath(a.rel.Digest())
	mine, err := a.file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Lstat(to); err == nil && os.SameFile(there, mine) {
		return fs.SyncDir(filepath.Dir(to))
	}
	// A second name that a power cut left in staging is seen for what it is by openPart, and removed.
	return fs.RenameTo(a.partPath(), to)
}

// shut settles and closes the part, which is kept.
func (a *arrival) shut() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.awaitSettling()
	return a.shutLocked()
}

// shutLocked is shut for a caller who holds a.mu and has awaited the settling under way.
func (a *arrival) shutLocked() error {
	err := a.failure()
	if a.file == nil {
		return err
	}
	err = errors.Join(err, a.settleLocked(), a.file.Close())
	a.file = nil
	return err
}

// linkListed gives an archive that came back the paths under which it is listed. The caller holds
// committing for reading.
func (s *Store) linkListed(d update.Digest) error {
	repo := s.Repository()
	if repo == nil {
		return nil
	}
	var listed []trust.Release
	for _, rel := range repo.Releases() {
		if rel.Digest() == d {
			listed = append(listed, rel)
		}
	}
	if len(listed) == 0 {
		return nil
	}
	_, err := s.link(listed)
	return err
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
