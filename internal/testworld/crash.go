package testworld

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// ErrCrash is the error of every change after a crash.
var ErrCrash = errors.New("crash")

// Crash returns a disk that crashes at its nth change: right before the change or, with after, right after it. That
// change and all later ones return ErrCrash. steps counts the changes that were asked for.
func Crash(n int, after bool) (fsys disk.FS, steps *int) {
	steps = new(int)
	return disk.FS{Hook: func(disk.Op, string) (bool, error) {
		*steps++
		switch {
		case *steps < n:
			return true, nil
		case *steps == n:
			return after, ErrCrash
		}
		return false, ErrCrash
	}}, steps
}
