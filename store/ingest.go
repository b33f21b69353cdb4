package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Ingest is one caller's share in bringing an archive into the store. Several callers may bring blocks of one archive
// at the same time. Each has an Ingest of its own and must close it. While one is open, GC leaves the archive alone.
type Ingest struct {
	partial *partial
	close   sync.Once
}

// Ingest begins, or continues, to bring an archive that verified metadata list. blocks is its block list. Blocks that
// were brought before, by this process or another, are kept.
//
// The error is disk.ErrNoSpace if the disk has no room for the rest, which is allocated now, and ErrCorrupt if the
// block list is not the one that the metadata name.
func (s *Store) Ingest(ctx context.Context, rel trust.Release, blocks update.Blocks) (*Ingest, error) {
	if s.lock == nil {
		return nil, ErrReadOnly
	}
	if rel.IsZero() {
		return nil, errors.New("ingest: no verified release")
	}
	if got := update.Sum(blocks.Bytes()); got != rel.Blocks() {
		return nil, fmt.Errorf("ingest %v: block list: %w: expected digest %v, got %v", rel.Name(), ErrCorrupt, rel.Blocks(), got)
	}
	if want := update.BlockCount(rel.Length()); len(blocks) != want {
		return nil, fmt.Errorf("ingest %v: block list: %w: expected %d blocks, got %d", rel.Name(), ErrCorrupt, want, len(blocks))
	}
	p, err := s.share(rel, blocks)
	if err != nil {
		return nil, fmt.Errorf("ingest %v: %w", rel.Name(), err)
	}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ingest %v: %w", rel.Name(), err), s.release(p))
	}
	return &Ingest{partial: p}, nil
}

// share returns the partial of an archive, which all its callers share, and counts one user more.
func (s *Store) share(rel trust.Release, blocks update.Blocks) (*partial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	p := s.ingesting[rel.Digest()]
	if p != nil && (p.rel.Length() != rel.Length() || p.rel.Blocks() != rel.Blocks()) {
		return nil, fmt.Errorf("%w: digest %v is arriving as %v, with another length or block list", ErrCorrupt, rel.Digest(), p.rel.Name())
	}
	if p == nil {
		p = newPartial(s, rel, slices.Clone(blocks))
		s.ingesting[rel.Digest()] = p
	}
	p.users++
	return p, nil
}

// release counts one user of a partial less. The last one syncs the blocks and closes the file. Until then other
// callers still find the partial.
func (s *Store) release(p *partial) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return p.users == 1
	}
	if last() {
		err = p.syncAll()
	}
	if last() { // nobody has joined meanwhile
		err = errors.Join(err, p.closeFile())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(s.ingesting, p.rel.Digest())
	}
	return err
}

// isIngesting reports whether an Ingest of the archive is open.
func (s *Store) isIngesting(d update.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ingesting[d] != nil
}

// Missing returns the numbers of the blocks that have not arrived, ascending.
func (i *Ingest) Missing() []int {
	p := i.partial
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return nil
	}
	return p.have.missing()
}

// WriteBlock verifies b, which must be the whole of block n, and writes it. The error is ErrCorrupt if b is not that
// block; then nothing was written. A block that is there already is not written again. The error is disk.ErrNoSpace
// if the disk is full; the block may have arrived nevertheless: see Missing.
func (i *Ingest) WriteBlock(n int, b []byte) error {
	if err := i.partial.writeBlock(n, b); err != nil {
		return fmt.Errorf("%v: block %d: %w", i.partial.rel.Name(), n, err)
	}
	return nil
}

// Commit gives the archive its name, durably, once all its blocks are there. The error is ErrIncomplete if blocks are
// missing, including blocks that the disk has lost: Missing then lists them. The error is ErrCorrupt if each block is
// right but the whole is not what the metadata say: then the blocks are discarded, and the signer has to publish the
// update again under another version.
func (i *Ingest) Commit(ctx context.Context) error {
	if err := i.partial.commit(ctx); err != nil {
		return fmt.Errorf("%v: %w", i.partial.rel.Name(), err)
	}
	return nil
}

// Close ends this caller's share. The blocks that have arrived are kept for the next Ingest. Closing again does
// nothing.
func (i *Ingest) Close() (err error) {
	i.close.Do(func() { err = i.partial.store.release(i.partial) })
	return err
}

// IngestFile ingests an archive from a file, read from offset 0. Its blocks are verified like those of any Ingest,
// whatever happens to the file meanwhile.
func (s *Store) IngestFile(ctx context.Context, rel trust.Release, blocks update.Blocks, f io.ReaderAt) (err error) {
	in, err := s.Ingest(ctx, rel, blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if _, err := in.copyBlocks(ctx, f, false); err != nil {
		return fmt.Errorf("ingest %w", err)
	}
	if err := in.Commit(ctx); err != nil {
		return fmt.Errorf("ingest %w", err)
	}
	return nil
}

// Salvage copies the intact blocks of the archive's file in quarantine, so that only the others have to be fetched
// again, and returns how many it copied. It is no error if nothing is in quarantine.
func (i *Ingest) Salvage(ctx context.Context) (int, error) {
	rel := i.partial.rel
	f, err := openRegular(i.partial.store.path(quarantineDir, rel.Digest().String()))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("salvage %v: %w", rel.Name(), err)
	}
	defer f.Close() // opened for reading
	return i.copyBlocks(ctx, f, true)
}

// copyBlocks writes the missing blocks as a file has them, and returns how many. With skip, it passes over blocks that
// can't be read or are damaged.
func (i *Ingest) copyBlocks(ctx context.Context, f io.ReaderAt, skip bool) (copied int, err error) {
	rel := i.partial.rel
	buf := make([]byte, min(update.BlockSize, rel.Length()))
	for _, n := range i.Missing() {
		if err := ctx.Err(); err != nil {
			return copied, err
		}
		b := buf[:update.BlockLength(rel.Length(), n)]
		got, err := f.ReadAt(b, int64(n)*update.BlockSize)
		switch {
		case got == len(b):
			err = i.WriteBlock(n, b)
		case skip:
			continue
		case errors.Is(err, io.EOF):
			return copied, fmt.Errorf("%v: %w: expected %d bytes, got %d", rel.Name(), ErrCorrupt, rel.Length(), int64(n)*update.BlockSize+int64(got))
		default:
			return copied, fmt.Errorf("%v: %w", rel.Name(), err)
		}
		switch {
		case err == nil:
			copied++
		case !skip || !errors.Is(err, ErrCorrupt):
			return copied, err
		}
	}
	return copied, nil
}
