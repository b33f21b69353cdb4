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

// Ingest is one caller's share in bringing an archive. Several callers may bring blocks of one
// archive at the same time; each has an Ingest of its own, which it must close. While one is open, GC
// leaves the archive alone.
type Ingest struct {
	partial *partial
	close   sync.Once
}

// Ingest begins, or goes on with, bringing an archive that verified metadata lists, of which
// blocks is the block list. Whatever was brought before, by this process or another, is kept.
//
// The error is disk.ErrNoSpace where the disk has no room for the rest, which is set aside now, and
// ErrCorrupt where the block list is not the one that the metadata names.
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

// share returns the partial archive that all its callers share, with one user more.
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

// release takes one user from a partial archive. The last one brings what has arrived to the disk and closes it. Until
// that is done others still find it: whoever joins waits, and opens it again. Callers who come and go while others
// stay cost nothing.
func (s *Store) release(p *partial) error {
	if s.removeUser(p, false) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitSync()
	if s.removeUser(p, false) { // somebody joined meanwhile
		return nil
	}
	err := p.close()
	s.removeUser(p, true)
	return err
}

// removeUser takes one user from a partial archive and forgets one that nobody uses. It reports false, and does
// nothing, where that user is the last one and last is not set.
func (s *Store) removeUser(p *partial, last bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users == 1 && !last {
		return false
	}
	p.users--
	if p.users == 0 {
		delete(s.ingesting, p.rel.Digest())
	}
	return true
}

// isIngesting reports whether an archive is being brought.
func (s *Store) isIngesting(d update.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ingesting[d] != nil
}

// Missing returns the numbers of the blocks that have not arrived, ascending.
func (i *Ingest) Missing() []int { return i.partial.missing() }

// WriteBlock takes block n, all of it. The error is ErrCorrupt where b is not that block; then nothing
// was written. A block that is there already is not written again. It is disk.ErrNoSpace where the disk is
// full; Missing then tells whether the block has arrived nevertheless.
func (i *Ingest) WriteBlock(n int, b []byte) error {
	if err := i.partial.writeBlock(n, b); err != nil {
		return fmt.Errorf("%v: block %d: %w", i.partial.rel.Name(), n, err)
	}
	return nil
}

// Commit gives the archive its name, durably, once all its blocks are there. The error is ErrIncomplete
// where blocks are missing, those included which the disk turns out to have lost: Missing lists them
// again. It is ErrCorrupt where the whole is not what the metadata say although each block is: then the
// blocks are gone, and the signer has to publish again under another version.
func (i *Ingest) Commit(ctx context.Context) error {
	if err := i.partial.commit(ctx); err != nil {
		return fmt.Errorf("%v: %w", i.partial.rel.Name(), err)
	}
	return nil
}

// Close ends this caller's share. What has arrived is kept, for whoever goes on with it. Closing again
// does nothing.
func (i *Ingest) Close() (err error) {
	i.close.Do(func() { err = i.partial.store.release(i.partial) })
	return err
}

// IngestFile takes an archive from a file, from offset 0, through the same door: what lands is what
// was verified, whatever happens to the file meanwhile.
func (s *Store) IngestFile(ctx context.Context, rel trust.Release, blocks update.Blocks, f io.ReaderAt) (err error) {
	in, err := s.Ingest(ctx, rel, blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := in.copyFrom(ctx, f); err != nil {
		return fmt.Errorf("ingest %w", err)
	}
	if err := in.Commit(ctx); err != nil {
		return fmt.Errorf("ingest %w", err)
	}
	return nil
}

func (i *Ingest) copyFrom(ctx context.Context, f io.ReaderAt) error {
	rel := i.partial.rel
	buf := make([]byte, min(update.BlockSize, rel.Length()))
	for _, n := range i.Missing() {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:update.BlockLength(rel.Length(), n)]
		got, err := f.ReadAt(b, int64(n)*update.BlockSize)
		if got < len(b) && errors.Is(err, io.EOF) {
			return fmt.Errorf("%v: %w: expected %d bytes, got %d", rel.Name(), ErrCorrupt, rel.Length(), int64(n)*update.BlockSize+int64(got))
		}
		if got < len(b) {
			return fmt.Errorf("%v: %w", rel.Name(), err)
		}
		if err := i.WriteBlock(n, b); err != nil {
			return err
		}
	}
	return nil
}

// Salvage takes over the blocks that are right in what went to quarantine of the archive, so that the
// others alone have to come again, and returns how many. Nothing in quarantine is no error.
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
	taken := 0
	buf := make([]byte, min(update.BlockSize, rel.Length()))
	for _, n := range i.Missing() {
		if err := ctx.Err(); err != nil {
			return taken, err
		}
		b := buf[:update.BlockLength(rel.Length(), n)]
		if got, _ := f.ReadAt(b, int64(n)*update.BlockSize); got < len(b) {
			continue // what can't be read has to come again
		}
		err := i.WriteBlock(n, b)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return taken, err
		}
		if err == nil {
			taken++
		}
	}
	return taken, nil
}
