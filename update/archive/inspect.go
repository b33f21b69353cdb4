package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/update"
)

// The files that every update has at its top.
const (
	InstallScript = "install_update.sh"
	VersionFile   = "VERSION"

	// oldVersionFile is what the archives of January 2019 have in place of VersionFile.
	oldVersionFile = "version"
)

const (
	maxProblems = 20 // named in a Report
	maxVersion  = 64 // bytes of a version file, white space included
)

// Entry is one entry of an archive. Its text comes from outside: it may hold control characters.
type Entry struct {
	Name    string      // as it stands in the archive, with "/" after a directory's
	Mode    fs.FileMode // type and permissions
	Size    int64       // bytes
	Time    time.Time
	Link    string // the target of a symbolic or hard link, else ""
	Problem string // why it may not be in an update, beginning with a verb; "" if it may

	capabilities bool // it has file capabilities, which unpacking drops
}

func newEntry(h *tar.Header) Entry {
	e := Entry{Name: h.Name, Mode: modeOf(h), Size: h.Size, Time: h.ModTime}
	if h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeSymlink {
		e.Link = h.Linkname // in other entries the field means nothing
	}
	e.capabilities = hasCapabilities(h)
	return e
}

// hasCapabilities reports whether an entry carries file capabilities (capabilities(7)), as GNU tar and libarchive
// write extended attributes.
func hasCapabilities(h *tar.Header) bool {
	for _, prefix := range []string{"SCHILY.xattr.", "LIBARCHIVE.xattr."} {
		if h.PAXRecords[prefix+capabilityAttribute] != "" {
			return true
		}
	}
	return false
}

const capabilityAttribute = "security.capability"

// modeOf returns the mode of an entry of that type. What the mode field says of the type is ignored, as tar does.
func modeOf(h *tar.Header) fs.FileMode {
	m := fs.FileMode(h.Mode & 0o777)
	if h.Mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if h.Mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if h.Mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	t, ok := entryTypes[h.Typeflag]
	if !ok {
		return m | fs.ModeIrregular
	}
	return m | t.mode
}

// Report is what Inspect found.
type Report struct {
	Entries       int            // entries read
	Unpacked      int64          // bytes of all files
	InstallScript bool           // there is an executable install_update.sh at the top
	Version       update.Version // what VERSION says; zero without a VERSION that can be read
	Interpreter   string         // the program that runs install_update.sh; "" if a kernel refuses its #! line
	Problems      []string       // why it is not a proper update, in words; the first 20 and how many more
	Complete      bool           // the archive was read to its end: neither damage nor a limit cut it short
	more          int            // problems beyond those
}

// Proper reports whether the archive is a proper update.
func (r *Report) Proper() bool { return len(r.Problems) == 0 }

// InspectOptions say how to inspect. The zero value is ready for use.
type InspectOptions struct {
	Limits Limits

	// Entry, if not nil, is called with each entry in turn, including those with problems. Its error ends the
	// inspection.
	Entry func(Entry) error

	// Content, if not nil, is called before Entry with each regular file that is no link, and its content. Its error must
	// be one of reading content.
	Content func(e Entry, content io.Reader) error
}

// Inspect reads the archive of that name to its end and reports whether it is a proper update. It reports more than
// Unpack refuses: an install script that no system can start, and file capabilities and setgid bits of directories,
// which unpacking drops. Boxes still accept such archives. The Report has everything that is wrong with the archive,
// from its compression to its VERSION; the error is one of reading r, of ctx, or of o.Entry. o.Limits bounds the
// memory, however large the archive is.
func Inspect(ctx context.Context, r io.Reader, name update.Name, o InspectOptions) (Report, error) {
	i := inspection{name: name, strict: true}
	a, err := open(ctx, r, name, o.Limits)
	defer a.close()
	for err == nil {
		var e Entry
		if e, err = a.next(); err != nil {
			break
		}
		var head []byte
		if head, err = i.judge(e, a.tar); err == nil && o.Content != nil && e.Mode.IsRegular() && e.Link == "" {
			err = o.Content(e, io.MultiReader(bytes.NewReader(head), a.tar))
		}
		if err == nil && o.Entry != nil {
			if err := o.Entry(e); err != nil {
				return Report{}, err
			}
		}
	}
	if err := a.outside(); err != nil {
		return Report{}, fmt.Errorf("inspect %v: %w", name, err)
	}
	i.finish(err)
	return i.Report, nil
}

// inspection judges an archive and gathers a Report.
type inspection struct {
	Report
	strict  bool // also report what a signer should know, though boxes accept it
	name    update.Name
	refusal error  // the first problem, as ErrImproper
	script  string // what is wrong with the install script, "" for nothing
	version map[string]string
	linked  string // what is wrong with a VERSION that is not a regular file, "" for nothing
}

