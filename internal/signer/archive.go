package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/readahead"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// Archive describes an archive.
type Archive struct {
	Name     update.Name    `json:"name"`
	Version  update.Version `json:"version"`
	Digest   update.Digest  `json:"digest"`
	Length   int64          `json:"length"`   // bytes of the archive
	Unpacked int64          `json:"unpacked"` // bytes of the files in it
	Entries  int            `json:"entries"`

	Interpreter string `json:"interpreter,omitempty"` // the program that runs install_update.sh

	blocks   update.Blocks
	contents contents // nil if they were not gathered
}

// examineArchive reads an archive to its end, inspects it and computes its digest.
func examineArchive(ctx context.Context, r io.Reader, name update.Name, o archive.InspectOptions) (Archive, archive.Report, error) {
	var h update.Hasher
	report, err := archive.Inspect(ctx, io.TeeReader(r, &h), name, o)
	if err != nil {
		return Archive{}, archive.Report{}, err
	}
	// Inspect may stop at a fault, and the digest is over the rest too. A reader that reads ahead may return io.EOF
	// itself, once more.
	if _, err := io.Copy(&h, r); err != nil && !errors.Is(err, io.EOF) {
		return Archive{}, archive.Report{}, err
	}
	digest, blocks, length := h.Result()
	return Archive{
		Name: name, Version: name.Version(), Digest: digest, Length: length,
		Unpacked: report.Unpacked, Entries: report.Entries, Interpreter: report.Interpreter, blocks: blocks,
	}, report, nil
}

// readProper examines the archives at paths. Those that are not proper updates are refused, all in one error; with
// force it warns of each instead.
func (s *Signer) readProper(ctx context.Context, force bool, paths ...string) ([]Archive, error) {
	var out []Archive
	var improper []error
	for _, path := range paths {
		name, err := parseArchivePath(filepath.Base(path))
		if err != nil {
			return nil, err
		}
		found := contents{}
		what, report, err := readNamed(ctx, path, name, found.inspectOptions(name))
		if err != nil {
			return nil, err
		}
		if report.Complete {
			what.contents = found
		}
		out = append(out, what)
		for _, p := range report.Problems {
			improper = append(improper, fmt.Errorf("%v is not a proper update: %s", what.Name, p))
		}
		s.warnOfInterpreter(what)
	}
	if len(improper) == 0 {
		return out, nil
	}
	if !force {
		return nil, status.WithHint(errors.Join(improper...), "see boxsign inspect; make a proper archive with boxsign build, or sign this one as it is with --force")
	}
	for _, err := range improper {
		s.Warn(err.Error() + "; boxsign signs it anyway")
	}
	return out, nil
}

// warnOfInterpreter warns of an install script whose interpreter this computer lacks: every box must have it.
func (s *Signer) warnOfInterpreter(what Archive) {
	if what.Interpreter == "" || what.Interpreter == archive.Shell {
		return
	}
	if _, err := os.Stat(what.Interpreter); errors.Is(err, fs.ErrNotExist) {
		s.Warn(fmt.Sprintf("%v: %s needs %s, which this computer lacks; every box must have it",
			what.Name, archive.InstallScript, what.Interpreter))
	}
}

func readArchive(ctx context.Context, path string, o archive.InspectOptions) (Archive, archive.Report, error) {
	name, err := parseArchivePath(filepath.Base(path))
	if err != nil {
		return Archive{}, archive.Report{}, err
	}
	return readNamed(ctx, path, name, o)
}

// readNamed reads the file at path as an archive of that name.
func readNamed(ctx context.Context, path string, name update.Name, o archive.InspectOptions) (Archive, archive.Report, error) {
	file, err := os.Open(path)
	if err != nil {
		return Archive{}, archive.Report{}, err
	}
	defer file.Close() // opened for reading
	defer pace.Waiting(ctx, "reading "+path)()
	ahead, err := readahead.NewReaderSize(file, 4, 512<<10)
	if err != nil {
		return Archive{}, archive.Report{}, err
	}
	defer ahead.Close() // stops reading ahead; file is closed above
	return examineArchive(ctx, ahead, name, o)
}

// Text returns the description for people.
func (a Archive) Text() string {
	return lines("name", a.Name, "digest", a.Digest, "length", a.Length, "unpacked", a.Unpacked, "entries", a.Entries, "interpreter", a.Interpreter)
}

// parseArchivePath parses the last element of a path as the name of an update.
func parseArchivePath(base string) (update.Name, error) {
	name, err := update.ParseName(base)
	if err != nil {
		return update.Name{}, status.WithHint(status.Usagef("%w", err),
			"the file must have the name of the update, such as opq-box-update-1550190683.tar.bz2")
	}
	return name, nil
}

// Inspection is what Inspect found.
type Inspection struct {
	Archive
	Proper   bool     `json:"proper"`
	Problems []string `json:"problems"`
}

// Text returns the result for people.
func (i Inspection) Text() string {
	verdict := "a proper update"
	if !i.Proper {
		verdict = "not a proper update"
	}
	return i.Archive.Text() + each("problem", i.Problems) + lines("verdict", verdict)
}

// Inspect reads an archive and reports whether it is a proper update. It calls entry, which may be nil, for each entry of
// the archive; an error from entry ends the reading and is returned.
func Inspect(ctx context.Context, path string, entry func(archive.Entry) error) (Inspection, error) {
	what, report, err := readArchive(ctx, path, archive.InspectOptions{Entry: entry})
	if err != nil {
		return Inspection{}, err
	}
	return Inspection{what, report.Proper(), append([]string{}, report.Problems...)}, nil
}
