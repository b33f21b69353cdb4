package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ErrNoInstallScript says that a directory has no regular file install_update.sh, or an archive no executable one.
var ErrNoInstallScript error = status.NoInstallScript

// ErrVersion says that a directory or an archive has a VERSION other than that of the update, or an archive none.
var ErrVersion error = status.OtherVersion

// Options say what to build.
type Options struct {
	// Name is the name of the archive. It decides the top directory, VERSION and the format.
	Name update.Name

	// Time is the time of every entry, in whole seconds. Zero means the version as Unix time, or 1970 if a tar header
	// can't hold that time.
	Time time.Time

	Limits Limits
}

// maxTime is the latest Unix time in seconds of a ustar header: eleven octal digits.
const maxTime = 1<<33 - 1

func (o Options) time() time.Time {
	t := o.Time
	if t.IsZero() {
		n, _ := strconv.ParseInt(o.Name.Version().String(), 10, 64) // out of range: maximum
		t = time.Unix(n, 0)
	}
	if t.Unix() < 0 || t.Unix() > maxTime {
		return time.Unix(0, 0)
	}
	return time.Unix(t.Unix(), 0)
}

// Build writes to w an update with the files below src. It writes VERSION itself and makes install_update.sh
// executable. It refuses, by name, what may not be in an update, a file that changes while it is read, and a src
// without an install script or with another VERSION. Inspect finds the result proper. After an error w has part of an
// archive.
func Build(ctx context.Context, w io.Writer, src *os.Root, o Options) error {
	if err := build(ctx, w, src, o); err != nil {
		return fmt.Errorf("build %v: %w", o.Name, err)
	}
	return nil
}

func build(ctx context.Context, w io.Writer, src *os.Root, o Options) error {
	if err := errors.Join(checkScript(src), checkVersion(src, o.Name.Version())); err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	zip, err := compress(o.Name.Format(), out)
	if err != nil {
		return err
	}
	b := newBuilder(ctx, zip, src, o)
	if err := b.write(o.Name.Version()); err != nil {
		zip.Close() // releases memory; err says what is wrong
		return err
	}
	return errors.Join(b.tar.Close(), zip.Close(), out.Flush())
}

// checkScript refuses a source without an install script that a system can start.
func checkScript(src *os.Root) error {
	head, err := readTop(src, InstallScript, maxShebang)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s is missing at the top of %s", ErrNoInstallScript, InstallScript, src.Name())
	case errors.As(err, new(typeError)):
		return fmt.Errorf("%w: %w, expected a regular file", ErrNoInstallScript, err)
	case err != nil:
		return err
	}
	if _, err := Interpreter(head); err != nil {
		return fmt.Errorf("%w: %s %w", ErrImproper, InstallScript, err)
	}
	return nil
}

// checkVersion compares the VERSION that src may have with the one that Build writes.
func checkVersion(src *os.Root, v update.Version) error {
	text, err := readTop(src, VersionFile, maxVersion+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, new(typeError)):
		return fmt.Errorf("%w: %w, expected none or a regular file", ErrVersion, err)
	case err != nil:
		return err
	}
	got, err := parseVersionFile(string(text))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrVersion, VersionFile, err)
	}
	if got != v {
		return fmt.Errorf("%w: %s says %v, the update is %v", ErrVersion, VersionFile, got, v)
	}
	return nil
}

// typeError says that a file is not regular.
type typeError struct {
	name string
	mode fs.FileMode
}

func (e typeError) Error() string { return fmt.Sprintf("%s is a %s", e.name, typeName(e.mode)) }

// readTop returns at most the first most bytes of a regular file at the top of src. The error is a typeError if the
// file is not regular.
func readTop(src *os.Root, name string, most int64) ([]byte, error) {
	info, err := src.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, typeError{name, info.Mode()}
	}
	f, err := openSame(src, name, info)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	return io.ReadAll(io.LimitReader(f, most))
}

