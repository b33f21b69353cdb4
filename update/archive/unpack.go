package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ErrImproper says that an archive is not a proper update. The message continues with the first problem, as in a
// Report. Unpacking the same archive again has the same result.
var ErrImproper error = status.Improper

// UnpackOptions say how to unpack. The zero value is ready for use.
type UnpackOptions struct {
	Limits Limits

	// Entry, if not nil, is called with each entry that was found proper, before it is unpacked.
	Entry func(Entry)
}

// Unpack unpacks the archive of that name into dir, which must be empty, as tar does: afterwards dir has the top
// directory of the update. It applies the rules of Inspect and stops at the first problem, with an error that is
// ErrImproper. The error is also ErrNoInstallScript if the archive has no executable install_update.sh, and ErrVersion
// if it has no VERSION or that of another update. Other errors are those of reading r, of ctx and of the disk. After an
// error dir is empty again, unless the error says that this failed too.
//
// Files belong to the user of this process. They get the permission bits of their entries, except that nobody but the
// owner may write, and that the owner may always read, enter directories, and execute what anybody may. Times are those
// of the entries; symbolic links have the time of unpacking. Extended attributes are not unpacked. Nothing is synced.
//
// o.Limits bounds the memory, however large the archive is: with the defaults at most 16 MiB are held, not counting
// garbage. Another goroutine reads r; it has ended when Unpack returns.
func Unpack(ctx context.Context, r io.Reader, name update.Name, dir *os.Root, o UnpackOptions) (Report, error) {
	report, err := unpack(ctx, r, name, dir, o)
	if err != nil {
		return Report{}, fmt.Errorf("unpack %v: %w", name, err)
	}
	return report, nil
}

func unpack(ctx context.Context, r io.Reader, name update.Name, dir *os.Root, o UnpackOptions) (Report, error) {
	if err := checkEmpty(dir); err != nil {
		return Report{}, err
	}
	u := unpacking{inspection: inspection{name: name}, placer: newPlacer(dir), entry: o.Entry}
	if err := u.run(ctx, r, o.Limits); err != nil {
		return Report{}, errors.Join(err, dir.RemoveAll(name.Top()))
	}
	return u.Report, nil
}

func checkEmpty(dir *os.Root) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close() // opened for reading
	names, err := d.Readdirnames(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(names) != 0 {
		return fmt.Errorf("%s is not empty: it holds %s", dir.Name(), quote(names[0]))
	}
	return nil
}

// unpacking writes to a disk what an inspection accepts.
type unpacking struct {
	inspection
	placer *placer
	entry  func(Entry) // may be nil
}

func (u *unpacking) run(ctx context.Context, r io.Reader, limits Limits) error {
	a, err := open(ctx, r, u.name, limits)
	if err == nil {
		err = a.readAhead()
	}
	for err == nil && u.refusal == nil && u.placer.err == nil {
		var e Entry
		var head []byte
		if e, err = a.next(); err != nil {
			break
		}
		if head, err = u.judge(e, a.tar); err != nil || u.refusal != nil {
			break
		}
		if u.entry != nil {
			u.entry(e)
		}
		err = u.placer.add(e, head, a.tar)
	}
	a.close()
	u.placer.close()
	if err := errors.Join(u.placer.err, a.outside()); err != nil {
		return err
	}
	if u.refusal == nil {
		u.finish(err)
	}
	return u.refusal
}
