package origin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	// maxBegun is how many blocks are kept in memory while their parts arrive. A signer on a slow link sends one block
	// at a time, so this is how many signers may be slow at once. Beyond that, the block that rested longest is dropped.
	maxBegun = 4

	// keepBegun is how long the parts of a block are kept after the last one.
	keepBegun = time.Hour
)

// ErrGap says that a part does not continue what the origin has of its block.
var ErrGap error = status.Gap

// begunBlock holds the first bytes of a block that arrives in parts. They can't be verified before the block is
// complete, so they stay in memory.
type begunBlock struct {
	archive update.Digest
	block   int
	data    []byte // its capacity is the length of the block
	touched time.Time
}

// PutPart accepts a part of block i of an archive of a staged list: the bytes from offset at on. A part continues what
// is there, and may repeat some of it; Archive says how much is there. When the block is complete, PutPart does what
// PutBlock does. If the block is not the signed one, all its parts are dropped, since any of them may be wrong. A
// restart drops the parts of incomplete blocks.
//
// The errors are those of PutBlock, and ErrGap if bytes before at are missing. PutPart does not keep p.
func (o *Origin) PutPart(ctx context.Context, id, digest update.Digest, i int, at int64, p []byte) error {
	r, err := o.archiveWithBlock(id, digest, i)
	if err != nil {
		return err
	}
	length := update.BlockLength(r.Length(), i)
	if at < 0 || at > length || int64(len(p)) > length-at {
		return fmt.Errorf("%v: block %d: %w: it has %d bytes, the part begins at %d and has %d", r.Name(), i, ErrNotFound, length, at, len(p))
	}
	missing, known, err := o.missing(ctx, r)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("%v: %w", r.Name(), ErrBlocks)
	}
	if _, found := slices.BinarySearch(missing, i); !found {
		return nil // another caller was faster
	}
	whole, err := o.addPart(r.Digest(), i, length, at, p)
	if err != nil {
		return fmt.Errorf("%v: block %d: %w", r.Name(), i, err)
	}
	if whole == nil {
		return nil
	}
	return o.PutBlock(ctx, id, digest, i, whole)
}

// addPart adds a part to its block. If the block is complete then, it removes and returns it.
func (o *Origin) addPart(archive update.Digest, i int, length, at int64, p []byte) (whole []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.c.Now()
	o.parts = slices.DeleteFunc(o.parts, func(b *begunBlock) bool { return now.Sub(b.touched) > keepBegun })
	n := slices.IndexFunc(o.parts, func(b *begunBlock) bool { return b.archive == archive && b.block == i })
	var b *begunBlock
	if n >= 0 {
		b = o.parts[n]
	}
	have := int64(0)
	if b != nil {
		have = int64(len(b.data))
	}
	if at > have {
		return nil, fmt.Errorf("%w: it begins at %d, and %d bytes are here; continue there", ErrGap, at, have)
	}
	if len(p) == 0 {
		return nil, nil
	}
	if b == nil {
		b = &begunBlock{archive: archive, block: i, data: make([]byte, 0, length)}
	} else {
		o.parts = slices.Delete(o.parts, n, n+1)
	}
	if end := at + int64(len(p)); end > have {
		b.data = append(b.data, p[have-at:]...)
	}
	if int64(len(b.data)) == length {
		return b.data, nil
	}
	b.touched = now
	// The block that was touched last stands last.
	o.parts = append(o.parts, b)
	if len(o.parts) > maxBegun {
		o.parts = slices.Delete(o.parts, 0, 1)
	}
	return nil, nil
}

// begunBlocks returns how much is here of the blocks of an archive that arrive in parts, ascending by block. It is never
// nil, because a missing field tells signers that an origin accepts no parts.
func (o *Origin) begunBlocks(archive update.Digest) []Begun {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := []Begun{}
	for _, b := range o.parts {
		if b.archive == archive {
			out = append(out, Begun{b.block, int64(len(b.data))})
		}
	}
	slices.SortFunc(out, func(a, b Begun) int { return a.Block - b.Block })
	return out
}

// dropBegun drops the parts of archives for which which returns true.
func (o *Origin) dropBegun(which func(update.Digest) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parts = slices.DeleteFunc(o.parts, func(b *begunBlock) bool { return which(b.archive) })
}
