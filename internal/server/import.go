package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
)

func importCommand(l *loader) *cobra.Command {
	var unsigned bool
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "take an export into a data directory, or the archives of an unsigned server into a plain one",
		Long: "Takes an export from a file, or with - from a pipe, into --data-dir, verified as if it came from an\n" +
			"upstream. --root is needed the first time alone. While a server holds the directory, the export goes\n" +
			"to that server through its admin listener.\n\n" +
			"With --unsigned it takes what a server that signs nothing lists into --updates-dir, one archive at a\n" +
			"time. What is there with its length is not fetched again, and nothing is replaced. Nobody has\n" +
			"vouched for what came until somebody signs it.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 the server could not be reached, or does not have all that\n" +
			"it lists, 4 the export is cut, damaged, older than what is there, or expired, or an answer was\n" +
			"refused, 5 too little room. After all but 0 the repository is what it was before; archives that\n" +
			"arrived are kept for another try.",
		Example: "  box-update-server import --data-dir M --root 1.root.json FILE\n" +
			"  box-update-server import --unsigned http://old-server --updates-dir U",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if unsigned {
				return l.importUnsigned(cmd, args[0])
			}
			return l.importFrom(cmd, args[0])
		},
	}
	cmd.Flags().BoolVar(&unsigned, "unsigned", false, "take the archives of the server at this URL into --updates-dir")
	return cmd
}

func (l *loader) importFrom(cmd *cobra.Command, path string) error {
	s, err := l.data(cmd.Flags())
	if err != nil {
		return err
	}
	if err := s.checkRoot("import", "who brings the export"); err != nil {
		return err
	}
	in, size, err := l.open(path)
	if err != nil {
		return err
	}
	defer in.Close() // opened for reading
	meter := newMeter(l.streams)
	defer meter.End()
	report, err := l.importInto(cmd.Context(), s, in, meter)
	if errors.Is(err, disk.ErrLocked) {
		report = importReport{}
		err = ask(cmd.Context(), s, "/import", &counted{in, size, 0, meter}, &report)
	}
	meter.End()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.streams.Out, "imported %d archives, %d bytes\n", report.Archives, report.Bytes)
	return err
}

// open opens a file, or with - standard input, for reading. size is 0 where it is not known.
func (l *loader) open(path string) (in io.ReadCloser, size int64, err error) {
	if path == "-" {
		return io.NopCloser(l.streams.In), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	return f, size, nil
}

// importInto takes an export into a data directory that no other process holds.
func (l *loader) importInto(ctx context.Context, s settings, in io.Reader, m meter) (_ importReport, err error) {
	st, err := openStore(ctx, s, nil, newLogger(m, s), l.streams.Now)
	if err != nil {
		return importReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	result, err := mirror.Import{
		Store: st, Now: l.streams.Now, Built: builtAt(), AcceptStale: s.AcceptStale, MaxBytes: s.MaxBytes,
		Planned: m.plan, Progress: m.progress,
	}.Read(ctx, bufio.NewReaderSize(in, 1<<20))
	return importReport{result.Archives, result.Bytes}, coded(err)
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

// importUnsigned takes the archives of a server that signs nothing.
func (l *loader) importUnsigned(cmd *cobra.Command, url string) error {
	l.upstreams = []string{url}
	s, _, err := l.load(defaultSettings(), cmd.Flags(), (*settings).checkUnsigned)
	if err != nil {
		return err
	}
	meter := newMeter(l.streams)
	defer meter.End()
	client, err := newClient(s, func(c *fetch.Config) { c.Logger = newLogger(meter, s) })
	if err != nil {
		return err
	}
	defer client.Close()
	var report importReport
	there := 0
	odd, err := mirror.Unsigned{
		Client: client, Dir: s.UpdatesDir, Product: s.Product,
		Progress: func(n update.Name, total, done int64) { meter.Show(n.String(), total, done) },
		Taken: func(a mirror.Archive) {
			if a.There {
				there++
				return
			}
			report.Archives++
			report.Bytes += a.Length
			l.showTaken(meter, a)
		},
	}.Import(cmd.Context())
	meter.End()
	for _, name := range odd {
		l.streams.Warn("box-update-server", "left out: "+cli.Printable(name))
	}
	fmt.Fprintf(l.streams.Out, "imported %d archives, %d bytes; %d were there already\n", report.Archives, report.Bytes, there)
	if err != nil {
		return coded(err)
	}
	_, err = fmt.Fprintln(l.streams.Out, "unsigned: nobody has vouched for what came; sign it with boxsign publish, or boxsign sign")
	return err
}

// showTaken shows an archive that came: its checksum line, and what is wrong with it.
func (l *loader) showTaken(m meter, a mirror.Archive) {
	for _, p := range a.Problems {
		fmt.Fprintf(m, "box-update-server: warning: %v: %s\n", a.Name, cli.Printable(p))
	}
	fmt.Fprintf(l.streams.Out, "%v  %v\n", a.Digest, a.Name)
}
