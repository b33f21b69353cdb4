package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Ingest is one caller's part in the arrival of an archive. Several callers may bring blocks of one
// archive at the same time; each has an Ingest of its own, which it must close. While one is open, GC
// leaves the archive alone.
type Ingest struct {
	arrival *arrival
	leave   sync.Once
}

// Ingest begins, or goes on with, the arrival of an archive that verified metadata lists, of which
// blocks is the block list. Whatever arrived before, in this process or another, is kept.
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
	a, err := s.join(rel, blocks)
	if err != nil {
		return nil, fmt.Errorf("ingest %v: %w", rel.Name(), err)
	}
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ingest %v: %w", rel.Name(), err), s.part(a))
	}
	return &Ingest{arrival: a}, nil
}

// join returns the arrival of an archive, with one user more.
func (s *Store) join(rel trust.Release, blocks update.Blocks) (*arrival, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	a := s.ingesting[rel.Digest()]
	if a != nil && (a.rel.Length() != rel.Length() || a.rel.Blocks() != rel.Blocks()) {
		return nil, fmt.Errorf("%w: digest %v is arriving as %v, with another length or block list", ErrCorrupt, rel.Digest(), a.rel.Name())
	}
	if a == nil {
		a = newArrival(s, rel, slices.Clone(blocks))
		s.ingesting[rel.Digest()] = a
	}
	a.users++
	return a, nil
}

// part takes one user from an arrival. The last one brings what has arrived to the disk and closes it; until
// that is done the arrival is where others find it: who joins waits, and opens it again. Callers who come and
// go while others stay cost nothing.
func (s *Store) part(a *arrival) error {
	if s.leave(a, false) {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.awaitSettling()
	if s.leave(a, false) { // somebody joined meanwhile
		return nil
	}
	err := a.shutLocked()
	s.leave(a, true)
	return err
}

// leave takes one user from an arrival and forgets one that nobody uses. It reports false, and does nothing,
// where that user is the last one and last is not set.
func (s *Store) leave(a *arrival, last bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.users == 1 && !last {
		return false
	}
	a.users--
	if a.users == 0 {
		delete(s.ingesting, a.rel.Digest())
	}
	return true
}

// Missing returns the numbers of the blocks that have not arrived, ascending.
func (i *Ingest) Missing() []int { return i.arrival.missing() }

// WriteBlock takes block n, all of it. The error is ErrCorrupt where p is not that block; then nothing
// was written. A block that is there already is not written again. It is disk.ErrNoSpace where the disk is
// full; Missing then tells whether the block has arrived nevertheless.
func (i *Ingest) WriteBlock(n int, p []byte) error { return i.arrival.write(n, p) }

// Commit gives the archive its name, durably, once all its blocks are there. The error is ErrIncomplete
// where blocks are missing, those included which the disk turns out to have lost: Missing lists them
// again. It is ErrCorrupt where the whole is not what the metadata say although each block is: then the
// part is gone, and the signer has to publish again under another version.
func (i *Ingest) Commit(ctx context.Context) error { return i.arrival.commit(ctx) }

// Close ends this caller's part. What has arrived is kept, for whoever goes on with it. Closing again
// does nothing.
func (i *Ingest) Close() (err error) {
	i.leave.Do(func() { err = i.arrival.store.part(i.arrival) })
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
	rel := i.arrival.rel
	buf := make([]byte, min(update.BlockSize, rel.Length()))
	for _, n := range i.Missing() {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:update.BlockLength(rel.Length(), n)]
		got, err := f.ReadAt(p, int64(n)*update.BlockSize)
		if got < len(p) && errors.Is(err, io.EOF) {
			return fmt.Errorf("%v: %w: expected %d bytes, got %d", rel.Name(), ErrCorrupt, rel.Length(), int64(n)*update.BlockSize+int64(got))
		}
		if got < len(p) {
			return fmt.Errorf("%v: %w", rel.Name(), err)
		}
		if err := i.WriteBlock(n, p); err != nil {
			return err
		}
	}
	return nil
}
