package signer

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// contents are the entries of an archive, by their path below its top directory, whose name differs by version. The file
// VERSION is left out for the same reason.
type contents map[string]File

// File is an entry of an archive. Its text comes from outside: it may hold control characters.
type File struct {
	Path   string        `json:"path"` // below the top directory
	Mode   string        `json:"mode"` // as ls writes it
	Size   int64         `json:"size"`
	Digest update.Digest `json:"digest,omitzero"` // of the content of a regular file that is no link
	Link   string        `json:"link,omitempty"`  // the target of a symbolic or hard link
}

// FileChange is a file that two archives have, with another content, mode or link target.
type FileChange struct {
	File
	Before File `json:"before"`
}

// Comparison says in which files an archive differs from another one. Times do not count.
type Comparison struct {
	Name    update.Name  `json:"name"`
	Before  update.Name  `json:"before"`
	Added   []File       `json:"added"`
	Removed []File       `json:"removed"`
	Changed []FileChange `json:"changed"`
	Same    int          `json:"same"` // files in which they do not differ

	files [2]string // where the archive and the one before are, for people
}

// ModeText returns a mode as ls writes it. Go's text differs only in the letter of a symbolic link.
func ModeText(m fs.FileMode) string { return strings.Replace(m.String(), "L", "l", 1) }

// inspectOptions returns the options that fill c with the entries of an archive of that name while it is inspected.
func (c contents) inspectOptions(name update.Name) archive.InspectOptions {
	var digest update.Digest // of the entry that comes next
	return archive.InspectOptions{
		Content: func(_ archive.Entry, content io.Reader) error {
			var h update.Hasher
			_, err := io.Copy(&h, content)
			digest, _, _ = h.Result()
			return err
		},
		Entry: func(e archive.Entry) error {
			f := File{Path: pathBelowTop(name, e.Name), Mode: ModeText(e.Mode), Size: e.Size, Digest: digest, Link: e.Link}
			digest = update.Digest{}
			if e.Link != "" && e.Mode&fs.ModeSymlink == 0 {
				f.Link = pathBelowTop(name, e.Link)
			}
			if f.Path != archive.VersionFile {
				c[f.Path] = f
			}
			return nil
		},
	}
}

// pathBelowTop returns the path of an entry below the top directory of an archive, "." for that directory itself. An entry beside
// it gets a path that begins with "../".
func pathBelowTop(name update.Name, entry string) string {
	entry = path.Clean(entry)
	if entry == name.Top() {
		return "."
	}
	if rest, ok := strings.CutPrefix(entry, name.Top()+"/"); ok {
		return rest
	}
	return "../" + entry
}

// compareContents says in which files an archive differs from the one before.
func compareContents(before, now contents) Comparison {
	c := Comparison{Added: []File{}, Removed: []File{}, Changed: []FileChange{}}
	for _, p := range slices.Sorted(maps.Keys(now)) {
		f := now[p]
		switch had, ok := before[p]; {
		case !ok:
			c.Added = append(c.Added, f)
		case had != f:
			c.Changed = append(c.Changed, FileChange{f, had})
		default:
			c.Same++
		}
	}
	for _, p := range slices.Sorted(maps.Keys(before)) {
		if _, ok := now[p]; !ok {
			c.Removed = append(c.Removed, before[p])
		}
	}
	return c
}

// maxFilesShown is how many files of a comparison are shown before signing.
const maxFilesShown = 20

// Text returns the comparison for people, with all files.
func (c Comparison) Text() string { return c.text(len(c.Added) + len(c.Removed) + len(c.Changed)) }

