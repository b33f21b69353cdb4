package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// ErrNoRoot says that a directory holds metadata, and no root from which they could be trusted. Nobody must make
// another repository there: boxes would refuse it for good.
var ErrNoRoot = status.WithHint(errors.New("the repository is damaged"),
	"bring N.root.json back from trusted/ of the signers' keys, from a backup, or from a mirror, which serves it under /metadata/")

// Begun looks, without opening it, whether a directory holds a repository. It returns nil where there are roots to
// trust, trust.ErrNone where there is nothing of a repository, and ErrNoRoot where metadata are there, and a root is
// lost or damaged. Other errors are those of the disk.
func Begun(dir string) error {
	metadata := filepath.Join(dir, metadataDir)
	roots, err := trust.Roots(metadata)
	if err == nil {
		return nil
	}
	left, globbed := disk.Glob(metadata, "*.json*")
	lost := errors.Is(err, trust.ErrNotFound) // the first, or one that a newer one follows
	switch {
	case globbed != nil:
		return globbed
	case len(left) > 0 && lost && len(roots) == 0:
		return fmt.Errorf("%s: %w: %s holds no root", dir, ErrNoRoot, metadata)
	case len(left) > 0:
		return fmt.Errorf("%s: %w: %w", dir, ErrNoRoot, err)
	case lost:
		return fmt.Errorf("%s: %w: %s holds no metadata", dir, trust.ErrNone, metadata)
	}
	return err
}
