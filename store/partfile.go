package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	// partLife is how long a part is kept that no Ingest continues.
	partLife = 7 * 24 * time.Hour

	// fileOverhead is allowed for the block list and the map beside their bytes, in bytes.
	fileOverhead = 64 << 10
)

func (p *partial) partPath() string { return p.store.partPath(p.rel.Digest()) }
func (p *partial) mapPath() string  { return p.store.mapPath(p.rel.Digest()) }

// openPart opens a part for writing, and makes it if it is missing. A file that is not regular or has more than one
// name is none that a store made: it is removed.
func openPart(path string) (*os.File, error) {
	f, err := disk.OpenNoFollow(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		// An earlier run set the last mode and crashed before the rename.
		if err := makeWritable(path); err != nil {
			return nil, err
		}
		f, err = disk.OpenNoFollow(path, os.O_RDWR, 0o600)
	}
	if err == nil {
		if disk.HasOneName(f) {
			return f, nil
		}
		f.Close()
	} else if !errors.Is(err, disk.ErrNotRegular) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func makeWritable(path string) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	return f.Chmod(0o600)
}

// allocate gives the part its length and allocates its space, so that a full disk shows now and not after the
// transfer. The error is disk.ErrNoSpace if the archive would not fit beside the reserve. The caller holds p.mu.
func (p *partial) allocate() error {
	s, length := p.store, p.rel.Length()
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	have := disk.Allocated(info)
	if info.Size() != length {
		// A part of another length has lost its blocks, so the map is removed: it would claim blocks that are gone.
		p.reset(newBlockSet(len(p.blocks)))
		if err := p.removeMap(); err != nil {
			return err
		}
		if err := errors.Join(p.file.Truncate(0), p.file.Truncate(length)); err != nil {
			return err
		}
		have = 0
	}
	if err := disk.CheckSpace(s.c.Dir, max(length-have, 0)+overhead(length), s.c.Reserve); err != nil || length == 0 {
		return err
	}
	if err := disk.Allocate(p.file, length); err != nil {
		return fmt.Errorf("set %d bytes aside: %w", length, err)
	}
	return nil
}

// overhead returns how many bytes an archive takes on the disk beside its own.
func overhead(length int64) int64 {
	return int64(update.BlockCount(length))*int64(len(update.Digest{})) + fileOverhead
}

