package install

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

const copySize = 256 << 10 // bytes that are read at once

// hold verifies that src is the verified archive, brings it to archives/ and returns its length. There
// must be room for what is in it, and for a copy where one has to be made. After an error nothing is
// there that was not verified.
func (i *Installer) hold(ctx context.Context, v signing.Verified, src *os.File, unpacked int64) (int64, error) {
	info, err := src.Stat()
	if err != nil {
		return 0, err
	}
	length := info.Size()
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: %s is not a regular file", ErrMismatch, src.Name())
	}
	if length > update.MaxLength || v.Length() >= 0 && length != v.Length() {
		return 0, fmt.Errorf("%w: %s has %d bytes, expected %d", ErrMismatch, src.Name(), length, v.Length())
	}
	if err := i.room(unpacked); err != nil {
		return 0, err
	}
	err = i.held(ctx, v.Digest(), length)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrMismatch) {
		err = i.bring(ctx, v.Digest(), src, info, unpacked)
	}
	return length, err
}

// bring brings src to archives/, by a link where that is safe and the file system can.
func (i *Installer) bring(ctx context.Context, d update.Digest, src *os.File, info fs.FileInfo, unpacked int64) error {
	if safe(info) {
		if linked, err := i.link(ctx, d, src, info); linked || err != nil {
			return err
		}
	}
	if err := i.room(unpacked + info.Size()); err != nil {
		return err
	}
	return i.c.FS.CreateFileFunc(i.archive(d), 0o400, func(f *os.File) error {
		return compare(ctx, f, src, d, info.Size())
	})
}

// safe reports whether a link to a file can stand for a copy: nobody but this user, who would have to
// change its mode first, can write to it.
func safe(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && info.Mode()&0o222 == 0
}

// link brings src to archives/ by a link, and reports whether it could.
func (i *Installer) link(ctx context.Context, d update.Digest, src *os.File, info fs.FileInfo) (bool, error) {
	if err := compare(ctx, io.Discard, src, d, info.Size()); err != nil {
		return false, err
	}
	if err := i.c.FS.Sync(src); err != nil {
		return false, err
	}
	path := i.archive(d)
	if err := i.c.FS.Link(src.Name(), path); err != nil {
		i.c.Logger.Debug("the archive is copied", "reason", err)
		return false, i.c.FS.Remove(path) // it may be there in spite of the error
	}
	got, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	if !os.SameFile(got, info) { // another file has the name by now
		return false, i.c.FS.Remove(path)
	}
	return true, i.c.FS.SyncDir(i.at(archivesDir))
}

// held verifies an archive that lies in archives/. The error is fs.ErrNotExist where none does, and
// ErrMismatch for a bad one, which is removed.
func (i *Installer) held(ctx context.Context, d update.Digest, length int64) error {
	f, err := os.Open(i.archive(d))
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	err = compare(ctx, io.Discard, f, d, length)
	if errors.Is(err, ErrMismatch) {
		return errors.Join(err, i.c.FS.Remove(f.Name()))
	}
	return err
}

// compare copies src to w and refuses, with ErrMismatch, what hasn't that length and digest.
func compare(ctx context.Context, w io.Writer, src io.ReaderAt, d update.Digest, length int64) error {
	h := sha256.New()
	r := io.NewSectionReader(src, 0, length+1)
	n, err := io.CopyBuffer(writer{io.MultiWriter(h, w)}, reader{ctx, r}, make([]byte, copySize))
	if err != nil {
		return err
	}
	if got := update.Digest(h.Sum(nil)); n != length || got != d {
		return fmt.Errorf("%w: expected %d bytes with SHA-256 %v, got %d with %v", ErrMismatch, length, d, n, got)
	}
	return nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// writer has no method beside Write, so that a copy to it goes through the buffer given.
type writer struct{ io.Writer }