// text returns the comparison for people, with at most so many files.
func (c Comparison) text(most int) string {
	found := "no file differs"
	if len(c.Added)+len(c.Removed)+len(c.Changed) > 0 {
		found = fmt.Sprintf("files added %d, removed %d, changed %d, the same %d", len(c.Added), len(c.Removed), len(c.Changed), c.Same)
	}
	var files []string
	for _, f := range c.Added {
		files = append(files, lines("file added", f.describe()))
	}
	for _, f := range c.Removed {
		files = append(files, lines("file removed", f.describe()))
	}
	for _, f := range c.Changed {
		files = append(files, lines("file changed", f.describe()))
	}
	text := lines("compared", fmt.Sprintf("%v with %v: %s", c.Name, c.Before, found)) + strings.Join(files[:min(most, len(files))], "")
	if more := len(files) - most; more > 0 {
		see := fmt.Sprintf("see boxsign diff %s %s", word(c.files[0]), word(c.files[1]))
		if IsURL(c.files[0]) {
			see = fmt.Sprintf("download %s, then see boxsign diff %v %s", c.files[0], c.Before, word(c.files[1]))
		}
		text += lines("files", fmt.Sprintf("and %d more; %s", more, see))
	}
	return text
}

func (f File) describe() string {
	facts := []string{f.Mode}
	switch {
	case f.Link != "":
		facts = append(facts, "link to "+cli.Printable(f.Link))
	case f.isRegular():
		facts = append(facts, fmt.Sprintf("%d bytes", f.Size))
	}
	return fmt.Sprintf("%s (%s)", cli.Printable(f.Path), strings.Join(facts, ", "))
}

func (f File) isRegular() bool { return strings.HasPrefix(f.Mode, "-") && f.Link == "" }

func (f FileChange) describe() string {
	var facts []string
	switch had := f.Before; {
	case f.Link != had.Link:
		facts = append(facts, fmt.Sprintf("%s -> %s", had.content(), f.content()))
	case f.isRegular() != had.isRegular(): // the mode says it
	case f.Size != had.Size:
		facts = append(facts, fmt.Sprintf("%d -> %d bytes", had.Size, f.Size))
	case f.Digest != had.Digest:
		facts = append(facts, fmt.Sprintf("other content, %d bytes", f.Size))
	}
	if f.Mode != f.Before.Mode {
		facts = append(facts, fmt.Sprintf("%s -> %s", f.Before.Mode, f.Mode))
	}
	return fmt.Sprintf("%s (%s)", cli.Printable(f.Path), strings.Join(facts, ", "))
}

// content says what a file holds: the target of a link, or so many bytes.
func (f File) content() string {
	if f.Link != "" {
		return "link to " + cli.Printable(f.Link)
	}
	return fmt.Sprintf("%d bytes", f.Size)
}

// Diff says in which files the archive at path now differs from the one at before.
func Diff(ctx context.Context, before, now string) (Comparison, error) {
	had, hadName, err := readContents(ctx, before)
	if err != nil {
		return Comparison{}, err
	}
	has, name, err := readContents(ctx, now)
	if err != nil {
		return Comparison{}, err
	}
	c := compareContents(had, has)
	c.Name, c.Before = name, hadName
	return c, nil
}

// readContents reads the contents of the archive at path.
func readContents(ctx context.Context, path string) (contents, update.Name, error) {
	base := filepath.Base(path)
	if digest, rest, ok := strings.Cut(base, "."); ok {
		if _, err := update.ParseDigest(digest); err == nil {
			base = rest // the name of a TUF target
		}
	}
	name, err := parseArchivePath(base)
	if err != nil {
		return nil, update.Name{}, err
	}
	found := contents{}
	_, report, err := readNamed(ctx, path, name, found.inspectOptions(name))
	if err == nil {
		err = checkComplete(name, report)
	}
	return found, name, err
}

// checkComplete refuses an archive that was not read to its end: what is missing would look removed.
func checkComplete(name update.Name, r archive.Report) error {
	if r.Complete {
		return nil
	}
	return status.WithHint(fmt.Errorf("%v: %s", name, r.Problems[len(r.Problems)-1]), "boxsign inspect says what is wrong with an archive")
}
