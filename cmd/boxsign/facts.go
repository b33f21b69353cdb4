package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/readahead"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// facts are what is said of an archive.
type facts struct {
	Name     update.Name    `json:"name"`
	Version  update.Version `json:"version"`
	Digest   update.Digest  `json:"digest"`
	Length   int64          `json:"length"`   // bytes of the archive
	Unpacked int64          `json:"unpacked"` // bytes of the files in it
	Entries  int            `json:"entries"`

	blocks update.Blocks
}

// examine reads an archive to its end, inspects it and computes its digest.
func examine(ctx context.Context, r io.Reader, name update.Name, o archive.InspectOptions) (facts, archive.Report, error) {
	var h update.Hasher
	report, err := archive.Inspect(ctx, io.TeeReader(r, &h), name, o)
	if err != nil {
		return facts{}, archive.Report{}, err
	}
	// What follows the first fault. A reader that reads ahead may report once more that it was at its end.
	if _, err := io.Copy(&h, r); err != nil && !errors.Is(err, io.EOF) {
		return facts{}, archive.Report{}, err
	}
	digest, blocks, length := h.Result()
	return facts{name, name.Version(), digest, length, report.Unpacked, report.Entries, blocks}, report, nil
}

// readProper examines the archive at path. One that is not a proper update is refused, unless forced.
func readProper(ctx context.Context, path string, force bool) (facts, error) {
	name, err := parseArchivePath(filepath.Base(path))
	if err != nil {
		return facts{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return facts{}, err
	}
	defer file.Close() // opened for reading
	ahead, err := readahead.NewReaderSize(file, 4, 512<<10)
	if err != nil {
		return facts{}, err
	}
	defer ahead.Close() // of the reading ahead alone
	what, report, err := examine(ctx, ahead, name, archive.InspectOptions{})
	if err != nil {
		return facts{}, err
	}
	if !report.Proper() && !force {
		return facts{}, cli.WithHint(fmt.Errorf("%v is not a proper update: %s", name, strings.Join(report.Problems, "; ")),
			"boxsign inspect shows it, boxsign build makes a proper one, and --force signs it as it is")
	}
	return what, nil
}

// print writes one fact per line.
func (f facts) print(s cli.Streams) error {
	_, err := fmt.Fprintf(s.Out, "name: %v\ndigest: %v\nlength: %d\nunpacked: %d\nentries: %d\n",
		f.Name, f.Digest, f.Length, f.Unpacked, f.Entries)
	return err
}

// parseArchivePath returns the name of the update in the last part of a path.
func parseArchivePath(base string) (update.Name, error) {
	name, err := update.ParseName(base)
	if err != nil {
		return update.Name{}, cli.WithHint(cli.Usagef("%w", err),
			"the file name says which update it is, as in opq-box-update-1550190683.tar.bz2")
	}
	return name, nil
}
