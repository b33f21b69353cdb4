//go:build !linux

package disk

import "os"

// Allocate does nothing: a write may find the disk full.
func Allocate(*os.File, int64) error { return nil }

// StartWriting does nothing.
func StartWriting(*os.File, int64, int64) {}

// DropCached does nothing.
func DropCached(*os.File, int64, int64) {}

// YieldDisk does nothing.
func YieldDisk() {}

// HasCapabilities reports false: only Linux has file capabilities.
func HasCapabilities(*os.File) bool { return false }

// StampOpen returns the stamp of an open file.
func StampOpen(f *os.File) (Stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return Stamp{}, err
	}
	return StampOf(info), nil
}
