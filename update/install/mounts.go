package install

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

const (
	mountInfoPath = "/proc/self/mountinfo"
	maxMountInfo  = 64 << 20 // bytes
)

// unmount detaches everything that is mounted at or below a directory, so that removing the directory does not enter
// a file system that a script has mounted there, such as /. It is an error if something can't be detached. Without
// /proc it does nothing.
func unmount(dir string) error {
	info, err := disk.ReadFile(mountInfoPath, maxMountInfo)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The kernel lists paths without symbolic links.
	dir, err = filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(mountsBelow(string(info), dir)) { // the last one is on top
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s, which a script left mounted: %w", point, err)
		}
	}
	return nil
}

// mountsBelow returns the mount points at or below a directory. info is the content of mountInfoPath (proc(5)): the
// mount point is the fifth field of each line, with octal numbers for blanks, newlines and backslashes.
func mountsBelow(info, dir string) (points []string) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape.Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points
}
