package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Blocks returns the block list of an archive, verified. For an archive of one block that is its digest,
// and nobody is asked. The error is ErrNotFound where an upstream that could be asked has no block lists,
// and no other upstream gave this one: see Whole.
func (c *Client) Blocks(ctx context.Context, rel trust.Release) (update.Blocks, error) {
	if rel.IsZero() {
		return nil, errNoRelease
	}
	if blocks, ok := knownBlocks(rel); ok {
		return blocks, nil
	}
	var blocks update.Blocks
	err := c.Ask(ctx, func(ctx context.Context, u *Upstream) (err error) {
		blocks, err = u.blocks(ctx, rel)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("block list of %v: %w", rel.Name(), err)
	}
	return blocks, nil
}

var errNoRelease = errors.New("fetch: no verified release")

// knownBlocks returns the block list of an archive that has at most one block.
func knownBlocks(rel trust.Release) (update.Blocks, bool) {
	var blocks update.Blocks
	if rel.Length() > update.BlockSize {
		return nil, false
	}
	if rel.Length() > 0 {
		blocks = update.Blocks{rel.Digest()}
	}
	return blocks, update.Sum(blocks.Bytes()) == rel.Blocks()
}

func (u *Upstream) blocks(ctx context.Context, rel trust.Release) (update.Blocks, error) {
	file := "sha256/" + rel.Digest().String() + ".blocks"
	a, err := u.get(ctx, file, http.Header{"Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	defer a.close()
	if err := u.status(file, a, false); err != nil {
		return nil, err
	}
	if err := u.plain(file, a); err != nil {
		return nil, err
	}
	want := int64(update.BlockCount(rel.Length())) * int64(len(update.Digest{}))
	raw, err := u.bounded(ctx, file, a.body, want)
	if err != nil {
		return nil, err
	}
	if got := update.Sum(raw); got != rel.Blocks() {
		return nil, u.damagedf(rel, file, "expected digest %v, got %v", rel.Blocks(), got)
	}
	blocks, err := update.ParseBlocks(raw, rel.Length())
	if err != nil {
		return nil, u.refusef(file, "%w", err)
	}
	return blocks, nil
}

// plain refuses an answer that is encoded.
func (u *Upstream) plain(file string, a *answer) error {
	if coding := a.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return u.refusef(file, "expected no Content-Encoding, got %.40q", coding)
	}
	return nil
}

// checkBlocks refuses a block list that is not the release's.
func checkBlocks(rel trust.Release, blocks update.Blocks) error {
	if rel.IsZero() {
		return errNoRelease
	}
	if got := update.Sum(blocks.Bytes()); got != rel.Blocks() {
		return fmt.Errorf("%v: block list: expected digest %v, got %v", rel.Name(), rel.Blocks(), got)
	}
	if want := update.BlockCount(rel.Length()); len(blocks) != want {
		return fmt.Errorf("%v: block list: expected %d blocks, got %d", rel.Name(), want, len(blocks))
	}
	return nil
}
