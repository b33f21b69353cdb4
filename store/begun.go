package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// ErrNoRoot says that a directory holds metadata but lacks a root from which they can be trusted. No other repository
// may be made there: boxes would refuse it for good.
var ErrNoRoot = status.WithHint(errors.New("the repository is damaged"),
	"bring N.root.json back from trusted/ of the signers' keys, from a backup, or from a mirror, which serves it under /metadata/")

// Begun reports whether a directory holds a repository, without opening it. It returns nil if it has roots to trust,
// trust.ErrNone if it has nothing of a repository, and ErrNoRoot if it has metadata and a root is lost or damaged.
// Other errors are those of the disk.
func Begun(dir string) error {
	metadata := filepath.Join(dir, metadataDir)
	roots, err := trust.Roots(metadata)
	if err == nil {
		return nil
	}
	left, globbed := disk.Glob(metadata, "*.json*")
	lost := errors.Is(err, trust.ErrNotFound) // the first root, or one before a newer root
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
