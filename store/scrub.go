package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	scrubName = "scrub.json"

	scrubSave  = time.Minute     // how often the position is written
	scrubPause = 5 * time.Minute // while there is nothing to read, and before a new try after an error
)

// Scrubbed says how far Scrub has got. It outlives restarts.
type Scrubbed struct {
	Began    time.Time     `json:"began"`             // when the present pass began
	At       update.Digest `json:"at"`                // the archive that is being read; ascending
	Block    int           `json:"block"`             // the next block of it
	Complete time.Time     `json:"complete,omitzero"` // when the last pass ended
	Damaged  int           `json:"damaged"`           // archives that were found damaged since the directory was made
}

// Scrub reads the listed archives again and again, each pass in about every, evenly and with the lowest priority on
// the disk, and compares each block with the block list. An archive with a block that differs, or that the disk can't
// read twice, goes to quarantine and is no longer served; then found is called. At the start and before each pass,
// archives in quarantine that read right come back. Scrub continues after errors and restarts, and returns when ctx
// ends, with its error.
func (s *Store) Scrub(ctx context.Context, every time.Duration, found func(Problem)) error {
	// The thread stays locked, so that it ends with its low priority.
	runtime.LockOSThread()
	disk.YieldDisk() // without I/O priorities the pace alone keeps the disk free
	if err := s.writable(); err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	for first := true; ; first = false {
		if first || s.Scrubbed().Began.IsZero() {
			s.restoreAll(ctx)
		}
		if err := s.scrubPass(ctx, every, found); err != nil && ctx.Err() == nil {
			s.c.Logger.Error("scrub", "err", err)
		}
		if err := pace.Sleep(ctx, scrubPause); err != nil {
			return err
		}
	}
}

// Scrubbed returns how far Scrub has got.
func (s *Store) Scrubbed() Scrubbed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scrubbed
}

// scrubPass reads the archives, beginning where the last pass stopped.
func (s *Store) scrubPass(ctx context.Context, every time.Duration, found func(Problem)) error {
	repo := s.Repository()
	if repo == nil {
		return nil
	}
	releases, total := s.toScrub(repo)
	if total == 0 {
		return nil
	}
	p := s.Scrubbed()
	if p.Began.IsZero() {
		p.Began = s.c.Now()
	}
	r := reading{store: s, position: p, saved: s.c.Now(), pace: float64(every) / float64(total)}
	for _, rel := range releases {
		d := rel.Digest()
		switch bytes.Compare(d[:], r.position.At[:]) {
		case -1:
			continue
		case 1:
			r.position.At, r.position.Block = d, 0
		}
		err := r.archive(ctx, rel)
		if damagedOnDisk(err) {
			r.position.Damaged++
			found(Problem{rel.Name(), d, err})
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.save()
			return err
		}
	}
	r.position = Scrubbed{Complete: s.c.Now(), Damaged: r.position.Damaged}
	r.save()
	return nil
}

// toScrub returns the releases of a repository whose archives are in the store, ascending by digest, and their total
// length in bytes.
func (s *Store) toScrub(repo *trust.Repository) (releases []trust.Release, total int64) {
	for _, rel := range repo.Releases() {
		if s.hasBlob(rel) {
			releases, total = append(releases, rel), total+rel.Length()
		}
	}
	slices.SortFunc(releases, func(a, b trust.Release) int {
		x, y := a.Digest(), b.Digest()
		return bytes.Compare(x[:], y[:])
	})
	return slices.CompactFunc(releases, func(a, b trust.Release) bool { return a.Digest() == b.Digest() }), total
}

// reading is one pass.
type reading struct {
	store    *Store
	position Scrubbed
	saved    time.Time
	pace     float64 // nanoseconds for each byte
}

// archive reads the rest of an archive. A damaged archive is in quarantine when it returns.
func (r *reading) archive(ctx context.Context, rel trust.Release) error {
	s := r.store
	path := s.blobPath(rel.Digest())
	f, err := openArchive(path, rel.Length())
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	var blocks update.Blocks
	err = s.readAgain(ctx, scrubPause, func() (err error) {
		blocks, err = s.Blocks(rel.Update())
		return err
	})
	if err != nil {
		return s.quarantineDamaged(rel.Digest(), f, err)
	}
	buf := make([]byte, min(update.BlockSize, rel.Length()))
	for r.position.Block < len(blocks) {
		i := r.position.Block
		b := buf[:update.BlockLength(rel.Length(), i)]
		err := s.readAgain(ctx, scrubPause, func() error { return s.readFromDisk(f, b, int64(i)*update.BlockSize) })
		if err == nil && update.Sum(b) != blocks[i] {
			err = fmt.Errorf("%w: expected digest %v, got %v", ErrCorrupt, blocks[i], update.Sum(b))
		}
		if err != nil {
			return s.quarantineDamaged(rel.Digest(), f, fmt.Errorf("%v: block %d: %w", rel.Name(), i, err))
		}
		r.position.Block++
		pause := time.Duration(float64(len(b)) * r.pace)
		if pause >= scrubSave || s.c.Now().Sub(r.saved) >= scrubSave {
			r.save()
		}
		if err := pace.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// readFromDisk reads from the disk instead of the page cache.
func readFromDisk(f *os.File, b []byte, off int64) error {
	disk.DropCached(f, off, int64(len(b)))
	_, err := f.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends within the block", ErrCorrupt)
	}
	return err
}

// save publishes the position and writes it to the disk. If that fails, the next process reads again what was read
// since.
func (r *reading) save() {
	s := r.store
	r.saved = s.c.Now()
	s.mu.Lock()
	s.scrubbed = r.position
	s.mu.Unlock()
	s.writeNote(scrubName, r.position)
}
