package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// epochVariable holds the time of reproducible builds in Unix seconds:
// https://reproducible-builds.org/specs/source-date-epoch.
const epochVariable = "SOURCE_DATE_EPOCH"

// buildFlags are the flags of build, "" where one is not given.
type buildFlags struct {
	out, version, format, product string
	json                          bool
}

func newBuild(s cli.Streams) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build DIR",
		Short: "Make an update from a directory",
		Long: `Make an update from a directory that holds install_update.sh and the files to install.

The update has one top directory with VERSION, which build writes, and all that lies in DIR. The same
DIR, version and ` + epochVariable + ` give the same archive on every machine. Without -o it is
called <product>-<version>.<format>, in the current directory. No file is ever replaced.`,
		Example: `  boxsign build DIR -o opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return build(cmd.Context(), s, args[0], f)
		},
	}
	cmd.Flags().StringVarP(&f.out, "output", "o", "", "write the archive to `FILE`, whose name says version and format")
	cmd.Flags().StringVar(&f.version, "version", "", "version `N` (default "+epochVariable+" or now, in Unix seconds)")
	cmd.Flags().StringVar(&f.format, "format", "", "`FORMAT` tar.bz2, tar.gz or tar.zst (default tar.bz2)")
	cmd.Flags().StringVar(&f.product, "product", "", "`PRODUCT` that is updated (default "+string(update.DefaultProduct)+")")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the result as JSON")
	return cmd
}

func build(ctx context.Context, s cli.Streams, dir string, f buildFlags) error {
	epoch, err := sourceDate(s)
	if err != nil {
		return err
	}
	path, name, err := f.target(epoch, s.Now())
	if err != nil {
		return err
	}
	src, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("build %v: %w", name, err)
	}
	defer src.Close() // opened for reading
	if err := checkTarget(path, dir); err != nil {
		return err
	}
	result, err := writeArchive(ctx, path, src, archive.Options{Name: name, Time: epoch})
	if err != nil {
		return withBuildHint(err)
	}
	warnOfInterpreter(s, result)
	if f.json {
		return s.JSON(result)
	}
	return result.print(s)
}

// writeArchive builds an archive of the files below src as a new file at path; after an error there is
// none.
func writeArchive(ctx context.Context, path string, src *os.Root, o archive.Options) (facts, error) {
	var result facts
	var packErr error
	err := disk.FS{}.CreateFileFunc(path, 0o644, func(file *os.File) error {
		result, packErr = pack(ctx, file, src, o)
		return packErr
	})
	if packErr != nil {
		return facts{}, packErr // says what and where by itself
	}
	if err != nil {
		return facts{}, err
	}
	return result, nil
}

// pack builds an archive into file and reads it back.
func pack(ctx context.Context, file *os.File, src *os.Root, o archive.Options) (facts, error) {
	if err := archive.Build(ctx, file, src, o); err != nil {
		return facts{}, err
	}
	if _, err := file.Seek(0, 0); err != nil {
		return facts{}, err
	}
	result, report, err := examine(ctx, file, o.Name, archive.InspectOptions{})
	if err != nil {
		return facts{}, err
	}
	if !report.Proper() {
		return facts{}, fmt.Errorf("the archive that was built is not a proper update: %s", strings.Join(report.Problems, "; "))
	}
	return result, nil
}

// sourceDate returns the time that the environment sets, zero where it sets none.
func sourceDate(s cli.Streams) (time.Time, error) {
	text := s.Getenv(epochVariable)
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, cli.Usagef("%s %q: expected Unix seconds", epochVariable, text)
	}
	return time.Unix(n, 0), nil
}

// target returns the path and the name of the archive. epoch is zero where the environment sets none.
func (f buildFlags) target(epoch, now time.Time) (string, update.Name, error) {
	if f.out != "" {
		name, err := parseArchivePath(filepath.Base(f.out))
		if err != nil {
			return "", update.Name{}, err
		}
		return f.out, name, f.agree(name)
	}
	if !epoch.IsZero() {
		now = epoch
	}
	name, err := f.name(update.VersionAt(now))
	return name.String(), name, err
}

// agree refuses flags that say something else than the name of the output file does.
func (f buildFlags) agree(n update.Name) error {
	for _, c := range []struct{ flag, value, name string }{
		{"version", f.version, n.Version().String()},
		{"format", f.format, string(n.Format())},
		{"product", f.product, string(n.Product())},
	} {
		if c.value != "" && c.value != c.name {
			return status.WithHint(cli.Usagef("--%s says %q, the name of the output file %q", c.flag, c.value, c.name),
				"leave out one of them")
		}
	}
	return nil
}

// name puts the flags together.
func (f buildFlags) name(version update.Version) (update.Name, error) {
	product, format := update.DefaultProduct, update.TarBzip2
	var errs [3]error
	if f.version != "" {
		version, errs[0] = update.ParseVersion(f.version)
	}
	if f.format != "" {
		format, errs[1] = update.ParseFormat(f.format)
	}
	if f.product != "" {
		product, errs[2] = update.ParseProduct(f.product)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return update.Name{}, status.WithCode(err, status.ExitUsage)
	}
	return update.NewName(product, version, format), nil
}

// checkTarget refuses, before anything is read, a path that exists or that lies in the tree to pack.
func checkTarget(path, dir string) error {
	if _, err := os.Lstat(path); err == nil {
		return withBuildHint(fmt.Errorf("%s: %w", path, fs.ErrExist))
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
			return status.WithHint(cli.Usagef("%s lies in %s, which is to be packed", path, dir), "write it elsewhere with -o FILE")
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
		return status.WithHint(err, "put the script that installs the update there, under the name "+archive.InstallScript)
	case errors.Is(err, archive.ErrVersion):
		return status.WithHint(err, "remove "+archive.VersionFile+", which build writes itself, or give its number as the version")
	}
	return err
}
