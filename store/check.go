package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// checkPause is how long a check waits before it reads an archive again that the disk can't read.
const checkPause = 10 * time.Second

// Problem is one thing that is wrong with a store.
type Problem struct {
	Name   update.Name   // zero if no listed update is concerned
	Digest update.Digest // of the archive
	Err    error         // ErrCorrupt, fs.ErrNotExist, or what the system says
}

// String says what is wrong in one line.
func (p Problem) String() string {
	if p.Name.IsZero() {
		return p.Err.Error()
	}
	return fmt.Sprintf("%v: %v", p.Name, p.Err)
}

// Check says how thorough a check is and what it does about damage.
type Check struct {
	// Hash, if set, makes the check read every archive, listed or not, and compare its digest and block list.
	// Otherwise only presence and length of the listed archives are checked.
	Hash bool

	// Quarantine, if set, moves damaged archives to quarantine, so that they are never served again and can arrive
	// anew, and replaces damaged block lists. With Hash, archives in quarantine that read right come back first. The
	// store must be open for writing.
	Quarantine bool

	// Checked, if not nil, is called after each listed archive.
	Checked func(trust.Release)

	// Read, if not nil, is called after each piece of an archive that was read, listed or not, with the length of the
	// piece in bytes. The next piece is read after Read has returned.
	Read func(d update.Digest, n int)
}

// readOf returns what is called after each piece of an archive, nil for nothing.
func (c Check) readOf(d update.Digest) func(n int) {
	if c.Read == nil {
		return nil
	}
	return func(n int) { c.Read(d, n) }
}

// Check checks that the archives and block lists of the current repository are right and that those that are kept are
// in place. It returns what is wrong. The error is trust.ErrNone if there is no repository. The metadata themselves
// were verified when they became current.
func (s *Store) Check(ctx context.Context, c Check) ([]Problem, error) {
	if c.Quarantine {
		if err := s.writable(); err != nil {
			return nil, fmt.Errorf("check: %w", err)
		}
	}
	v := s.current.Load()
	if v.repo == nil {
		return nil, v.problem
	}
	if c.Quarantine && c.Hash {
		s.restoreAll(ctx)
	}
	var out []Problem
	listed, optional := map[update.Digest]bool{}, v.optional
	for _, rel := range v.repo.Releases() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		listed[rel.Digest()] = true
		err := s.checkRelease(ctx, rel, c)
		if err != nil && !(optional[rel.Digest()] && errors.Is(err, fs.ErrNotExist)) {
			out = append(out, Problem{rel.Name(), rel.Digest(), err})
		}
		if c.Checked != nil {
			c.Checked(rel)
		}
	}
	if c.Hash {
		more, err := s.checkUnlisted(ctx, listed, c)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, ctx.Err()
}

func (s *Store) checkRelease(ctx context.Context, rel trust.Release, c Check) error {
	// Lstat comes before the archive is opened, so that only the file that was read can be moved away.
	info, statErr := os.Lstat(s.blobPath(rel.Digest()))
	var blocks update.Blocks
	look := c
	err := s.readAgain(ctx, checkPause, func() (err error) {
		blocks, err = s.readRelease(ctx, rel, look)
		look.Read = nil // the second reading is not reported
		return err
	})
	if damagedOnDisk(err) && c.Quarantine && statErr == nil {
		return errors.Join(err, s.quarantine(rel.Digest(), info))
	}
	if err != nil || !c.Hash {
		return err
	}
	_, err = s.storedBlocks(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Blocks computes it on demand
	}
	if err != nil && c.Quarantine {
		err = errors.Join(err, s.keepBlocks(rel.Digest(), blocks))
	}
	return err
}

// readRelease opens an archive and, if c.Hash is set, reads it and returns its block list.
func (s *Store) readRelease(ctx context.Context, rel trust.Release, c Check) (update.Blocks, error) {
	f, err := s.Open(rel.Update())
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	if !c.Hash {
		return nil, nil
	}
	return hashArchive(ctx, f, rel, c.readOf(rel.Digest()))
}

// checkUnlisted reads the archives that are not listed: they may be listed again.
func (s *Store) checkUnlisted(ctx context.Context, listed map[update.Digest]bool, c Check) (out []Problem, err error) {
	blobs, err := s.blobs(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range blobs {
		if listed[b.digest] || !b.there {
			continue
		}
		err := s.checkBlob(ctx, b.digest, c)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // GC may be at work
			out = append(out, Problem{Digest: b.digest, Err: err})
		}
		if ctx.Err() != nil {
			break
		}
	}
	return out, ctx.Err()
}

func (s *Store) checkBlob(ctx context.Context, d update.Digest, c Check) error {
	f, err := openRegular(s.blobPath(d))
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return err
	}
	got, _, _, err := update.Hash(ctx, f, c.readOf(d))
	if err != nil || got == d {
		return err
	}
	err = fmt.Errorf("%s: %w: it has digest %v", f.Name(), ErrCorrupt, got)
	if c.Quarantine {
		err = errors.Join(err, s.quarantine(d, info))
	}
	return err
}

// quarantine moves a blob to quarantine, unless its name belongs to another file than info by now. Its other names
// are removed first, so that a damaged blob has none once it has left its place.
func (s *Store) quarantine(d update.Digest, info fs.FileInfo) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	now, err := os.Lstat(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, info) {
		return nil
	}
	if err != nil {
		return err
	}
	s.unlinkDigest(d)
	if err := s.c.FS.MkdirAll(s.path(quarantineDir), 0o755); err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	if err := s.c.FS.Rename(s.blobPath(d), s.path(quarantineDir, d.String())); err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	s.c.Logger.Error("damaged archive moved to quarantine", "digest", d.String())
	return nil
}

// restoreAll moves listed archives back that are in quarantine but read right now: a cable or a network was at fault.
// Nothing else would bring them back.
func (s *Store) restoreAll(ctx context.Context) {
	repo := s.Repository()
	if repo == nil {
		return
	}
	for _, rel := range repo.Releases() {
		if s.hasBlob(rel) || ctx.Err() != nil {
			continue
		}
		err := s.restore(ctx, rel)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !damagedOnDisk(err) && ctx.Err() == nil {
			s.c.Logger.Warn("archive not moved back from quarantine", "name", rel.Name().String(), "err", err)
		}
	}
}

// restore moves an archive back from quarantine. The error is fs.ErrNotExist if it is not there, and ErrCorrupt if it
// is damaged.
func (s *Store) restore(ctx context.Context, rel trust.Release) error {
	d, path := rel.Digest(), s.path(quarantineDir, rel.Digest().String())
	f, err := openArchive(path, rel.Length())
	if err != nil {
		return err
	}
	defer f.Close()          // opened for reading
	disk.DropCached(f, 0, 0) // read what is on the disk, not in the page cache
	blocks, err := hashArchive(ctx, f, rel, nil)
	if err != nil {
		return err
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	if err := s.writable(); err != nil || s.isIngesting(d) || s.hasBlob(rel) {
		return err
	}
	if err := s.putBlocks(d, blocks); err != nil {
		return err
	}
	if err := s.c.FS.Rename(path, s.blobPath(d)); err != nil {
		return err
	}
	s.c.Logger.Warn("archive in quarantine reads right, and is moved back", "name", rel.Name().String())
	return s.linkListed(d)
}
