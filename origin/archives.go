package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// arrival is an archive that stays open for writing between two blocks.
type arrival struct {
	*store.Ingest
	used int64 // guarded by Origin.mu
}

// archive returns an archive of a staged list.
func (o *Origin) archive(id, digest update.Digest) (trust.Release, error) {
	p, err := o.find(id)
	if err != nil {
		return trust.Release{}, err
	}
	r, ok := p.archives[digest]
	if !ok {
		return trust.Release{}, fmt.Errorf("proposal %v: archive %v: %w", id, digest, ErrNotFound)
	}
	return r, nil
}

// archiveWithBlock returns an archive of a staged list that has a block i.
func (o *Origin) archiveWithBlock(id, digest update.Digest, i int) (trust.Release, error) {
	r, err := o.archive(id, digest)
	if err == nil && (i < 0 || i >= update.BlockCount(r.Length())) {
		err = fmt.Errorf("%v: block %d: %w: it has %d", r.Name(), i, ErrNotFound, update.BlockCount(r.Length()))
	}
	return r, err
}

// Archive says how much of an archive of the staged list with that ID has arrived. The error is ErrNotFound if no list
// with that ID is staged, or the list does not name the archive.
func (o *Origin) Archive(ctx context.Context, id, digest update.Digest) (Archive, error) {
	r, err := o.archive(id, digest)
	if err != nil {
		return Archive{}, err
	}
	missing, known, err := o.missing(ctx, r)
	if err != nil {
		return Archive{}, err
	}
	return o.describeArchive(r, missing, known), nil
}

// describeArchive returns the Archive of a release with those missing blocks. known says whether its block list is here.
func (o *Origin) describeArchive(r trust.Release, missing []int, known bool) Archive {
	return Archive{r.Name(), r.Digest(), r.Length(), known, ranges(missing), o.begunBlocks(r.Digest())}
}

