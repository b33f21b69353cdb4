package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// BuildOptions name the archive that Build makes. Build chooses what is "" or zero.
type BuildOptions struct {
	Out                      string    // path of the archive; its last element is the name of the update
	Version, Format, Product string    // parts of the name; where Out gives them too, they must agree
	Epoch                    time.Time // for reproducible builds: the version where Out and Version are "", and the time of all files
}

// Build makes an update from a directory that holds install_update.sh and the files to install. No file is ever
// replaced; after an error there is none.
func (s *Signer) Build(ctx context.Context, dir string, o BuildOptions) (Archive, error) {
	path, name, err := o.target(s.Now())
	if err != nil {
		return Archive{}, err
	}
	src, err := os.OpenRoot(dir)
	if err != nil {
		return Archive{}, fmt.Errorf("build %v: %w", name, err)
	}
	defer src.Close() // opened for reading
	if err := checkTarget(path, dir); err != nil {
		return Archive{}, err
	}
	defer pace.Waiting(ctx, "packing "+dir)()
	result, err := writeArchive(ctx, path, src, archive.Options{Name: name, Time: o.Epoch})
	if err != nil {
		return Archive{}, withBuildHint(err)
	}
	s.warnOfInterpreter(result)
	if !disk.UnixModes {
		s.Warn("files have no modes on this system: those that begin with #! or as ELF are programs in the update, all others are not")
	}
	return result, nil
}

// writeArchive builds an archive of the files below src as a new file at path; after an error there is
// none.
func writeArchive(ctx context.Context, path string, src *os.Root, o archive.Options) (Archive, error) {
	var result Archive
	var packErr error
	err := disk.FS{}.CreateFileFunc(path, 0o644, func(file *os.File) error {
		result, packErr = packArchive(ctx, file, src, o)
		return packErr
	})
	if packErr != nil {
		return Archive{}, packErr // it names the file already
	}
	if err != nil {
		return Archive{}, err
	}
	return result, nil
}

// packArchive builds an archive into file, reads it back, and refuses it unless it is a proper update.
func packArchive(ctx context.Context, file *os.File, src *os.Root, o archive.Options) (Archive, error) {
	if err := archive.Build(ctx, file, src, o); err != nil {
		return Archive{}, err
	}
	if _, err := file.Seek(0, 0); err != nil {
		return Archive{}, err
	}
	result, report, err := examineArchive(ctx, file, o.Name, archive.InspectOptions{})
	if err != nil {
		return Archive{}, err
	}
	if !report.Proper() {
		return Archive{}, fmt.Errorf("the archive that was built is not a proper update: %s", strings.Join(report.Problems, "; "))
	}
	return result, nil
}

// target returns the path and the name of the archive.
func (o BuildOptions) target(now time.Time) (string, update.Name, error) {
	if o.Out != "" {
		name, err := parseArchivePath(filepath.Base(o.Out))
		if err != nil {
			return "", update.Name{}, err
		}
		return o.Out, name, o.checkFlags(name)
	}
	if !o.Epoch.IsZero() {
		now = o.Epoch
	}
	name, err := o.name(update.VersionAt(now))
	return name.String(), name, err
}

// checkFlags refuses flags that contradict the name of the output file.
func (o BuildOptions) checkFlags(n update.Name) error {
	for _, c := range []struct{ flag, value, name string }{
		{"version", o.Version, n.Version().String()},
		{"format", o.Format, string(n.Format())},
		{"product", o.Product, string(n.Product())},
	} {
		if c.value != "" && c.value != c.name {
			return status.WithHint(status.Usagef("--%s is %q, but the name of the output file has %q", c.flag, c.value, c.name),
				"leave out one of them")
		}
	}
	return nil
}

// name makes the name of the archive from the flags. version stands in for a Version that is "".
func (o BuildOptions) name(version update.Version) (update.Name, error) {
	product, format := update.DefaultProduct, update.TarBzip2
	var errs [3]error
	if o.Version != "" {
		version, errs[0] = update.ParseVersion(o.Version)
	}
	if o.Format != "" {
		format, errs[1] = update.ParseFormat(o.Format)
	}
	if o.Product != "" {
		product, errs[2] = update.ParseProduct(o.Product)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return update.Name{}, status.Usagef("%w", err)
	}
	return update.NewName(product, version, format), nil
}

// checkTarget refuses a path that exists or that lies in the tree to pack. It runs before anything is read.
func checkTarget(path, dir string) error {
	if err := disk.RefuseExisting(path); err != nil {
		return withBuildHint(err)
	}
	packed, err := os.Stat(dir)
	if err != nil {
		return err
	}
	parent, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return err
	}
	if parent, err = filepath.EvalSymlinks(parent); err != nil {
		return err
	}
	for {
		info, err := os.Stat(parent)
		if err != nil {
			return err
		}
		if os.SameFile(info, packed) {
			return status.WithHint(status.Usagef("%s is in %s, the directory to pack", path, dir), "write it elsewhere with -o FILE")
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
		parent = filepath.Dir(parent)
	}
}

func withBuildHint(err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return status.WithHint(err, "choose another name with -o FILE, or remove the file")
	case errors.Is(err, archive.ErrNoInstallScript):
		return status.WithHint(err, "put the script that installs the update there; its name is "+archive.InstallScript)
	case errors.Is(err, archive.ErrVersion):
		return status.WithHint(err, "remove "+archive.VersionFile+", which boxsign build writes itself, or set its number with --version")
	}
	return err
}
