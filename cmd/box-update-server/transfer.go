package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/update"
)

func exportCommand(l *loader) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "export FILE|-",
		Short: "write the repository of a data directory to one file, or a pipe",
		Long: "Writes the repository of --data-dir to one file, or with - to a pipe, to be carried to where no\n" +
			"network leads. With --since archives are left out that the other side has. It may run beside the\n" +
			"server that holds the directory.",
		Example: "  box-update-server export --data-dir R --since 1550190683 - | ssh box box-update-server import --data-dir M --root 1.root.json -",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := parseSince(since)
			if err != nil {
				return err
			}
			return l.export(cmd, from, args[0])
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "leave out archives up to this version, or published before this day: `VERSION|YYYY-MM-DD`")
	return cmd
}

// parseSince parses a version, a day or a time.
func parseSince(text string) (mirror.Since, error) {
	if text == "" {
		return mirror.Since{}, nil
	}
	if at, err := parseTime(text); err == nil {
		return mirror.Since{Time: at}, nil
	}
	v, err := update.ParseVersion(text)
	if err != nil {
		return mirror.Since{}, cli.Usagef("--since: expected a version such as 1550190683 or a day such as 2026-01-31, got %q", text)
	}
	return mirror.Since{Version: v}, nil
}

func (l *loader) export(cmd *cobra.Command, since mirror.Since, to string) (err error) {
	s, err := l.data(cmd.Flags())
	if err != nil {
		return err
	}
	st, err := l.openReadOnly(cmd, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	meter := newMeter(l.streams)
	defer meter.End()
	e := mirror.Export{Store: st, Since: since, Planned: meter.plan, Progress: meter.progress}
	var result mirror.Result
	write := func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		result, err = e.Write(cmd.Context(), b)
		return errors.Join(err, b.Flush())
	}
	if to == "-" {
		return write(l.streams.Out)
	}
	if err := durableFile(to, write); err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.streams.Out, "exported %d archives, %d bytes\n", result.Archives, result.Bytes)
	return err
}

// durableFile makes a file that is not there yet, whole or not at all.
func durableFile(path string, write func(io.Writer) error) error {
	err := durable.FS{}.CreateFileFunc(path, 0o644, func(f *os.File) error { return write(f) })
	if errors.Is(err, os.ErrExist) {
		return cli.WithHint(err, "remove it, or choose another name")
	}
	return err
}

func importCommand(l *loader) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE|-",
		Short: "take an export into a data directory",
		Long: "Takes an export from a file, or with - from a pipe, into --data-dir, verified as if it came from an\n" +
			"upstream. --root is needed the first time alone. The server that holds the directory must be\n" +
			"stopped meanwhile.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 4 the export is cut, damaged, older than what is there, or\n" +
			"expired, 5 too little room. After all but 0 the repository is what it was before; archives that\n" +
			"arrived are kept for another try.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return l.importFrom(cmd, args[0]) },
	}
}

func (l *loader) importFrom(cmd *cobra.Command, path string) (err error) {
	s, err := l.data(cmd.Flags())
	if err != nil {
		return err
	}
	if s.Root == "" && !hasRepository(s.DataDir) {
		return cli.WithHint(errors.New("root is not set: before the first import it must be known whom to trust"),
			"take N.root.json from the people who sign, not from who brings the export")
	}
	in := l.streams.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() // opened for reading
		in = f
	}
	meter := newMeter(l.streams)
	defer meter.End()
	st, err := openStore(cmd.Context(), s, nil, newLogger(meter, s), l.streams.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	result, err := mirror.Import{
		Store: st, Now: l.streams.Now, Built: builtAt(), AcceptStale: s.AcceptStale, MaxBytes: s.MaxBytes,
		Planned: meter.plan, Progress: meter.progress,
	}.Read(cmd.Context(), bufio.NewReaderSize(in, 1<<20))
	meter.End()
	if err != nil {
		return coded(err)
	}
	_, err = fmt.Fprintf(l.streams.Out, "imported %d archives, %d bytes\n", result.Archives, result.Bytes)
	return err
}
