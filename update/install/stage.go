package install

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"syscall"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

const copySize = 256 << 10 // bytes that are read at once

// stage verifies that src is the verified archive, links or copies it to archives/, and returns its length. From then
// on nobody else can change the bytes. unpacked bytes must be free, and length more if the archive must be copied.
// After an error archives/ has nothing that was not verified.
func (i *Installer) stage(ctx context.Context, v signing.Verified, src *os.File, unpacked int64) (int64, error) {
	info, err := src.Stat()
	if err != nil {
		return 0, err
	}
	length := info.Size()
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: %s: expected a regular file", ErrMismatch, src.Name())
	}
	if length > update.MaxLength || v.Length() >= 0 && length != v.Length() {
		return 0, fmt.Errorf("%w: %s: expected %d bytes, got %d", ErrMismatch, src.Name(), v.Length(), length)
	}
	if err := i.checkRoom(unpacked); err != nil {
		return 0, err
	}
	// The archive may be there already: it is the installed one, or an interrupted run left it.
	err = i.verifyStaged(ctx, v.Digest(), length)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrMismatch) {
		return length, err
	}
	// A link is enough if nobody but this user can write to the file, and this user only after changing its mode.
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == os.Geteuid() && info.Mode()&0o222 == 0 {
		if linked, err := i.link(ctx, v.Digest(), src, info); linked || err != nil {
			return length, err
		}
	}
	if err := i.checkRoom(unpacked + length); err != nil {
		return 0, err
	}
	return length, i.c.FS.CreateFileFunc(i.archivePath(v.Digest()), 0o400, func(f *os.File) error {
		return copyVerified(ctx, f, src, v.Digest(), length)
	})
}

// link makes a link to src in archives/, verifies the archive there, and reports whether it is in place.
func (i *Installer) link(ctx context.Context, d update.Digest, src *os.File, info fs.FileInfo) (bool, error) {
	if err := copyVerified(ctx, io.Discard, src, d, info.Size()); err != nil {
		return false, err
	}
	if err := i.c.FS.Sync(src); err != nil {
		return false, err
	}
	path := i.archivePath(d)
	if err := i.c.FS.Link(src.Name(), path); err != nil {
		i.c.Logger.Debug("the archive is copied", "reason", err)
		return false, i.c.FS.Remove(path) // the link may exist in spite of the error
	}
	got, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	if !os.SameFile(got, info) { // the name belongs to another file by now
		return false, i.c.FS.Remove(path)
	}
	return true, i.c.FS.SyncDir(i.path(archivesDir))
}

// verifyStaged verifies an archive in archives/. The error is fs.ErrNotExist if it is not there. If its bytes are
// wrong, it is removed and the error is ErrMismatch.
func (i *Installer) verifyStaged(ctx context.Context, d update.Digest, length int64) error {
	f, err := os.Open(i.archivePath(d))
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	err = copyVerified(ctx, io.Discard, f, d, length)
	if errors.Is(err, ErrMismatch) {
		return errors.Join(err, i.c.FS.Remove(f.Name()))
	}
	return err
}

// copyVerified copies src to w. The error is ErrMismatch if the bytes do not have that length and digest.
func copyVerified(ctx context.Context, w io.Writer, src io.ReaderAt, d update.Digest, length int64) error {
	h := sha256.New()
	r := io.NewSectionReader(src, 0, length+1)
	n, err := io.CopyBuffer(plainWriter{io.MultiWriter(h, w)}, contextReader{ctx, r}, make([]byte, copySize))
	if err != nil {
		return err
	}
	if got := update.Digest(h.Sum(nil)); n != length || got != d {
		return fmt.Errorf("%w: expected %d bytes with SHA-256 %v, got %d with %v", ErrMismatch, length, d, n, got)
	}
	return nil
}

// contextReader is an io.Reader that fails once its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// plainWriter hides all methods but Write, so that io.CopyBuffer uses the given buffer.
type plainWriter struct{ io.Writer }

// unpack unpacks an archive from archives/. It reports whether the box reboots after it even if the script does not
// ask for that.
func (i *Installer) unpack(ctx context.Context, n update.Name, d update.Digest) (reboots bool, err error) {
	if err := i.prepareWork(); err != nil {
		return false, err
	}
	f, err := os.Open(i.archivePath(d))
	if err != nil {
		return false, err
	}
	defer f.Close() // opened for reading
	dir, err := os.OpenRoot(i.workPath(unpackedDir))
	if err != nil {
		return false, err
	}
	defer dir.Close() // opened for reading
	i.c.Logger.Info("unpacking", "update", n)
	if _, err := archive.Unpack(ctx, f, n, dir, archive.UnpackOptions{Limits: i.c.Limits, Entry: i.logEntry(ctx)}); err != nil {
		return false, err
	}
	if i.c.Reboot != RebootDefault {
		return i.c.Reboot == RebootAlways, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	built, err := isBuilt(ctx, f, n)
	return !built, err
}

// logEntry returns the function that logs each entry, nil if the log level leaves entries out.
func (i *Installer) logEntry(ctx context.Context) func(archive.Entry) {
	if !i.c.Logger.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return func(e archive.Entry) { i.c.Logger.DebugContext(ctx, "unpacking entry", "entry", e.Name) }
}

// errEnough ends the inspection of an archive.
var errEnough = errors.New("enough")

// isBuilt reports whether an archive begins as boxsign build writes it; see the package comment.
func isBuilt(ctx context.Context, f *os.File, n update.Name) (bool, error) {
	var begin []archive.Entry
	_, err := archive.Inspect(ctx, f, n, archive.InspectOptions{Entry: func(e archive.Entry) error {
		if begin = append(begin, e); len(begin) == 3 {
			return errEnough
		}
		return nil
	}})
	if err != nil && !errors.Is(err, errEnough) {
		return false, err
	}
	if len(begin) < 2 || begin[0].Name != n.Top()+"/" || begin[1].Name != n.Top()+"/"+archive.VersionFile {
		return false, nil
	}
	for _, e := range begin {
		perm := e.Mode.Perm()
		if !e.Time.Equal(begin[0].Time) || e.Mode.IsDir() && perm != 0o755 || e.Mode.IsRegular() && perm != 0o755 && perm != 0o644 {
			return false, nil
		}
	}
	return true, nil
}
