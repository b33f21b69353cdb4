package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// rewriteDamaged rewrites metadata files that the disk damaged. If that fails, the served repository is still right.
func (s *Store) rewriteDamaged() {
	for _, damage := range s.state.Damage() {
		s.c.Logger.Warn("the disk damaged a file, which is written again", "err", damage)
	}
	err := s.state.RewriteDamaged()
	if err != nil {
		s.c.Logger.Error("metadata not written again", "err", err)
	}
	s.mended = err == nil
}

// Damage returns an error for each metadata file that is damaged: those that Open found and could not write again, or
// all that OpenReadOnly found. If they leave no repository to serve, the one error says why.
func (s *Store) Damage() []error {
	s.committing.RLock()
	defer s.committing.RUnlock()
	if problem := s.current.Load().problem; problem != nil {
		if _, err := os.Lstat(s.path(metadataDir, trust.TimestampName)); errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was committed yet
		}
		return []error{problem}
	}
	if s.mended {
		return nil
	}
	return slices.Clone(s.state.Damage())
}

// WarnOfDamage returns a warning for each metadata file of Damage. Anyone may see it: its paths begin in the directory.
func (s *Store) WarnOfDamage() (out []status.Warning) {
	for _, damage := range s.Damage() {
		text := strings.ReplaceAll(status.OneLine(damage.Error()), filepath.Clean(s.c.Dir)+string(filepath.Separator), "")
		w := status.Warning{Subject: SubjectDamage, Text: text, Advice: "restart the server, which writes it again, and look at the disk"}
		if s.Repository() == nil {
			w.Urgent, w.Advice = true, "bring data_dir back from a backup; a mirror fetches what is missing"
		}
		out = append(out, w)
	}
	return out
}
