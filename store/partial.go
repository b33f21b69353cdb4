package store

import (
	"context"
	"crypto/sha256"
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
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	// A block that is at most orderBlocks ahead waits up to orderTime for those before it: blocks in order are hashed
	// once for both digests.
	orderBlocks = 8
	orderTime   = 20 * time.Millisecond

	// Blocks are synced while others arrive: each time there are syncBlocks of them, or they are syncTime old. A
	// crash loses those of the sync under way and those after it, at most twice as many.
	syncBlocks = 8
	syncTime   = 2 * time.Second
)

// partial is an archive that lacks some of its blocks. All its callers share it.
type partial struct {
	store  *Store
	rel    trust.Release
	blocks update.Blocks
	users  int // guarded by Store.mu

	mu   sync.Mutex
	file *os.File // nil while it is not open
	done bool     // the archive is in place

	have     blockSet      // what was written
	synced   blockSet      // the blocks that are on the disk, as the map there says
	unsynced int           // blocks written since
	since    time.Time     // when the last sync was
	syncing  chan struct{} // closed when the sync under way ends; nil: none is
	syncErr  error         // of a sync in the background; not reported yet
	mapped   bool          // there may be a map on the disk

	whole   hash.Hash     // of the first blocks, hashed in number
	hashed  int           // how many blocks whole covers
	writers map[int]int   // how many calls of writeBlock have each block
	changed chan struct{} // closed when writers or hashed changes
}

func newPartial(s *Store, rel trust.Release, blocks update.Blocks) *partial {
	n := len(blocks)
	return &partial{
		store: s, rel: rel, blocks: blocks, have: newBlockSet(n), synced: newBlockSet(n),
		whole: sha256.New(), writers: map[int]int{}, changed: make(chan struct{}),
	}
}

// open makes the partial ready for blocks, unless it is open already or the archive is in place. If the archive went
// to quarantine since, it arrives anew.
func (p *partial) open(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		return nil
	}
	s := p.store
	if err := errors.Join(s.writable(), ctx.Err()); err != nil {
		return err
	}
	if p.done = s.Has(p.rel); p.done {
		s.touch(p.rel.Digest())
		return nil
	}
	p.reset(newBlockSet(len(p.blocks)))
	raw, err := readUpTo(p.mapPath(), maxMap)
	p.mapped = !errors.Is(err, fs.ErrNotExist)
	if err == nil {
		// A damaged map counts as empty: the blocks are fetched again.
		if have, err := parseMap(raw, p.rel.Blocks(), len(p.blocks)); err == nil {
			p.reset(have)
		}
	}
	p.file, err = openPart(p.partPath())
	if err != nil {
		return disk.AsNoSpace(err)
	}
	p.since = s.c.Now()
	err = p.allocate()
	if err == nil {
		return nil
	}
	err = errors.Join(disk.AsNoSpace(err), p.closeFile())
	// A part without its space is only kept for the blocks in it.
	if p.have.count() == 0 {
		err = errors.Join(err, s.c.FS.Remove(p.partPath()))
	}
	return err
}

// reset makes kept the set of blocks that have arrived.
func (p *partial) reset(kept blockSet) {
	p.have, p.synced, p.unsynced = kept.clone(), kept, 0
	p.whole, p.hashed = sha256.New(), 0
}

func (p *partial) blockLength(i int) int64 { return update.BlockLength(p.rel.Length(), i) }

// writeBlock verifies block i and writes it.
func (p *partial) writeBlock(i int, b []byte) error {
	if i < 0 || i >= len(p.blocks) {
		return fmt.Errorf("expected a block from 0 to below %d", len(p.blocks))
	}
	if want := p.blockLength(i); int64(len(b)) != want {
		return fmt.Errorf("%w: expected %d bytes, got %d", ErrCorrupt, want, len(b))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	whole := p.awaitBlocksBefore(i)
	defer p.removeWriter(i)

	// The lock is released because hashing takes longest; others must get in meanwhile.
	p.mu.Unlock()
	var got update.Digest
	if whole == nil {
		got = update.Sum(b)
	} else {
		got = update.SumWith(whole, b) // one pass serves both
	}
	p.mu.Lock()

	if got != p.blocks[i] {
		return fmt.Errorf("%w: expected digest %v, got %v", ErrCorrupt, p.blocks[i], got)
	}
	if p.done || p.have.has(i) {
		return nil
	}
	if err := p.store.writable(); err != nil {
		return err
	}
	if p.file == nil {
		return fs.ErrClosed
	}
	if err := writeAt(p.file, b, int64(i)*update.BlockSize); err != nil {
		return disk.AsNoSpace(err)
	}
	disk.StartWriting(p.file, int64(i)*update.BlockSize, int64(len(b)))
	p.have.set(i)
	p.unsynced++
	if i == p.hashed {
		if whole == nil {
			whole = p.whole
			whole.Write(b)
		}
		p.whole, p.hashed = whole, i+1
	}
	// Blocks that arrived out of order are probably still in the page cache, so they are hashed now. Two at a time
	// keep this call short; commit reads those that can't be read now.
	for range 2 {
		if p.hashed == len(p.blocks) || !p.have.has(p.hashed) || p.hashNext() != nil {
			break
		}
	}
	return p.syncIfDue()
}

// awaitBlocksBefore records that a caller has block i. If the few blocks before i are written, with other callers, or
// come soon, it waits for them and returns a copy of the hash of them all, so that block i needs to be read once for
// its own hash and that of the whole. Otherwise it returns nil. The caller holds p.mu, which is released while
// waiting, and must call removeWriter at the end.
func (p *partial) awaitBlocksBefore(i int) hash.Hash {
	p.writers[i]++
	p.wakeWriters()
	soon := time.NewTimer(orderTime)
	defer soon.Stop()
	for late := false; p.hashed < i && i-p.hashed <= orderBlocks && (!late || p.haveWriters(p.hashed, i)); {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-soon.C:
			late = true
		}
		p.mu.Lock()
	}
	if p.hashed != i {
		return nil
	}
	whole, _ := cloneHash(p.whole) // if it fails, the block is hashed twice
	return whole
}

