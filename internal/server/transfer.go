package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ParseSince parses a version, a day or a time.
func ParseSince(text string) (export.Since, error) {
	if text == "" {
		return export.Since{}, nil
	}
	if at, err := settings.ParseTime(text); err == nil {
		return export.Since{Time: at}, nil
	}
	v, err := update.ParseVersion(text)
	if err != nil {
		return export.Since{}, status.Usagef("--since: expected a version such as 1550190683 or a day such as 2026-01-31, got %q", text)
	}
	return export.Since{Version: v}, nil
}

// TransferReport is what an export or an import carried.
type TransferReport struct {
	Archives int   `json:"archives"`
	Bytes    int64 `json:"bytes"` // of the archives
}

// Export writes the repository of the data directory to a new file, or with - to standard output.
func (p *Program) Export(ctx context.Context, since export.Since, to string) (report TransferReport, err error) {
	if to != "-" {
		if err := disk.RefuseExisting(to); err != nil {
			return TransferReport{}, withExistsHint(err)
		}
	}
	s, err := p.data()
	if err != nil {
		return TransferReport{}, err
	}
	st, err := p.openReadOnly(ctx, s)
	if err != nil {
		return TransferReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	meter := newMeter(p.Streams)
	defer meter.End()
	ctx = pace.ObserveWaits(ctx, meter.Wait)
	e := export.Export{Store: st, Since: since, Planned: meter.plan, Progress: meter.progress}
	write := func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		result, err := e.Write(ctx, b)
		report = TransferReport{result.Archives, result.Bytes}
		return errors.Join(err, b.Flush())
	}
	if to == "-" {
		err = write(p.Out)
	} else {
		err = withExistsHint(disk.FS{}.CreateFileFunc(to, 0o644, func(f *os.File) error { return write(f) }))
	}
	return report, err
}

// withExistsHint adds what to do about a file that exists.
func withExistsHint(err error) error {
	if errors.Is(err, os.ErrExist) {
		return status.WithHint(err, "remove it, or choose another name")
	}
	return err
}
