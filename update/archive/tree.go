package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxElement is the most bytes that Linux takes between two slashes.
const maxElement = 255

// errLimit says that an archive exceeds its Limits, and that nothing more of it is read.
var errLimit = errors.New("too large")

// kind is what a tree knows of a name.
type kind byte

const (
	absent    kind = iota
	implied        // a directory that only its contents have named so far
	directory      // a directory with an entry of its own
	file
	symlink
)

// tree holds the rules for the entries of an archive, which its writer and its readers share. It
// remembers 64 bits of a keyed hash of each name, not the name, so that its memory is bounded by the
// limit on entries alone. Two names have the same hash, and the second one is refused for it, less
// than once in 100 million archives of the full 200,000 entries.
type tree struct {
	top    string
	limits Limits
	seed   maphash.Seed
	nodes  map[uint64]kind
}

func newTree(top string, limits Limits) *tree {
	return &tree{top, limits, maphash.MakeSeed(), map[uint64]kind{}}
}

// add takes the next entry. The error says what is wrong with it; errLimit in it means that there are
// too many.
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
	if err := t.checkLink(name, h); err != nil {
		return err
	}
	return t.place(name, k)
}

// checkGlobal accepts a header for all later entries only if it changes none of them: git archive
// notes the commit in a comment.
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
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeLink:
		if h.Mode&setIDs != 0 {
			return absent, fmt.Errorf("has a setuid or setgid bit (mode %04o)", h.Mode&0o7777)
		}
		if isSparse(h) {
			return absent, errors.New("is a sparse file")
		}
		return file, nil
	case tar.TypeDir, tar.TypeSymlink:
		if h.Size != 0 {
			return absent, fmt.Errorf("is no file and has %d bytes of content", h.Size)
		}
		if h.Typeflag == tar.TypeDir {
			return directory, nil
		}
		return symlink, nil
	case tar.TypeChar, tar.TypeBlock:
		return absent, errors.New("is a device")
	case tar.TypeFifo:
		return absent, errors.New("is a FIFO")
	case tar.TypeGNUSparse:
		return absent, errors.New("is a sparse file")
	}
	return absent, fmt.Errorf("is of the unknown type %q", h.Typeflag)
}

func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// clean returns the one spelling of the name of an entry, without "./" before and "/" after it.
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

// checkText refuses names and targets that no honest entry has.
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

func (t *tree) checkLink(name string, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeSymlink:
		return t.checkSymlink(name, h.Linkname)
	case tar.TypeLink:
		return t.checkHardLink(h.Linkname)
	}
	return nil
}

// checkSymlink refuses targets outside of the top directory. Its reasoning is lexical. That is sound
// because no entry lies below a link (place) and ".." stands only where no link comes before it.
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

// place enters name and the directories above it.
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
