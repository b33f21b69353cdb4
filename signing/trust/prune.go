package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// maxSuperseded bounds the superseded files that are kept, in bytes: an online key in the wrong hands can make
// any number of snapshots.
const maxSuperseded = 64 << 20

// Superseded is what Prune removed, or would remove, and what it leaves.
type Superseded struct {
	Files     []string // names of those removed
	Bytes     int64
	Kept      int
	KeptBytes int64
}

// Prune removes the snapshot and targets files that were superseded for Config.Superseded, and what a crash
// left behind. Where that is 0, the set before the current one is left alone whatever its age. dry only tells.
func (s *State) Prune(dry bool) (Superseded, error) {
	var out Superseded
	if s.current == nil {
		return out, nil
	}
	if !dry {
		if err := s.cfg.FS.RemoveTemps(s.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return out, err
		}
	}
	for _, role := range []Role{RoleSnapshot, RoleTargets} {
		stored, err := s.versions(role)
		if err != nil {
			return out, err
		}
		older := stored[:max(slices.Index(stored, s.current.Version(role)), 0)]
		for i, v := range slices.Backward(older) {
			path := filepath.Join(s.cfg.Dir, FileName(role, v))
			info, err := os.Lstat(path)
			if err != nil {
				return out, err
			}
			if out.KeptBytes+info.Size() <= maxSuperseded && s.spared(role, stored, i, dry) {
				out.Kept, out.KeptBytes = out.Kept+1, out.KeptBytes+info.Size()
				continue
			}
			out.Files, out.Bytes = append(out.Files, FileName(role, v)), out.Bytes+info.Size()
			if dry {
				continue
			}
			if err := s.cfg.FS.Remove(path); err != nil {
				return out, err
			}
		}
	}
	if dry {
		return out, nil
	}
	return out, s.removeCopies()
}

// spared reports whether the age of the stored version i of a role, which is superseded, lets it stay.
//
// It was superseded when the next one was written here. That is the modification time of the next one, which
// outlives restarts and copies of the directory. When the next one was issued says less: a mirror
// goes on serving the old one until its own sync.
func (s *State) spared(role Role, stored []int64, i int, dry bool) bool {
	if s.cfg.Superseded == 0 {
		return stored[i+1] == s.current.Version(role)
	}
	next := filepath.Join(s.cfg.Dir, FileName(role, stored[i+1]))
	info, err := os.Lstat(next)
	if err != nil {
		return false
	}
	now := s.now()
	if info.ModTime().After(now) && !dry {
		// A clock that was ahead must not keep withdrawn archives for years: the time begins anew. Where that
		// fails, the file only stays for longer.
		_ = os.Chtimes(next, time.Time{}, now)
	}
	return now.Sub(info.ModTime()) < s.cfg.Superseded
}

func (s *State) now() time.Time {
	if s.cfg.Now == nil {
		return time.Now()
	}
	return s.cfg.Now()
}
