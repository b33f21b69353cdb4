package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

var (
	// ErrDiffers says that another file has the name of an archive. Import leaves that file as it is.
	ErrDiffers = errors.New("another file has this name")

	// ErrGone says that a server lists nothing, although the directory has archives.
	ErrGone = errors.New("the server lists no archives any more")

	errThere = errors.New("it is there already")
	errEmpty = errors.New("it is empty")
)

const (
	maxListing = 4 << 20 // bytes of /ls
	importLock = ".import.lock"
)

// Unsigned copies the archives of a server that signs nothing into a plain directory, so that its fleet can move to
// this product. It asks for /ls and then for one /update/<name> at a time, never for a range: the Python server that
// this one replaces knows no more. The server declares only the length of an archive, and nothing else is verified.
//
// An archive gets its name in the directory once all of it is on the disk. A file that is there is never replaced; one
// of the right length is not fetched again. Only one process at a time imports into a directory.
type Unsigned struct {
	Client  *fetch.Client
	Dir     string
	Product update.Product // whose archives are copied; "": update.DefaultProduct
	FS      disk.FS

	// Progress, if not nil, is called with the number of bytes of an archive that have come.
	Progress func(n update.Name, total, done int64)

	// Taken, if not nil, is called with each archive, in the order of the list.
	Taken func(Archive)
}

// Archive describes an archive that Import copied or found in the directory.
type Archive struct {
	Name     update.Name   `json:"name"`
	Digest   update.Digest `json:"digest"` // zero if it was there already
	Length   int64         `json:"length"`
	There    bool          `json:"-"`                  // it was there already, and was not read
	Problems []string      `json:"problems,omitempty"` // why it is not a proper update; it was copied all the same
}

// Import copies every archive that the server lists and the directory lacks. An archive that is gone, or whose name
// another file has, does not stop the others; the error then joins what went wrong. Import returns, with the reason,
// what it left out because a server of the directory would ignore it: names that no update has, archives of other
// products, and empty ones.
//
// The errors are those of package fetch, disk.ErrNoSpace, ErrDiffers, and ErrGone.
func (i Unsigned) Import(ctx context.Context) (odd []string, err error) {
	if i.Progress == nil {
		i.Progress = func(update.Name, int64, int64) {}
	}
	if i.Taken == nil {
		i.Taken = func(Archive) {}
	}
	lock, err := disk.TryLock(filepath.Join(i.Dir, importLock))
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := i.FS.RemoveTemps(i.Dir); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	i.Product = cmp.Or(i.Product, update.DefaultProduct)
	names, odd, err := i.list(ctx)
	if err == nil && len(names)+len(odd) == 0 {
		err = i.checkGone()
	}
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	empty, err := i.bringAll(ctx, names)
	return append(odd, empty...), err
}

// checkGone refuses an empty list if the directory has archives: such a list comes from a server that lost its own.
func (i Unsigned) checkGone() error {
	entries, err := os.ReadDir(i.Dir)
	if err != nil {
		return err
	}
	here := 0
	for _, e := range entries {
		if n, err := update.ParseName(e.Name()); err == nil && n.Product() == i.Product {
			here++
		}
	}
	if here == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d are in %s; is its directory mounted?", ErrGone, here, i.Dir)
}

// list returns the names that the server lists, and the lines that are left out, with the reason.
func (i Unsigned) list(ctx context.Context) (names []update.Name, odd []string, err error) {
	raw, err := i.Client.Text(ctx, "ls", maxListing)
	if err != nil {
		return nil, nil, err
	}
	seen := map[update.Name]bool{}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			continue
		}
		n, err := update.ParseName(line)
		switch {
		case err != nil:
			odd = append(odd, fmt.Sprintf("%.200q is no name of an update", line))
		case n.Product() != i.Product:
			odd = append(odd, fmt.Sprintf("%v is of product %q, expected %q", n, n.Product(), i.Product))
		case !seen[n]:
			names = append(names, n)
		}
		seen[n] = true
	}
	return names, odd, nil
}

// bringAll brings the archives, and returns which of them are left out, with the reason.
func (i Unsigned) bringAll(ctx context.Context, names []update.Name) (odd []string, err error) {
	var errs []error
	for _, n := range names {
		a, err := i.bring(ctx, n)
		switch {
		case err == nil || errors.Is(err, errThere):
			i.Taken(a)
		case errors.Is(err, errEmpty):
			odd = append(odd, fmt.Sprintf("%v is empty there", n))
		case errors.Is(err, fetch.ErrNotFound), errors.Is(err, ErrDiffers):
			errs = append(errs, fmt.Errorf("import: %w", err))
		default:
			return odd, errors.Join(append(errs, fmt.Errorf("import: %w", err))...)
		}
	}
	return odd, errors.Join(errs...)
}

// bring brings one archive. Only the answer with the archive tells its length, so errThere and errEmpty come before
// its first byte.
func (i Unsigned) bring(ctx context.Context, n update.Name) (Archive, error) {
	a := Archive{Name: n}
	path := filepath.Join(i.Dir, n.String())
	what := fetch.File{
		Name: n, Length: -1, Paths: []string{"update/" + n.String()}, Anew: true,
		Begin:    func(length int64) error { a.Length = length; return i.checkPlace(path, length) },
		Progress: func(done int64) { i.Progress(n, a.Length, done) },
	}
	err := i.FS.CreateFileFunc(path, 0o644, func(f *os.File) error {
		digest, _, err := i.Client.WholeFile(ctx, what, f)
		if err != nil {
			return err
		}
		report, err := archive.Inspect(ctx, io.NewSectionReader(f, 0, a.Length), n, archive.InspectOptions{})
		a.Digest, a.Problems = digest, report.Problems
		return err
	})
	switch {
	case errors.Is(err, errThere):
		a.There = true
	case errors.Is(err, fs.ErrExist):
		err = fmt.Errorf("%w: %w", ErrDiffers, err)
	default:
		err = disk.AsNoSpace(err)
	}
	return a, err
}

// checkPlace decides whether an archive of length bytes is wanted at path, and whether the disk has room for it.
func (i Unsigned) checkPlace(path string, length int64) error {
	info, err := os.Lstat(path)
	switch {
	case length == 0:
		return errEmpty
	case errors.Is(err, fs.ErrNotExist):
		return disk.CheckSpace(i.Dir, length, 0)
	case err != nil:
		return err
	case info.Mode().IsRegular() && info.Size() == length:
		return errThere
	}
	return fmt.Errorf("%s: %w: expected %d bytes, got %d", path, ErrDiffers, length, info.Size())
}
