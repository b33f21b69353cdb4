package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// VerifiedFile describes a file that was verified.
type VerifiedFile struct {
	Name   update.Name   `json:"name"`
	Digest update.Digest `json:"sha256"`
	Length int64         `json:"length"`
	By     string        `json:"by"` // the key or the list that it was verified with
}

func describe(v signing.Verified, by string) VerifiedFile {
	return VerifiedFile{v.Name(), v.Digest(), v.Length(), by}
}

// Verify verifies that a file is the update of its name, by the trusted metadata or, if opts.Key is set, by a detached
// signature. It also works while another boxup makes changes.
func (b *Box) Verify(ctx context.Context, path string, opts Options) (VerifiedFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return VerifiedFile{}, err
	}
	defer f.Close() // opened for reading
	defer pace.Waiting(ctx, "reading "+path)()
	if opts.Key == "" {
		return b.verifyTrusted(ctx, f, path)
	}
	k, err := readKey(opts.Key)
	if err != nil {
		return VerifiedFile{}, err
	}
	v, err := verifyPlain(ctx, k, f, path, opts.Sig)
	if err != nil {
		return VerifiedFile{}, err
	}
	return describe(v, "key "+k.Fingerprint()), nil
}

// verifyTrusted verifies a file by the trusted metadata.
func (b *Box) verifyTrusted(ctx context.Context, f *os.File, path string) (VerifiedFile, error) {
	s, err := b.openToRead()
	if err != nil {
		return VerifiedFile{}, err
	}
	rel, err := s.releaseNamed(filepath.Base(path))
	if err != nil {
		return VerifiedFile{}, err
	}
	if err := verifyArchive(ctx, rel, f); err != nil {
		return VerifiedFile{}, err
	}
	repo, err := s.state.Current()
	if err != nil {
		return VerifiedFile{}, err
	}
	return describe(rel.Verified(), fmt.Sprintf("list %d of the trusted repository", repo.Version(trust.RoleTargets))), nil
}

// verifyArchive refuses a file that is not the archive of a trusted update. Without an error, it leaves the offset of f at
// the beginning.
func verifyArchive(ctx context.Context, rel trust.Release, f *os.File) error {
	_, err := trust.VerifyArchive(ctx, rel, f, nil)
	if errors.Is(err, trust.ErrMismatch) {
		err = refused(status.WithHint(err, "this is not the file that was signed: get it again"))
	}
	if err != nil {
		return explain.At(f.Name(), err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
