package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/openpowerquality/box-update-server/status"
)

// ErrLocked says that another process holds the lock.
var ErrLocked error = status.Locked

// Lock is an exclusive lock that the kernel releases when the process ends, however it ends.
type Lock struct{ file *os.File }

// TryLock locks the file at path and writes the process ID into it for people to read. It creates the file with mode 0600
// if there is none, and never removes it. It refuses a symbolic link, which would let it overwrite another file. It does
// not wait: if another process holds the lock, the error is ErrLocked and names that process.
func TryLock(path string) (*Lock, error) {
	file, err := OpenNoFollow(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if busy, err := lockFile(file); err != nil {
		holder := holder(file)
		file.Close()
		if busy {
			return nil, fmt.Errorf("%s: %w%s", path, ErrLocked, holder)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file}, nil
}

func writePID(file *os.File) error {
	_, err := fmt.Fprintf(file, "%d\n", os.Getpid())
	return err
}

// holder returns the process that wrote its ID into the lock file, "" if none did.
func holder(file *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(file, 0, 20))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// Unlock releases the lock. Only closing the file would leave the lock with a child process that is just being started,
// until its program runs.
func (l *Lock) Unlock() error {
	return errors.Join(unlockFile(l.file), l.file.Close())
}
