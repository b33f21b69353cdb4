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

// ErrImproper says that an archive is no proper update. The message goes on with the first problem,
// as a Report words it. Unpacking the same archive again has the same result.
var ErrImproper error = status.Improper

// UnpackOptions say how to unpack. The zero value is ready for use.
type UnpackOptions struct {
	Limits Limits

	// Entry, if not nil, is called with each entry that was found proper, before it is unpacked.
	Entry func(Entry)
}

// Unpack unpacks the archive of that name into dir, which must be empty, as tar does: afterwards dir
// holds the top directory of the update. It goes by the rules of Inspect, and where Inspect would name
// a problem it stops there with an error that is ErrImproper. Such an error is also
// ErrNoInstallScript where the archive has no install_update.sh that may be executed, and ErrVersion
// where it has no VERSION or the one of another update. Other errors are those of reading r, of ctx
// and of the disk. After an error dir is empty again, unless the error says that this failed too.
//
// Files belong to the user who runs this. Of their modes the permission bits count, less the right of
// others to write and plus that of the owner to read, to go through directories and to execute what
// anybody may. Times are those of the entries; symbolic links have that of unpacking. Extended
// attributes are not unpacked. Nothing is synced.
//
// Memory is bounded by o.Limits, however large the archive is: with the defaults 16 MiB are held at the
// most, and garbage comes on top. r is read in another goroutine, which has ended when Unpack returns.
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
	u := unpacking{inspection: inspection{name: name}, disk: newDisk(dir), entry: o.Entry}
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

// unpacking puts on a disk what an inspection finds nothing against.
type unpacking struct {
	inspection
	disk  *disk
	entry func(Entry) // nil: nobody is told
}

func (u *unpacking) run(ctx context.Context, r io.Reader, limits Limits) error {
	a, err := open(ctx, r, u.name, limits)
	if err == nil {
		err = a.readAhead()
	}
	for err == nil && u.refusal == nil && u.disk.err == nil {
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
		err = u.disk.add(e, head, a.tar)
	}
	a.close()
	u.disk.close()
	if err := errors.Join(u.disk.err, a.outside()); err != nil {
		return err
	}
	if u.refusal == nil {
		u.finish(err)
	}
	return u.refusal
}
