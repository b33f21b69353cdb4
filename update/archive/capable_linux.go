package archive

import (
	"os"

	"golang.org/x/sys/unix"
)

// capable reports whether a file has capabilities, as far as its file system says.
func capable(f *os.File) bool {
	n, err := unix.Fgetxattr(int(f.Fd()), capabilityAttribute, nil)
	return err == nil && n > 0
}
