package testworld

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// ErrCrash is the error of a disk from a crash on.
var ErrCrash = errors.New("crash")

// Crash returns a disk whose nth change is the last one: before it, or right after it; and how many were
// asked for.
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
