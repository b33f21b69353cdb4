package store

import (
	"errors"
	"io/fs"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// collectedName is the file that says when GC was last.
const collectedName = "gc.json"

// collectAgain is the pause after a GC that failed.
const collectAgain = time.Hour

type collected struct {
	At time.Time `json:"collected"`
}

// GCDue reports whether GC was last run so long ago, by whatever process, or never, or at a time that the clock
// has not reached; and, where it failed last, whether that is a while ago.
func (s *Store) GCDue(every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := func(at time.Time, after time.Duration) bool {
		since := s.c.Now().Sub(at)
		return since < 0 || since >= after
	}
	return due(s.collected, every) && due(s.notCollected, min(every, collectAgain))
}

// readCollected finds out when GC was last. Where that can't be read it is due: it removes nothing too early.
func (s *Store) readCollected() {
	s.collected = readNote[collected](s, collectedName).At
}

// noteCollected remembers that GC is run now, and whether it succeeded: if not, it is due again after collectAgain, or
// at once in the next process. Where the disk does not take it, that one collects once more.
func (s *Store) noteCollected(well bool) {
	at := s.c.Now()
	s.mu.Lock()
	if well {
		s.collected, s.notCollected = at, time.Time{}
	} else {
		s.notCollected = at
	}
	s.mu.Unlock()
	if !well {
		return
	}
	s.writeNote(collectedName, collected{at})
}

// maxNote bounds a note in bytes.
const maxNote = 4096

// readNote returns what the store noted for the next process, zero where that is nothing or can't be read.
func readNote[T any](s *Store, name string) T {
	v, damage, err := disk.ReadJSON[T](s.path(name), maxNote)
	if err = errors.Join(err, damage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Logger.Warn("the disk damaged a file, which is written again", "err", err)
	}
	return v
}

// writeNote notes something for the next process, which does without where the disk does not take it.
func (s *Store) writeNote(name string, v any) {
	if err := s.c.FS.WriteJSON(s.path(name), v, 0o644); err != nil {
		s.c.Logger.Warn("a note for the next process is not written", "file", name, "err", err)
	}
}
