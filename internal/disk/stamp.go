package disk

import "time"

// A Stamp changes when a path leads to another file, and when the file is written to: every write, rename and removal
// changes the change time. Stamps are comparable.
type Stamp struct {
	Device, Inode uint64
	Size          int64 // bytes

	// In nanoseconds since 1970. Times centuries away wrap around, so that they stay comparable, and their years stay
	// printable for clients.
	Modified, Changed int64
}

// SameFile reports whether both stamps are of one file.
func (s Stamp) SameFile(t Stamp) bool { return s.Device == t.Device && s.Inode == t.Inode }

// SameBytes reports whether size and modification time are the same in both stamps. If they are of one file, the file was
// not written to: a removal, another link or another mode changes only the change time.
func (s Stamp) SameBytes(t Stamp) bool { return s.Size == t.Size && s.Modified == t.Modified }

// ModTime returns the time of the last write.
func (s Stamp) ModTime() time.Time { return time.Unix(0, s.Modified).UTC() }

// ChangeTime returns the time of the last write, rename, link or change of mode.
func (s Stamp) ChangeTime() time.Time { return time.Unix(0, s.Changed).UTC() }
