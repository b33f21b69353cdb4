package publish

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Depth says how much of an archive is read back.
type Depth int

// The depths.
const (
	Ends  Depth = iota // the first and the last block; over a slow link only the header fields of both URLs
	Whole              // all of it
)

// Check reads back a published release as the server serves it, and refuses with trust.ErrMismatch what was not signed.
// It reads the first block by the name, as boxes do.
func (r *Remote) Check(ctx context.Context, rel trust.Release, d Depth) error {
	check := r.checkEnds
	if d == Whole {
		check = r.checkWhole
	}
	if err := check(ctx, rel); err != nil {
		return fmt.Errorf("%v as served: %w", rel.Name(), err)
	}
	return nil
}

func (r *Remote) checkWhole(ctx context.Context, rel trust.Release) (err error) {
	body, err := r.Archive(ctx, rel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	_, err = trust.VerifyArchive(ctx, rel, body, nil)
	return err
}

func (r *Remote) checkEnds(ctx context.Context, rel trust.Release) error {
	count := update.BlockCount(rel.Length())
	_, raw, err := r.get(ctx, int64(count)*int64(len(update.Digest{})), nil, blobsPath, rel.Digest().String()+blocksSuffix)
	if err != nil {
		return err
	}
	if got := update.Sum(raw); got != rel.Blocks() {
		return fmt.Errorf("block list: %w: expected digest %v, got %v", trust.ErrMismatch, rel.Blocks(), got)
	}
	blocks, err := update.ParseBlocks(raw, rel.Length())
	if err != nil {
		return fmt.Errorf("block list: %w: %w", trust.ErrMismatch, err)
	}
	if count == 0 {
		return r.checkWhole(ctx, rel)
	}
	name := []string{updatePath, rel.Name().String()}
	digest := []string{blobsPath, rel.Digest().String()}
	if r.link.slow() {
		// Reading two blocks back could take longer than sending the archive took.
		said, err := r.checkHead(ctx, rel, name...)
		if err != nil {
			return err
		}
		if said {
			said, err = r.checkHead(ctx, rel, digest...)
		}
		if said || err != nil {
			return err
		}
	}
	if err := r.checkBlock(ctx, rel, blocks, 0, name...); err != nil {
		return err
	}
	return r.checkBlock(ctx, rel, blocks, count-1, digest...)
}

// checkHead compares the length of an archive and its digest in the field Repr-Digest (RFC 9530). said is false if there is
// no such field, as behind a proxy that drops it.
func (r *Remote) checkHead(ctx context.Context, rel trust.Release, path ...string) (said bool, err error) {
	q := request{method: http.MethodHead, path: path}
	var length int64
	var got string
	err = r.retry(ctx, newPatience(r.c.Patience), func() error {
		resp, err := r.do(ctx, q)
		if err != nil {
			return err
		}
		length, got = resp.ContentLength, resp.Header.Get("Repr-Digest")
		return resp.Body.Close()
	})
	if err != nil || got == "" {
		return false, err
	}
	sum := rel.Digest()
	if want := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"; got != want || length != rel.Length() {
		return false, fmt.Errorf("%s: %w: expected %d bytes with Repr-Digest %s, got %d with %.100q", r.at(path...), trust.ErrMismatch, rel.Length(), want, length, got)
	}
	return true, nil
}

func (r *Remote) checkBlock(ctx context.Context, rel trust.Release, blocks update.Blocks, i int, path ...string) error {
	from, length := int64(i)*update.BlockSize, update.BlockLength(rel.Length(), i)
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, from+length-1)}}
	status, raw, err := r.get(ctx, length, header, path...)
	if err != nil {
		return err
	}
	if whole := status == http.StatusOK && length == rel.Length(); status != http.StatusPartialContent && !whole {
		return fmt.Errorf("block %d: %w: status %d for a range", i, errAnswer, status)
	}
	if got := update.Sum(raw); got != blocks[i] {
		return fmt.Errorf("block %d: %w: expected digest %v, got %v", i, trust.ErrMismatch, blocks[i], got)
	}
	return nil
}
