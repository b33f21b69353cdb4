package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// Archives brings archives from upstreams into a store: block by block if an upstream has the block list, otherwise
// in one piece. Client and Store are required.
type Archives struct {
	Client *Client
	Store  *store.Store

	// Resume keeps an unfinished archive that comes in one piece in the store's staging directory, so that the next
	// call continues it. A caller that sets it must remove files that are no longer needed. Blocks are always kept.
	Resume bool

	// Budget, if not nil, returns the budget for an archive; nil means no bound. Wrong bytes are not counted.
	Budget func(rel trust.Release) Budget
}

// maxLost is how often the download of one archive runs if the disk loses blocks of it.
const maxLost = 3

// Bring puts an archive in place, beginning with the blocks that are already on the disk, and returns how many bytes
// came. It calls fetched, if that is not nil, when all blocks have come, before they are durable. After an error the
// store keeps the blocks that came.
func (a Archives) Bring(ctx context.Context, rel trust.Release, fetched func()) (bytes int64, err error) {
	var budget Budget
	if a.Budget != nil {
		budget = a.Budget(rel)
	}
	blocks, err := a.Client.blockList(ctx, rel)
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
	// Intact blocks of a damaged copy need not come again.
	if _, err := in.Salvage(ctx); err != nil {
		return 0, err
	}
	for range maxLost {
		bytes += LengthOf(rel, in.Missing())
		if err = a.Client.download(ctx, rel, blocks, in, budget); err != nil {
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
	defer f.Close() // IngestFile has read back the bytes that count
	before, err := sizeOf(f)
	if err != nil {
		return 0, err
	}
	if missing := rel.Length() - before; budget != nil && missing > budget.Left() {
		return 0, budget.Over(missing)
	}
	blocks, err := a.Client.whole(ctx, rel, f)
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

// openWhole opens the file for an archive that comes in one piece. Without Resume the file has no name, so that
// nothing is left of it, even after a crash.
func (a Archives) openWhole(rel trust.Release) (*os.File, error) {
	dir := filepath.Join(a.Store.Dir(), "staging")
	if a.Resume {
		return disk.OpenNoFollow(filepath.Join(dir, rel.Digest().String()+".whole"), os.O_RDWR|os.O_CREATE, 0o600)
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

// LengthOf returns the total length of some blocks of an archive, in bytes.
func LengthOf(rel trust.Release, blocks []int) (bytes int64) {
	for _, n := range blocks {
		bytes += update.BlockLength(rel.Length(), n)
	}
	return bytes
}
