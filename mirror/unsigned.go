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
	// ErrDiffers says that another file has the name of an archive that was to come. It was left as it is.
	ErrDiffers = errors.New("another file has this name")

	// ErrGone says that a server lists nothing, while archives are here.
	ErrGone = errors.New("the server lists no archives any more")

	errEmpty = errors.New("the archive is empty there")
)

// Bounds on what a server that signs nothing may ask of us.
const (
	maxListing  = 4 << 20 // bytes
	maxAttempts = 10      // at an archive, each of which begins at its first byte
	importLock  = ".import.lock"
)

// Unsigned takes the archives of a server that signs nothing into a plain directory, so that its fleet can
// move. That server is asked for /ls and /update/<name>, for one archive at a time and never for a part:
// the Python server that this one replaces knows no more. Its word for what the archives hold is all
// there is: what comes is whole by its length, and unsigned.
//
// An archive appears in the directory under its name when all of it is on the disk, and no file that is
// there is ever replaced. What is there with its length is not fetched again. One process at a time
// imports into a directory.
type Unsigned struct {
	Client  *fetch.Client
	Dir     string
	Product update.Product // whose archives are taken; "": update.DefaultProduct
	FS      disk.FS

	// Progress, if not nil, is told how many bytes of an archive are there.
	Progress func(n update.Name, total, done int64)

	// Taken, if not nil, is told of each archive, in the order of the list.
	Taken func(Archive)
}

// Archive is what is known of an archive that was taken, or was there.
type Archive struct {
	Name     update.Name
	Digest   update.Digest // zero where it was there already
	Length   int64
	There    bool     // it was there already, and was not read
	Problems []string // why it is no proper update; it was taken all the same
}

// Import takes every archive that is listed and not there. An archive that can't be had, or whose name
// another file has, doesn't keep the others from arriving; the error then joins what went wrong. What is listed and
// left out, since a server of the directory would ignore it, is returned, with the reason: names that no update
// has, archives of other products, and empty ones.
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
		err = i.gone()
	}
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	empty, err := i.all(ctx, names)
	return append(odd, empty...), err
}

// gone refuses an empty list where archives are here already: it comes from a server that lost its directory.
func (i Unsigned) gone() error {
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

// list returns the names that the server lists, and what is left out of them.
func (i Unsigned) list(ctx context.Context) (names []update.Name, odd []string, err error) {
	var raw []byte
	err = i.Client.Ask(ctx, func(ctx context.Context, u *fetch.Upstream) (err error) {
		raw, err = u.Text(ctx, "ls", maxListing)
		return err
	})
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

// all takes the archives, and returns what is left out of them.
func (i Unsigned) all(ctx context.Context, names []update.Name) (odd []string, err error) {
	var errs []error
	for _, n := range names {
		a, err := i.ask(ctx, n)
		switch {
		case err == nil:
			i.Taken(a)
		case errors.Is(err, errEmpty):
			odd = append(odd, err.Error())
		case errors.Is(err, fetch.ErrNotFound), errors.Is(err, ErrDiffers):
			errs = append(errs, err)
		default:
			return odd, errors.Join(append(errs, err)...)
		}
	}
	return odd, errors.Join(errs...)
}

func (i Unsigned) ask(ctx context.Context, n update.Name) (a Archive, err error) {
	attempts, own := 0, error(nil) // own: not the server's fault, or to be tried no more
	err = i.Client.Ask(ctx, func(ctx context.Context, u *fetch.Upstream) (err error) {
		a, err = i.take(ctx, u, n)
		if attempts++; err != nil && (attempts == maxAttempts || !fetch.FromUpstream(err)) {
			own = err
			return nil
		}
		return err
	})
	if err = errors.Join(own, err); err != nil {
		return Archive{}, fmt.Errorf("import %v: %w", n, err)
	}
	return a, nil
}

// take gets one archive. The server can't be asked for the length alone.
func (i Unsigned) take(ctx context.Context, u *fetch.Upstream, n update.Name) (Archive, error) {
	p, err := u.Plain(ctx, "update/"+n.String())
	if err != nil {
		return Archive{}, err
	}
	defer p.Close()
	if p.Length == 0 {
		return Archive{}, errEmpty
	}
	a := Archive{Name: n, Length: p.Length}
	path := filepath.Join(i.Dir, n.String())
	switch info, err := os.Lstat(path); {
	case err == nil && info.Mode().IsRegular() && info.Size() == p.Length:
		a.There = true
		return a, nil
	case err == nil:
		return Archive{}, fmt.Errorf("%s: %w: expected %d bytes, as %v has it, got %d", path, ErrDiffers, p.Length, u, info.Size())
	case !errors.Is(err, fs.ErrNotExist):
		return Archive{}, err
	}
	if err := disk.CheckSpace(i.Dir, p.Length, 0); err != nil {
		return Archive{}, err
	}
	err = i.FS.CreateFileFunc(path, 0o644, func(f *os.File) (err error) {
		a.Digest, a.Problems, err = i.write(ctx, f, p, n)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		err = fmt.Errorf("%w: %w", ErrDiffers, err)
	default:
		err = disk.AsNoSpace(err)
	}
	return a, err
}

// write writes an archive, and returns its digest and what is wrong with it.
func (i Unsigned) write(ctx context.Context, f *os.File, p *fetch.Plain, n update.Name) (update.Digest, []string, error) {
	var h update.Hasher
	done := int64(0)
	tell := writerFunc(func(b []byte) (int, error) {
		done += int64(len(b))
		i.Progress(n, p.Length, done)
		return len(b), nil
	})
	got, err := io.Copy(io.MultiWriter(f, &h, tell), p)
	if err != nil {
		return update.Digest{}, nil, err
	}
	if got != p.Length {
		return update.Digest{}, nil, fmt.Errorf("%v: expected %d bytes, got %d", n, p.Length, got)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return update.Digest{}, nil, err
	}
	report, err := archive.Inspect(ctx, f, n, archive.InspectOptions{})
	digest, _, _ := h.Result()
	return digest, report.Problems, err
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }
