package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/openpowerquality/box-update-server/update"
)

// Verify checks the whole repository from a pinned root: the roots, that the set is complete,
// consistent and fresh by the clock, and every detached signature. It does not look at archives: see
// VerifyArchives.
func (d Directory) Verify(pinned []byte, c Clock) (*Repository, error) {
	s, err := d.State(pinned)
	if err != nil {
		return nil, err
	}
	r, err := s.Current()
	if err != nil {
		return nil, err
	}
	if err := r.Fresh(c); err != nil {
		return nil, err
	}
	return r, r.VerifyDetached()
}

// VerifyDetached verifies the detached signatures by keys that the root has. The error is that of
// signing.Open.
func (r *Repository) VerifyDetached() error { return verifyDetached(r.root, r.targets.releases) }

// VerifyArchives reads every archive that r lists and says what is wrong with each: ErrNotFound,
// ErrMismatch. done, where not nil, is called after each archive.
func (d Directory) VerifyArchives(ctx context.Context, r *Repository, done func(Release)) error {
	var wrong []error
	for _, rel := range r.targets.releases {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.verifyArchive(ctx, rel); err != nil {
			wrong = append(wrong, fmt.Errorf("%v: %w", rel.Name(), err))
		}
		if done != nil {
			done(rel)
		}
	}
	return errors.Join(wrong...)
}

// verifyArchive verifies the blob, or the link for TUF clients, and that the two are one file where
// both are there.
func (d Directory) verifyArchive(ctx context.Context, r Release) error {
	blob, errBlob := os.Stat(d.blob(r.Digest()))
	link, errLink := os.Stat(d.link(r))
	switch {
	case errBlob == nil && (errors.Is(errLink, fs.ErrNotExist) || os.SameFile(blob, link)):
		return verifyFile(ctx, r, d.blob(r.Digest()))
	case errLink == nil && errors.Is(errBlob, fs.ErrNotExist):
		return verifyFile(ctx, r, d.link(r))
	case errBlob == nil && errLink == nil:
		return errors.Join(verifyFile(ctx, r, d.blob(r.Digest())), verifyFile(ctx, r, d.link(r)))
	case errors.Is(errBlob, fs.ErrNotExist):
		return fmt.Errorf("%w: its archive, %s, is missing", ErrNotFound, d.blob(r.Digest()))
	}
	return errors.Join(errBlob, errLink)
}

func verifyFile(ctx context.Context, r Release, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	if err := VerifyArchive(ctx, r, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

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
