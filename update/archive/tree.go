package archive

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits bound what an archive may ask of a reader. A field that is zero has the default.
type Limits struct {
	Entries int    // entries and the directories that only their contents name; 200,000
	Name    int    // bytes in the name of an entry or the target of a link; 1,024
	Bytes   int64  // bytes of the tar archive, unpacked; 16 GiB
	Window  uint64 // bytes of zstd's window, which a reader holds in memory; 8 MiB (RFC 8878, 3.1.1.1.2)
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Entries: cmp.Or(l.Entries, 200_000),
		Name:    cmp.Or(l.Name, 1024),
		Bytes:   cmp.Or(l.Bytes, 16<<30),
		Window:  cmp.Or(l.Window, zstdWindow),
	}
}

// maxElement is the most bytes that Linux takes between two slashes.
const maxElement = 255

// errLimit says that an archive exceeds its Limits, and that nothing more of it is read.
var errLimit = errors.New("too large")

// kind is what a tree knows of a name.
type kind byte

const (
	absent    kind = iota
	implied        // a directory that only the names of its contents have mentioned so far
	directory      // a directory with an entry of its own
	file
	symlink
)

// entryTypes are the types of tar entries that this package knows. Those without a kind may not be in an update.
var entryTypes = map[byte]struct {
	kind kind
	mode fs.FileMode // its type bits
}{
	tar.TypeReg:     {file, 0},
	tar.TypeCont:    {file, 0},
	tar.TypeLink:    {file, 0},
	tar.TypeDir:     {directory, fs.ModeDir},
	tar.TypeSymlink: {symlink, fs.ModeSymlink},
	tar.TypeChar:    {absent, fs.ModeDevice | fs.ModeCharDevice},
	tar.TypeBlock:   {absent, fs.ModeDevice},
	tar.TypeFifo:    {absent, fs.ModeNamedPipe},
}

// typeName names the type of a file for a message.
func typeName(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "file of type " + m.Type().String()
}

// tree has the rules for the entries of an archive, which Build, Inspect and Unpack share. It remembers 64 bits of a
// keyed hash of each name, not the name, so that the limit on entries alone bounds its memory. Two names with the same
// hash, of which the second is refused, occur in less than one of 100 million archives of the full 200,000 entries.
type tree struct {
	top    string
	limits Limits
	seed   maphash.Seed
	nodes  map[uint64]kind
}

func newTree(top string, limits Limits) *tree {
	return &tree{top, limits, maphash.MakeSeed(), map[uint64]kind{}}
}

// add checks the next entry. The error says what is wrong with it. It is errLimit if there are too many.
func (t *tree) add(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return checkGlobal(h)
	}
	k, err := kindOf(h)
	if err != nil {
		return err
	}
	name, err := t.clean(h.Name, k == directory)
	if err != nil {
		return err
	}
	if name == "." {
		return nil // tar -C dir . writes "./" first
	}
	if first, _, below := strings.Cut(name, "/"); first != t.top || !below && k != directory {
		return fmt.Errorf("is not in the directory %s", t.top)
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		err = t.checkSymlink(name, h.Linkname)
	case tar.TypeLink:
		err = t.checkHardLink(h.Linkname)
	}
	if err != nil {
		return err
	}
	return t.place(name, k)
}

// checkGlobal accepts a header for all later entries only if it changes none of them: git archive records the commit in
// a comment.
func checkGlobal(h *tar.Header) error {
	for key := range h.PAXRecords {
		if key != "comment" {
			return fmt.Errorf("is a global header that sets %s", quote(key))
		}
	}
	return nil
}

func kindOf(h *tar.Header) (kind, error) {
	const setIDs = 0o6000
	t, ok := entryTypes[h.Typeflag]
	switch {
	case t.kind == file && h.Mode&setIDs != 0:
		return absent, fmt.Errorf("has a setuid or setgid bit (mode %04o)", h.Mode&0o7777)
	case h.Typeflag == tar.TypeGNUSparse || t.kind == file && isSparse(h):
		return absent, errors.New("is a sparse file")
	case !ok:
		return absent, fmt.Errorf("is of the unknown type %q", h.Typeflag)
	case t.kind == absent:
		return absent, fmt.Errorf("is a %s", typeName(t.mode))
	case t.kind != file && h.Size != 0:
		return absent, fmt.Errorf("is no file and has %d bytes of content", h.Size)
	}
	return t.kind, nil
}

func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// clean returns the one spelling of the name of an entry, without a leading "./" and a trailing "/".
func (t *tree) clean(name string, isDir bool) (string, error) {
	if err := t.checkText("name", name); err != nil {
		return "", err
	}
	if strings.HasPrefix(name, "/") {
		return "", errors.New("has an absolute name")
	}
	if !isDir && strings.HasSuffix(name, "/") {
		return "", errors.New("is a file with the name of a directory")
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == ".." {
			return "", errors.New("has .. in its name")
		}
		if len(element) > maxElement {
			return "", fmt.Errorf("has a name with more than %d bytes between two slashes", maxElement)
		}
	}
	return path.Clean(name), nil
}

// checkText refuses names and targets that a proper entry does not have.
func (t *tree) checkText(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("has an empty %s", what)
	case len(s) > t.limits.Name:
		return fmt.Errorf("has a %s of %d bytes, more than %d", what, len(s), t.limits.Name)
	case !utf8.ValidString(s):
		return fmt.Errorf("has a %s that is not UTF-8", what)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("has a control character in its %s", what)
	}
	return nil
}

// checkSymlink refuses targets outside of the top directory. It compares names only. That is sound because no entry
// lies below a link (see place), and ".." is accepted only before all names.
func (t *tree) checkSymlink(name, target string) error {
	if err := t.checkText("link target", target); err != nil {
		return err
	}
	if strings.HasPrefix(target, "/") {
		return fmt.Errorf("links to %s, outside of the update", quote(target))
	}
	room, descended := strings.Count(name, "/")-1, false
	for element := range strings.SplitSeq(target, "/") {
		switch {
		case element == "" || element == ".":
		case element != "..":
			descended = true
		case descended:
			return fmt.Errorf("links to %s, with .. after a name", quote(target))
		case room == 0:
			return fmt.Errorf("links to %s, outside of the update", quote(target))
		default:
			room--
		}
	}
	return nil
}

func (t *tree) checkHardLink(target string) error {
	name, err := t.clean(target, false)
	if err != nil {
		return fmt.Errorf("is a hard link whose target %w", err)
	}
	if t.nodes[t.hash(name)] != file {
		return fmt.Errorf("is a hard link to %s, which is no file that came before", quote(target))
	}
	return nil
}

// place adds a name and the directories above it.
func (t *tree) place(name string, k kind) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		switch above := t.hash(name[:i]); t.nodes[above] {
		case absent:
			t.nodes[above] = implied
		case file, symlink:
			return fmt.Errorf("lies below %s, which is no directory", quote(name[:i]))
		}
		if len(t.nodes) > t.limits.Entries {
			return t.tooMany()
		}
	}
	was := t.nodes[t.hash(name)]
	if was != absent && (was != implied || k != directory) {
		return errors.New("stands twice")
	}
	t.nodes[t.hash(name)] = k
	if len(t.nodes) > t.limits.Entries {
		return t.tooMany()
	}
	return nil
}

func (t *tree) tooMany() error {
	return fmt.Errorf("%w: more than %d entries", errLimit, t.limits.Entries)
}

func (t *tree) hash(name string) uint64 { return maphash.String(t.seed, name) }

// quote quotes outside text for a message and bounds its length.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