// openSame opens the file that info describes and refuses one that took its place meanwhile.
func openSame(src *os.Root, name string, info fs.FileInfo) (*os.File, error) {
	// Without O_NONBLOCK a FIFO that took its place would block for ever.
	f, err := src.OpenFile(name, os.O_RDONLY|disk.NonBlock, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if s := disk.StampOf(now); !s.SameFile(disk.StampOf(info)) || !s.SameBytes(disk.StampOf(info)) {
		f.Close()
		return nil, fmt.Errorf("%s was replaced while it was read", name)
	}
	return f, nil
}

// limited refuses to write more than left bytes.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, fmt.Errorf("%w: the limit on unpacked bytes is exceeded", errLimit)
	}
	return l.w.Write(p)
}

// builder writes the entries of one archive.
type builder struct {
	ctx  context.Context
	src  *os.Root
	tar  *tar.Writer
	tree *tree
	top  string
	time time.Time
}

func newBuilder(ctx context.Context, w io.Writer, src *os.Root, o Options) *builder {
	limits := o.Limits.withDefaults()
	return &builder{
		ctx:  ctx,
		src:  src,
		tar:  tar.NewWriter(&limited{w, limits.Bytes}),
		tree: newTree(o.Name.Top(), limits),
		top:  o.Name.Top(),
		time: o.time(),
	}
}

func (b *builder) write(v update.Version) error {
	if err := b.header(tar.Header{Typeflag: tar.TypeDir, Name: ".", Mode: 0o755}); err != nil {
		return err
	}
	version := v.String() + "\n"
	if err := b.regular(VersionFile, 0o644, int64(len(version)), bytes.NewReader([]byte(version))); err != nil {
		return err
	}
	return fs.WalkDir(b.src.FS(), ".", b.visit)
}

// header writes a header whose Name is relative to the source.
func (b *builder) header(h tar.Header) error {
	name := h.Name
	h.Name = path.Join(b.top, name)
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	h.ModTime = b.time
	if err := b.tree.add(&h); err != nil {
		return fmt.Errorf("%s %w", quote(name), err)
	}
	return b.tar.WriteHeader(&h)
}

func (b *builder) visit(name string, d fs.DirEntry, err error) error {
	if err := errors.Join(err, b.ctx.Err()); err != nil {
		return err
	}
	if name == "." || name == VersionFile {
		return nil // written already
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		return b.file(name, info)
	case fs.ModeDir:
		return b.header(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
	case fs.ModeSymlink:
		return b.link(name)
	}
	return fmt.Errorf("%s is a %s, which may not be in an update", quote(name), typeName(info.Mode()))
}

func (b *builder) link(name string) error {
	target, err := b.src.Readlink(name)
	if err != nil {
		return err
	}
	return b.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: filepath.ToSlash(target), Mode: 0o777})
}

func (b *builder) file(name string, info fs.FileInfo) error {
	if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return fmt.Errorf("%s has a setuid or setgid bit", quote(name))
	}
	f, err := openSame(b.src, name, info)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	if disk.HasCapabilities(f) {
		return fmt.Errorf("%s has file capabilities, which an update does not carry: set them in %s", quote(name), InstallScript)
	}
	before, err := f.Stat()
	if err != nil {
		return err
	}
	program := before.Mode()&0o100 != 0
	if !disk.UnixModes {
		program, err = isProgram(f)
		if err != nil {
			return err
		}
	}
	mode := int64(0o644)
	if name == InstallScript || program {
		mode = 0o755
	}
	if err := b.regular(name, mode, before.Size(), f); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return changed(name)
	}
	return nil
}

// isProgram reports whether a file is a program for boxes by how it begins: "#!" or as ELF. It is asked where files have no
// mode that says so.
func isProgram(f io.ReaderAt) (bool, error) {
	head := make([]byte, 4)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	head = head[:n]
	return bytes.HasPrefix(head, []byte("#!")) || string(head) == "\x7fELF", nil
}

// regular writes a regular file of size bytes, which must be all of body.
func (b *builder) regular(name string, mode, size int64, body io.Reader) error {
	if err := b.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size}); err != nil {
		return err
	}
	n, err := io.Copy(b.tar, &source{ctx: b.ctx, r: io.LimitReader(body, size)})
	if err != nil {
		return fmt.Errorf("pack %s: %w", quote(name), err)
	}
	if n != size {
		return changed(name)
	}
	return nil
}

func changed(name string) error {
	return fmt.Errorf("%s changed while it was read", quote(name))
}