// problem records why the archive is not a proper update. kind wraps ErrImproper.
func (i *inspection) problem(kind error, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if i.refusal == nil {
		i.refusal = fmt.Errorf("%w: %s", kind, text)
	}
	if len(i.Problems) < maxProblems {
		i.Problems = append(i.Problems, text)
		return
	}
	i.more++
}

// judge checks the next entry. It returns what it has read of the entry's content, from body. The error is one of
// body.
func (i *inspection) judge(e Entry, body io.Reader) (head []byte, err error) {
	i.Entries++
	if e.Problem != "" {
		i.problem(ErrImproper, "entry %s %s", quote(e.Name), e.Problem)
		return nil, nil
	}
	if e.Mode.IsRegular() && e.Link == "" {
		i.Unpacked += e.Size
	}
	if i.strict { // unpacking drops these silently
		if e.capabilities {
			i.problem(ErrImproper, "entry %s has file capabilities, which a box drops; set them in %s", quote(e.Name), InstallScript)
		}
		if e.Mode.IsDir() && e.Mode&fs.ModeSetgid != 0 {
			i.problem(ErrImproper, "entry %s has a setgid bit, which a box drops; set it in %s", quote(e.Name), InstallScript)
		}
	}
	dir, base := path.Split(path.Clean(e.Name))
	switch {
	case dir != i.name.Top()+"/":
		return nil, nil
	case base == InstallScript && !e.Mode.IsRegular():
		i.script = "is not a regular file"
	case base == InstallScript && e.Mode&0o111 == 0:
		i.script = fmt.Sprintf("is not executable (mode %04o)", e.Mode.Perm())
	case base == InstallScript:
		i.InstallScript = true
		if e.Link != "" {
			return nil, nil // the file that it links to came before
		}
		if head, err = io.ReadAll(io.LimitReader(body, maxShebang)); err != nil {
			return nil, err
		}
		if i.Interpreter, err = Interpreter(head); err != nil && i.strict {
			i.problem(ErrImproper, "%s %v", InstallScript, err)
		}
	case base != VersionFile && base != oldVersionFile:
	case !e.Mode.IsRegular() || e.Link != "":
		i.linked = fmt.Sprintf("%s is %s: expected a regular file", base, describeType(e))
	default:
		if head, err = io.ReadAll(io.LimitReader(body, maxVersion+1)); err != nil {
			return nil, err
		}
		if i.version == nil {
			i.version = map[string]string{}
		}
		i.version[base] = string(head)
	}
	return head, nil
}

// describeType says what an entry is that is not a regular file.
func describeType(e Entry) string {
	switch {
	case e.Mode&fs.ModeSymlink != 0:
		return "a symbolic link to " + quote(e.Link)
	case e.Link != "":
		return "a hard link to " + quote(e.Link)
	}
	return "a " + typeName(e.Mode)
}

// finish adds what only the end of the archive shows. err is what ended it. If that was not the end of the archive,
// finish reports no file as missing.
func (i *inspection) finish(err error) {
	switch {
	case errors.Is(err, io.EOF):
		i.Complete = true
		noScript := fmt.Errorf("%w: %w", ErrImproper, ErrNoInstallScript)
		if i.script != "" {
			i.problem(noScript, "%s %s", InstallScript, i.script)
		} else if !i.InstallScript {
			i.problem(noScript, "has no %s at the top of %s", InstallScript, i.name.Top())
		}
		if err := i.judgeVersion(); err != nil {
			i.problem(fmt.Errorf("%w: %w", ErrImproper, ErrVersion), "%v", err)
		}
	case errors.Is(err, errLimit):
		i.problem(ErrImproper, "the archive is %v", err)
	default:
		i.problem(ErrImproper, "the archive is damaged or not what its name says: %v", explain.Cut("it", err))
	}
	if i.more > 0 {
		i.Problems = append(i.Problems, fmt.Sprintf("and %d more", i.more))
	}
}

// judgeVersion compares the archive's VERSION with its name.
func (i *inspection) judgeVersion() error {
	base := VersionFile
	text, ok := i.version[base]
	if !ok {
		base = oldVersionFile
		text, ok = i.version[base]
	}
	switch {
	case !ok && i.linked != "":
		return errors.New(i.linked)
	case !ok:
		return fmt.Errorf("has no file %s at the top of %s", VersionFile, i.name.Top())
	}
	v, err := parseVersionFile(text)
	if err != nil {
		return fmt.Errorf("%s: %w", base, err)
	}
	if i.Version = v; v != i.name.Version() {
		return fmt.Errorf("%s says %v, the name says %v", base, v, i.name.Version())
	}
	return nil
}

func parseVersionFile(text string) (update.Version, error) {
	if len(text) > maxVersion {
		return update.Version{}, fmt.Errorf("has more than %d bytes", maxVersion)
	}
	return update.ParseVersion(strings.TrimSpace(text))
}
