package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// Archives brings archives from upstreams into a store: block by block where an upstream has the block list, else in one
// piece. Client and Store are required.
type Archives struct {
	Client *Client
	Store  *store.Store

	// Resume says that what came of an archive in one piece is kept in the store's staging directory, for the next
	// call to go on with. Whoever sets it removes what is not needed any more. Blocks are always kept.
	Resume bool

	// Budget, if not nil, returns what bounds how many bytes of an archive come, nil for nothing. What an upstream
	// sent wrong is not counted.
	Budget func(rel trust.Release) Budget
}

// maxLost is how often an archive is gone on with whose blocks the disk lost.
const maxLost = 3

// Bring makes an archive be in place, with what is on the disk already, and returns how many bytes came. It calls fetched,
// if that is not nil, where all blocks came, before they are on the disk. After an error the store has what came before.
func (a Archives) Bring(ctx context.Context, rel trust.Release, fetched func()) (bytes int64, err error) {
	var budget Budget
	if a.Budget != nil {
		budget = a.Budget(rel)
	}
	blocks, err := a.Client.Blocks(ctx, rel)
	switch {
	case errors.Is(err, ErrNotFound):
		return a.bringWhole(ctx, rel, budget)
	case err != nil:
		return 0, err
	}
	in, err := a.Store.Ingest(ctx, rel, blocks)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	// What is whole of a damaged copy need not come again.
	if _, err := in.Salvage(ctx); err != nil {
		return 0, err
	}
	var sink Sink = in
	if budget != nil {
		b := &budgetSink{in, budget, rel}
		if err := b.allowNext(); err != nil {
			return 0, err
		}
		sink = b
	}
	for range maxLost {
		bytes += LengthOf(rel, in.Missing())
		if err = a.Client.Download(ctx, rel, blocks, sink); err != nil {
			return 0, err
		}
		if fetched != nil {
			fetched()
		}
		if err = in.Commit(ctx); !errors.Is(err, store.ErrIncomplete) {
			return bytes, err
		}
	}
	return 0, err
}

// bringWhole brings an archive in one piece, which has to fit into the budget.
func (a Archives) bringWhole(ctx context.Context, rel trust.Release, budget Budget) (bytes int64, err error) {
	f, err := a.openWhole(rel)
	if err != nil {
		return 0, fmt.Errorf("download %v: %w", rel.Name(), err)
	}
	defer f.Close() // what counts was read back
	before, err := sizeOf(f)
	if err != nil {
		return 0, err
	}
	if missing := rel.Length() - before; budget != nil && missing > budget.Left() {
		return 0, budget.Over(missing)
	}
	blocks, err := a.Client.Whole(ctx, rel, f)
	if budget != nil {
		here, sizeErr := sizeOf(f)
		err = errors.Join(err, sizeErr, budget.Spend(max(0, here-before), here))
	}
	if err != nil {
		return 0, err
	}
	if err := a.Store.IngestFile(ctx, rel, blocks, io.NewSectionReader(f, 0, rel.Length())); err != nil {
		return 0, err
	}
	if a.Resume {
		err = os.Remove(f.Name())
	}
	return rel.Length(), err
}

// openWhole opens the file for an archive that comes in one piece. Where it is not to be kept, it has no name: nothing is left
// of it, whatever happens.
func (a Archives) openWhole(rel trust.Release) (*os.File, error) {
	dir := filepath.Join(a.Store.Dir(), "staging")
	if a.Resume {
		return os.OpenFile(filepath.Join(dir, rel.Digest().String()+".whole"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	}
	f, err := os.CreateTemp(dir, disk.TempPrefix+"*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func sizeOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// LengthOf returns how many bytes some blocks of an archive have.
func LengthOf(rel trust.Release, blocks []int) (bytes int64) {
	for _, n := range blocks {
		bytes += update.BlockLength(rel.Length(), n)
	}
	return bytes
}

// budgetSink is a sink within a budget. Where the next block would be too much, it ends the download with an error of its
// own, so that no upstream is asked for that block.
type budgetSink struct {
	Sink
	budget Budget
	rel    trust.Release
}

// WriteBlock takes a block and counts it.
func (s *budgetSink) WriteBlock(i int, p []byte) error {
	if err := s.Sink.WriteBlock(i, p); err != nil {
		return err
	}
	if err := s.budget.Spend(int64(len(p)), s.rel.Length()-LengthOf(s.rel, s.Missing())); err != nil {
		return err
	}
	return s.allowNext()
}

// allowNext refuses the next block where it is too much.
func (s *budgetSink) allowNext() error {
	missing := s.Missing()
	if len(missing) == 0 {
		return nil
	}
	if next := update.BlockLength(s.rel.Length(), missing[0]); next > s.budget.Left() {
		return s.budget.Over(next)
	}
	return nil
}