// removeWriter undoes the record of awaitBlocksBefore. The caller holds p.mu.
func (p *partial) removeWriter(i int) {
	if p.writers[i]--; p.writers[i] == 0 {
		delete(p.writers, i)
	}
	p.wakeWriters()
}

// wakeWriters wakes the calls that wait in awaitBlocksBefore. The caller holds p.mu.
func (p *partial) wakeWriters() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// haveWriters reports whether calls of writeBlock have each block from begin to below end. The caller holds p.mu.
func (p *partial) haveWriters(begin, end int) bool {
	for i := begin; i < end; i++ {
		if p.writers[i] == 0 {
			return false
		}
	}
	return true
}

// hashNext reads one block back and adds it to the hash of the whole.
func (p *partial) hashNext() error {
	// The block goes into a copy: after a failed read, the hash would cover only a part of it.
	whole, err := cloneHash(p.whole)
	if err != nil {
		return err
	}
	if err := p.readBlock(whole, p.hashed); err != nil {
		return fmt.Errorf("block %d: %w", p.hashed, err)
	}
	p.whole, p.hashed = whole, p.hashed+1
	return nil
}

func (p *partial) readBlock(to io.Writer, i int) error {
	r := io.NewSectionReader(p.file, int64(i)*update.BlockSize, p.blockLength(i))
	n, err := io.CopyBuffer(to, struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err == nil && n < p.blockLength(i) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// commit verifies the whole archive and gives it its name; see Ingest.Commit.
func (p *partial) commit(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitSync()
	if p.done {
		return nil
	}
	if err := p.popSyncError(); err != nil {
		return err
	}
	if n := len(p.blocks) - p.have.count(); n > 0 {
		return fmt.Errorf("%w: %d of %d blocks", ErrIncomplete, n, len(p.blocks))
	}
	if p.file == nil {
		return fs.ErrClosed
	}
	// Mode and bytes are synced at once. The map is not written again: a crash before the archive has its name only
	// loses the blocks since the last map.
	if err := p.file.Chmod(0o444); err != nil {
		return err
	}
	if err := p.store.c.FS.Sync(p.file); err != nil {
		p.reset(p.synced) // after a failed fsync its blocks count as lost
		return err
	}
	for p.hashed < len(p.blocks) {
		if err := errors.Join(ctx.Err(), p.hashNext()); err != nil {
			return err
		}
	}
	if got := update.Digest(p.whole.Sum(nil)); got != p.rel.Digest() {
		// Either the disk lost blocks, which can be fetched again, or the block list belongs to another archive.
		if err := p.rereadBlocks(ctx); err != nil {
			return err
		}
		return errors.Join(
			status.WithHint(
				fmt.Errorf("%w: each block is right, but the whole has digest %v and %v was signed", ErrCorrupt, got, p.rel.Digest()),
				"publish the update again under another version"),
			p.discard())
	}
	return p.moveInPlace()
}

// rereadBlocks reads each block from the disk and keeps only those that are intact.
func (p *partial) rereadBlocks(ctx context.Context) error {
	good := newBlockSet(len(p.blocks))
	for i, want := range p.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := sha256.New()
		if err := p.readBlock(h, i); err != nil {
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
	p.reset(good)
	p.mapped = true
	err := fmt.Errorf("%w: the disk lost %d of %d blocks, block %d first; they have to come again", ErrIncomplete, len(lost), len(p.blocks), lost[0])
	return errors.Join(err, p.writeMap(good))
}

// discard removes the part and its map.
func (p *partial) discard() error {
	p.reset(newBlockSet(len(p.blocks)))
	return errors.Join(p.closeFile(), p.store.c.FS.Remove(p.mapPath()), p.store.c.FS.Remove(p.partPath()))
}

// moveInPlace moves an archive that is verified and synced to its place.
func (p *partial) moveInPlace() error {
	s, d := p.store, p.rel.Digest()
	s.committing.RLock()
	defer s.committing.RUnlock()
	if err := s.writable(); err != nil {
		return err
	}
	// The block list comes first: whenever the archive is in place, its list must be.
	if err := s.putBlocks(d, p.blocks); err != nil {
		return err
	}
	mine, err := p.file.Stat()
	if err != nil {
		return err
	}
	to := s.blobPath(d)
	if there, err := os.Lstat(to); err == nil && os.SameFile(there, mine) {
		err = s.c.FS.SyncDir(filepath.Dir(to)) // an earlier call renamed it and failed after that
		if err != nil {
			return err
		}
	} else if err := s.c.FS.RenameTo(p.partPath(), to); err != nil {
		return err // after a power cut the part may have two names; openPart removes such a part
	}
	p.done = true
	// The archive is in place. The next commit or start repeats the steps that follow if they fail.
	if err := errors.Join(p.closeFile(), s.linkListed(d), p.removeMap()); err != nil {
		s.c.Logger.Warn("after the arrival of an archive", "name", p.rel.Name().String(), "err", err)
	}
	return nil
}

// closeFile closes the part, which is kept. The caller holds p.mu and has awaited the sync under way.
func (p *partial) closeFile() error {
	if p.file == nil {
		return nil
	}
	f := p.file
	p.file = nil
	return f.Close()
}

// cloneHash returns an independent copy of h.
func cloneHash(h hash.Hash) (hash.Hash, error) { return h.(hash.Cloner).Clone() }
