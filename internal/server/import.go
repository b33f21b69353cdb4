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
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Import reads an export from a file, or with - from standard input, into the data directory. While a server holds the
// directory, the export goes to that server.
func (p *Program) Import(ctx context.Context, path string) (report TransferReport, err error) {
	s, err := p.data()
	if err != nil {
		return TransferReport{}, err
	}
	if err := checkRoot(&s, "import", "who brings the export"); err != nil {
		return TransferReport{}, err
	}
	in, size := p.In, int64(0) // 0: not known
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return TransferReport{}, err
		}
		defer f.Close() // opened for reading
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in = f
	}
	meter := newMeter(p.Streams)
	defer meter.End()
	ctx = pace.ObserveWaits(ctx, meter.Wait)
	st, err := openStore(ctx, s, nil, p.newLogger(meter, s), p.Now)
	if errors.Is(err, disk.ErrLocked) {
		err = ask(ctx, s.DataDir, "/import", &counted{in, size, 0, meter}, &report)
		return report, err
	}
	if err != nil {
		return TransferReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	result, err := export.Import{
		Store: st, Now: p.Now, Built: p.Built, AcceptStale: s.AcceptStale, MaxBytes: s.MaxBytes,
		Planned: meter.plan, Progress: meter.progress,
	}.Read(ctx, bufio.NewReaderSize(in, 1<<20))
	return TransferReport{result.Archives, result.Bytes}, status.Coded(err)
}

// counted shows how much of a stream was read.
type counted struct {
	in         io.Reader
	size, done int64 // bytes; a size of 0 is not known, and then nothing is shown
	meter      meter
}

// Read reads the stream.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if c.done += int64(n); c.size > 0 {
		c.meter.Show("export", c.size, c.done)
	}
	return n, err
}

// UnsignedReport is what ImportUnsigned did.
type UnsignedReport struct {
	TransferReport
	Fetched []mirror.Archive `json:"fetched"`
	There   int              `json:"there"`    // archives that were already there
	LeftOut []string         `json:"left_out"` // names that are no names of updates
}

// ImportUnsigned fetches the archives of a server without signatures into the updates directory. taken is called with each
// archive that arrived, and may write to the meter that shows the progress. After an error the report says what arrived.
func (p *Program) ImportUnsigned(ctx context.Context, taken func(io.Writer, mirror.Archive)) (report *UnsignedReport, err error) {
	s, _, err := p.load(settings.NewServer(), checkUnsigned)
	if err != nil {
		return nil, err
	}
	meter := newMeter(p.Streams)
	defer meter.End()
	ctx = pace.ObserveWaits(ctx, meter.Wait)
	client, err := p.newClient(s, func(c *fetch.Config) { c.Logger = p.newLogger(meter, s) })
	if err != nil {
		return nil, err
	}
	defer client.Close()
	report = &UnsignedReport{Fetched: []mirror.Archive{}}
	report.LeftOut, err = mirror.Unsigned{
		Client: client, Dir: s.UpdatesDir, Product: s.Product,
		Progress: func(n update.Name, total, done int64) { meter.Show(n.String(), total, done) },
		Taken: func(a mirror.Archive) {
			if a.There {
				report.There++
				return
			}
			report.Archives++
			report.Bytes += a.Length
			report.Fetched = append(report.Fetched, a)
			taken(meter, a)
		},
	}.Import(ctx)
	report.LeftOut = append([]string{}, report.LeftOut...)
	return report, status.Coded(err)
}
