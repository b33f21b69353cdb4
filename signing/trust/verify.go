package trust

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/openpowerquality/box-update-server/update"
)

// VerifyDetached verifies the detached signatures by keys that the root has. The error is that of
// signing.Open.
func (r *Repository) VerifyDetached() error { return verifyDetached(r.root, r.targets.releases) }

// VerifyArchive reads src to its end, in constant memory, and refuses with ErrMismatch what is not the
// archive of the release.
func VerifyArchive(ctx context.Context, r Release, src io.Reader) error {
	if r.IsZero() {
		return errors.New("verify: no release")
	}
	var h update.Hasher
	if err := copyAll(ctx, &h, src, r.Length()); err != nil {
		return err
	}
	return fits(r, &h)
}

// copyAll copies at most one byte more than length.
func copyAll(ctx context.Context, to io.Writer, from io.Reader, length int64) error {
	from = io.LimitReader(from, length+1)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, 1<<20); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func fits(r Release, h *update.Hasher) error {
	digest, blocks, length := h.Result()
	if length > r.Length() {
		return fmt.Errorf("%w: expected %d bytes, got more", ErrMismatch, r.Length())
	}
	if digest != r.Digest() || length != r.Length() {
		return fmt.Errorf("%w: expected %d bytes with digest %v, got %d with %v", ErrMismatch, r.Length(), r.Digest(), length, digest)
	}
	if got := update.Sum(blocks.Bytes()); got != r.Blocks() {
		return fmt.Errorf("%w: expected a block list with digest %v, got %v", ErrMismatch, r.Blocks(), got)
	}
	return nil
}
