package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
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
	err := disk.FS{}.CreateFileFunc(path, 0o644, func(f *os.File) error { return write(f) })
	if errors.Is(err, os.ErrExist) {
		return cli.WithHint(err, "remove it, or choose another name")
	}
	return err
}