// writeAt writes b in pieces of 64 KiB. A single write of 4 MiB takes pages from the largest ranges of free memory,
// which the host of a virtual machine may have taken back; then it takes five times as long.
func writeAt(f *os.File, b []byte, off int64) error {
	const piece = 64 << 10
	for len(b) > 0 {
		n, err := f.WriteAt(b[:min(piece, len(b))], off)
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// syncIfDue begins a sync if one is due. If the disk can't keep up, it waits for the sync under way. It returns the
// error of an earlier sync. The caller holds p.mu, which is released while waiting.
func (p *partial) syncIfDue() error {
	if p.unsynced >= 2*syncBlocks {
		p.awaitSync()
	}
	if err := p.popSyncError(); err != nil {
		return err
	}
	if p.unsynced >= syncBlocks || p.store.c.Now().Sub(p.since) >= syncTime {
		p.beginSync()
	}
	return nil
}

// syncAll syncs all blocks that have arrived. The caller holds p.mu, which is released while waiting.
func (p *partial) syncAll() error {
	p.awaitSync()
	err := p.popSyncError()
	for p.file != nil && p.unsynced > 0 {
		p.beginSync()
		p.awaitSync()
		if failed := p.popSyncError(); failed != nil {
			return errors.Join(err, failed)
		}
	}
	return err
}

// beginSync syncs the blocks in the background, and then writes the map that says that they are on the disk. If
// syncing fails, all blocks since the last successful sync count as not arrived, because a second fsync would not
// report them again. Nothing begins while a sync is under way. The caller holds p.mu.
func (p *partial) beginSync() {
	if p.syncing != nil || p.file == nil || p.unsynced == 0 {
		return
	}
	p.syncing, p.mapped = make(chan struct{}), true
	f, have, count := p.file, p.have.clone(), p.unsynced
	go func() {
		err := p.store.c.FS.Sync(f)
		lost := err != nil
		if !lost {
			err = p.writeMap(have)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case lost:
			p.reset(p.synced)
		case err == nil:
			p.synced, p.unsynced, p.since = have, p.unsynced-count, p.store.c.Now()
		}
		p.syncErr = err
		close(p.syncing)
		p.syncing = nil
	}()
}

// awaitSync waits until no sync is under way. The caller holds p.mu, which is released meanwhile.
func (p *partial) awaitSync() {
	for p.syncing != nil {
		syncing := p.syncing
		p.mu.Unlock()
		<-syncing
		p.mu.Lock()
	}
}

// popSyncError returns the error of a sync in the background, once. The caller holds p.mu.
func (p *partial) popSyncError() error {
	err := p.syncErr
	p.syncErr = nil
	return err
}

// writeMap writes the map that says that these blocks are on the disk.
func (p *partial) writeMap(have blockSet) error {
	return p.store.c.FS.WriteFile(p.mapPath(), have.encode(p.rel.Blocks()), 0o600)
}

// removeMap removes the map, if there is one.
func (p *partial) removeMap() error {
	if !p.mapped {
		return nil
	}
	return p.store.c.FS.Remove(p.mapPath())
}

// removeTemps removes the temporary files of crashed writes, and parts that no Ingest has continued for partLife.
func (s *Store) removeTemps(ctx context.Context) error {
	dirs, err := disk.Glob(s.path(blobDir), "??")
	if err != nil {
		return err
	}
	for _, dir := range append(dirs, s.path(stagingDir), s.path(metadataDir)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.c.FS.RemoveTemps(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.removeStaleParts()
}

// removeStaleParts removes the parts that no Ingest has continued for partLife, and maps without a part. Other files
// in the directory stay: they are not ours.
func (s *Store) removeStaleParts() error {
	staged, err := files(s.path(stagingDir))
	if err != nil {
		return err
	}
	parts := map[update.Digest]bool{}
	for _, f := range staged {
		parts[f.digest] = parts[f.digest] || f.suffix == partSuffix
	}
	before := s.c.Now().Add(-partLife)
	for _, f := range staged {
		stale := f.info.ModTime().Before(before) || !parts[f.digest]
		if f.suffix != partSuffix && f.suffix != mapSuffix || !stale {
			continue
		}
		if _, err := s.removeUnused(f.digest, f.path); err != nil {
			return err
		}
	}
	return nil
}

// The map of a partial archive says which of its blocks are on the disk:
//
//	"blocks1\n"          8 bytes
//	block list digest    32 bytes: which list the numbers refer to
//	bits                 one for each block, the lowest bit of the first byte is block 0; unused bits are 0
//	SHA-256              32 bytes, of all before
const (
	mapMagic = "blocks1\n"
	maxMap   = int64(len(mapMagic)) + 2*sha256.Size + update.MaxLength/update.BlockSize/8 + 1
)

// blockSet is a set of blocks of an archive with n blocks.
type blockSet struct {
	bits []byte
	n    int
}

func newBlockSet(n int) blockSet { return blockSet{make([]byte, (n+7)/8), n} }

func (b blockSet) has(i int) bool  { return b.bits[i/8]&(1<<(i%8)) != 0 }
func (b blockSet) set(i int)       { b.bits[i/8] |= 1 << (i % 8) }
func (b blockSet) clone() blockSet { return blockSet{slices.Clone(b.bits), b.n} }
func (b blockSet) count() int      { return b.n - len(b.missing()) }

func (b blockSet) missing() []int {
	var out []int
	for i := range b.n {
		if !b.has(i) {
			out = append(out, i)
		}
	}
	return out
}

// encode returns the map of the set, for an archive with that block list.
func (b blockSet) encode(list update.Digest) []byte {
	out := slices.Concat([]byte(mapMagic), list[:], b.bits)
	sum := update.Sum(out)
	return append(out, sum[:]...)
}

// parseMap parses the map of an archive of n blocks with that block list.
func parseMap(raw []byte, list update.Digest, n int) (blockSet, error) {
	b := newBlockSet(n)
	if want := len(mapMagic) + 2*sha256.Size + len(b.bits); len(raw) != want {
		return blockSet{}, fmt.Errorf("map of blocks: expected %d bytes, got %d", want, len(raw))
	}
	body, sum := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if got := update.Sum(body); !bytes.Equal(got[:], sum) {
		return blockSet{}, errors.New("map of blocks: checksum does not fit")
	}
	head := append([]byte(mapMagic), list[:]...)
	if !bytes.HasPrefix(body, head) {
		return blockSet{}, errors.New("map of blocks: of another list or format")
	}
	copy(b.bits, body[len(head):])
	if n%8 != 0 && bits.Len8(b.bits[len(b.bits)-1]) > n%8 {
		return blockSet{}, errors.New("map of blocks: has bits beyond its last block")
	}
	return b, nil
}
