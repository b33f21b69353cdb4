package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const mountInfoPath = "/proc/self/mountinfo"

// unmount detaches all that is mounted below a directory, so that who removes it does not go on into a
// file system that a script has bound there: /, for example. What can't be detached is an error. Without
// /proc it does nothing.
func unmount(dir string) error {
	info, err := os.ReadFile(mountInfoPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The kernel tells of paths without symbolic links.
	dir, err = filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(mountsBelow(string(info), dir)) { // the last one lies on top
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s, which a script left mounted: %w", point, err)
		}
	}
	return nil
}

// mountsBelow returns the mount points at or below a directory, as they stand in what mountInfoPath holds
// (proc(5)): the fifth field of each line, with octal numbers for blanks, newlines and backslashes.
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
