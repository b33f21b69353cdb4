package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// How much of a disk should be free.
const (
	leastFree  = 256 << 20 // bytes, below which something is wrong
	leastFiles = 1000      // files that can still be made
	fewPercent = 5         // of bytes or files, below which there is a warning
)

// permissions checks that this account may read and write what a server must.
func (c *checked) permissions(context.Context) (found []Finding) {
	if dir := c.settings.UpdatesDir; dir != "" {
		found = append(found, readableArchives(dir, c.settings.Product))
	}
	if dir := c.settings.DataDir; dir != "" {
		found = append(found, writableDir(dir)...)
	}
	return found
}

// readableArchives checks the archives of a directory.
func readableArchives(dir string, product update.Product) Finding {
	const check = "updates_dir"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return wrong(check, "let "+whoami()+" read the directory: chmod o+rx, or chgrp", "%v", err)
	}
	archives, unreadable, first := 0, 0, ""
	ignored, why := 0, ""
	for _, e := range entries {
		n, err := update.ParseName(e.Name())
		if err != nil {
			continue
		}
		if n.Product() != product {
			ignored, why = ignored+1, fmt.Sprintf("%v is of product %q, expected %q", n, n.Product(), product)
			continue
		}
		if !e.Type().IsRegular() {
			ignored, why = ignored+1, fmt.Sprintf("%v is no regular file: copy the archive, or link it with ln without -s", n)
			continue
		}
		archives++
		if unix.Access(filepath.Join(dir, e.Name()), unix.R_OK) != nil {
			unreadable++
			first = e.Name()
		}
	}
	if unreadable > 0 {
		return wrong(check, "let "+whoami()+" read them: chmod o+r, or chgrp", "%d of %d archives can't be read, among them %s", unreadable, archives, first)
	}
	if ignored > 0 && archives == 0 {
		return wrong(check, "see product, and what lies in the directory", "%d archives are ignored, and none is left: %s", ignored, why)
	}
	if ignored > 0 {
		return warning(check, "see product, and what lies in the directory", "%d archives can be read, %d are ignored, among them: %s", archives, ignored, why)
	}
	return ok(check, "%d archives can be read", archives)
}

func whoami() string { return fmt.Sprintf("the account with the number %d", os.Getuid()) }

// writableDir checks that only the server can write to a data directory.
func writableDir(dir string) (found []Finding) {
	const check = "data_dir"
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return []Finding{ok(check, "%s is not there yet: the server makes it", dir)}
	}
	if err != nil {
		return []Finding{wrong(check, "let "+whoami()+" reach it", "%v", err)}
	}
	if info.Mode().Perm()&0o002 != 0 {
		found = append(found, wrong(check, "chmod o-w "+dir, "anybody may write to %s", dir))
	}
	for _, path := range []string{dir, filepath.Join(dir, "lock"), filepath.Join(dir, "metadata"), filepath.Join(dir, "sha256"), filepath.Join(dir, "staging")} {
		if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil && !errors.Is(err, unix.ENOENT) {
			found = append(found, wrong(check, "chown -R it to the account that the server runs as; this is "+whoami(), "%s can't be written to: %v", path, err))
		}
	}
	if info, err := os.Stat(adminSocket(dir)); err == nil && info.Mode().Perm()&0o077 != 0 {
		found = append(found, wrong("admin", "chmod 600 "+adminSocket(dir), "other accounts may ask the server to sync, repair, remove and import, and may profile it"))
	}
	if path := foreignFile(dir); path != "" {
		found = append(found, warning(check, "was a command run as root? chown -R it to the account that the server runs as",
			"%s belongs to another account than %s", path, dir))
	}
	if len(found) == 0 {
		found = append(found, ok(check, "can be written to"))
	}
	return found
}

// foreignFile returns a path in the upper two levels of a directory that belongs to another account than the directory,
// "" if there is none.
func foreignFile(dir string) string {
	var top unix.Stat_t
	if unix.Stat(dir, &top) != nil {
		return ""
	}
	for _, pattern := range []string{"*", "*/*"} {
		paths, err := disk.Glob(dir, pattern)
		if err != nil {
			return ""
		}
		for _, path := range paths {
			var is unix.Stat_t
			if unix.Lstat(path, &is) == nil && is.Uid != top.Uid {
				return path
			}
		}
	}
	return ""
}

// disk checks that the disk has room, and that it can be written to.
func (c *checked) disk(ctx context.Context) (found []Finding) {
	dir := c.settings.DataDir
	if checkDir("data_dir", dir) != nil {
		return nil
	}
	space, err := disk.SpaceOf(dir)
	if err != nil {
		return []Finding{wrong("disk", "see the message", "%v", err)}
	}
	found = append(found, judgeRoom(dir, space), judgeFiles(dir, space))
	if err := tryDisk(dir); err != nil {
		return append(found, wrong("disk", "is it mounted read-only, or failing? see dmesg", "nothing can be kept in %s: %v", dir, err))
	}
	return append(found, ok("disk", "what is written to %s is kept", dir))
}

func judgeRoom(dir string, space disk.Space) Finding {
	const advice = "make room: box-update-server gc, keep_newest or max_bytes on a mirror, boxsign publish --keep on an origin"
	switch text := fmt.Sprintf("%d of %d MB are free at %s", space.Free>>20, space.Size>>20, dir); {
	case space.Free < leastFree:
		return wrong("disk", advice, "%s", text)
	case space.Free < space.Size/100*fewPercent:
		return warning("disk", advice, "%s", text)
	default:
		return ok("disk", "%s", text)
	}
}

func judgeFiles(dir string, space disk.Space) Finding {
	const advice = "remove files that nobody needs, or make a file system with more inodes"
	switch text := fmt.Sprintf("%d of %d inodes are free at %s", space.FreeFiles, space.Files, dir); {
	case space.Files == 0: // some file systems don't count them
		return ok("disk", "inodes are not counted at %s", dir)
	case space.FreeFiles < leastFiles:
		return wrong("disk", advice, "%s", text)
	case space.FreeFiles < space.Files/100*fewPercent:
		return warning("disk", advice, "%s", text)
	default:
		return ok("disk", "%s", text)
	}
}

// tryDisk writes a block to a file without a name, of which nothing is left, and syncs it.
func tryDisk(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return nil // the file system has no such files
	}
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(fd), dir)
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