// PutBlocks accepts the block list of an archive of a staged list. The errors are those of Archive; store.ErrCorrupt if
// it is not the signed one; disk.ErrNoSpace.
func (o *Origin) PutBlocks(ctx context.Context, id, digest update.Digest, list []byte) error {
	r, err := o.archive(id, digest)
	if err != nil {
		return err
	}
	if got := update.Sum(list); got != r.Blocks() {
		return fmt.Errorf("%v: block list: %w: expected digest %v, got %v", r.Name(), store.ErrCorrupt, r.Blocks(), got)
	}
	if _, err := update.ParseBlocks(list, r.Length()); err != nil {
		return fmt.Errorf("%v: %w: %w", r.Name(), store.ErrCorrupt, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := o.blocks(r); err == nil {
		return nil
	}
	if err := o.c.FS.WriteFile(o.listPath(r), list, 0o644); err != nil {
		return fmt.Errorf("%v: %w", r.Name(), err)
	}
	return nil
}

// PutBlock accepts block i of an archive of a staged list as a whole. The errors are those of Archive; ErrBlocks before
// PutBlocks; store.ErrCorrupt if p is not that block, and then nothing is written; disk.ErrNoSpace. PutBlock does not
// keep p.
func (o *Origin) PutBlock(ctx context.Context, id, digest update.Digest, i int, p []byte) error {
	r, err := o.archiveWithBlock(id, digest, i)
	if err != nil {
		return err
	}
	blocks, err := o.blocks(r)
	if errors.Is(err, errPlaced) {
		return nil
	}
	if err != nil {
		return err
	}
	// A wrong first block must not even create the file.
	if !o.isOpen(digest) && update.Sum(p) != blocks[i] {
		return fmt.Errorf("%v: block %d: %w: expected digest %v, got %v", r.Name(), i, store.ErrCorrupt, blocks[i], update.Sum(p))
	}
	in, err := o.c.Store.Ingest(ctx, r, blocks)
	if err != nil {
		return err
	}
	return errors.Join(in.WriteBlock(i, p), o.keepOpen(digest, in))
}

func (o *Origin) listPath(r trust.Release) string {
	return filepath.Join(o.dir, r.Blocks().String()+blocksSuffix)
}

// errPlaced says that the commit of another caller placed an archive, and removed its block list: nothing is missing.
var errPlaced = errors.New("the archive is in place")

// blocks returns the block list of an archive that is arriving. If it is not here, the error is errPlaced or ErrBlocks.
func (o *Origin) blocks(r trust.Release) (update.Blocks, error) {
	raw, err := readUpTo(o.listPath(r), int64(update.BlockCount(r.Length()))*int64(len(update.Digest{})))
	if errors.Is(err, fs.ErrNotExist) || err == nil && update.Sum(raw) != r.Blocks() {
		if o.c.Store.Has(r) {
			return nil, fmt.Errorf("%v: %w", r.Name(), errPlaced)
		}
		return nil, fmt.Errorf("%v: %w", r.Name(), ErrBlocks)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: block list: %w", r.Name(), err)
	}
	return update.ParseBlocks(raw, r.Length())
}

// missing returns which blocks of an archive have not arrived, and whether its block list is here.
func (o *Origin) missing(ctx context.Context, r trust.Release) (blocks []int, known bool, err error) {
	if o.c.Store.Has(r) {
		return nil, true, nil
	}
	list, err := o.blocks(r)
	if errors.Is(err, errPlaced) {
		return nil, true, nil
	}
	if errors.Is(err, ErrBlocks) {
		for i := range update.BlockCount(r.Length()) {
			blocks = append(blocks, i)
		}
		return blocks, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	in, err := o.c.Store.Ingest(ctx, r, list)
	if err != nil {
		return nil, false, err
	}
	return in.Missing(), true, o.keepOpen(r.Digest(), in)
}

func (o *Origin) isOpen(d update.Digest) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[d] != nil
}

// keepOpen keeps an arrival open for the next call, or closes it. If too many are open then, it closes the one that was
// used least recently.
func (o *Origin) keepOpen(d update.Digest, in *store.Ingest) error {
	if extra := o.addOpen(d, in); extra != nil {
		return extra.Close()
	}
	return nil
}

// addOpen adds an open arrival, and returns the one to close, nil if there is none.
func (o *Origin) addOpen(d update.Digest, in *store.Ingest) *store.Ingest {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.uses++
	if a := o.open[d]; a != nil {
		a.used = o.uses
		return in
	}
	if o.closed || !o.wanted(d) {
		return in
	}
	o.open[d] = &arrival{in, o.uses}
	if len(o.open) <= o.c.MaxOpen {
		return nil
	}
	oldest := d
	for other, a := range o.open {
		if a.used < o.open[oldest].used {
			oldest = other
		}
	}
	out := o.open[oldest]
	delete(o.open, oldest)
	return out.Ingest
}

// wanted is wantsArchive for a caller that holds mu.
func (o *Origin) wanted(d update.Digest) bool {
	for _, p := range o.kept {
		if _, ok := p.archives[d]; ok {
			return true
		}
	}
	return false
}

// closeArrivals closes the arrivals for which which returns true.
func (o *Origin) closeArrivals(which func(update.Digest) bool) {
	o.mu.Lock()
	var done []*arrival
	for d, a := range o.open {
		if which(d) {
			done = append(done, a)
			delete(o.open, d)
		}
	}
	o.mu.Unlock()
	for _, a := range done {
		if err := a.Close(); err != nil {
			o.c.Logger.Warn("archive not closed", "err", err)
		}
	}
}

// placeArchives makes each archive of a staged list a blob. The error is store.ErrIncomplete if blocks are missing.
func (o *Origin) placeArchives(ctx context.Context, p *proposal) error {
	for _, r := range p.Releases() {
		if o.c.Store.Has(r) {
			continue
		}
		if err := o.placeArchive(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (o *Origin) placeArchive(ctx context.Context, r trust.Release) (err error) {
	list, err := o.blocks(r)
	if errors.Is(err, errPlaced) {
		return nil
	}
	if errors.Is(err, ErrBlocks) {
		return fmt.Errorf("%w: %w", store.ErrIncomplete, err)
	}
	if err != nil {
		return err
	}
	in, err := o.c.Store.Ingest(ctx, r, list)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return in.Commit(ctx)
}

// wantsArchive reports whether a staged list names the archive, or one that a signer holds back.
func (o *Origin) wantsArchive(d update.Digest) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.held {
		if _, ok := p.archives[d]; ok && p.Version() > o.repository().Version(trust.RoleTargets) {
			return true
		}
	}
	return o.wanted(d)
}
