package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/openpowerquality/box-update-server/internal/durable"
)

// collectedName is the file that says when GC was last.
const collectedName = "gc.json"

type collected struct {
	At time.Time `json:"collected"`
}

// GCDue reports whether GC was last run so long ago, by whatever process, or never, or at a time that the clock
// has not reached.
func (s *Store) GCDue(every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.c.Now().Sub(s.collected)
	return since < 0 || since >= every
}

// readCollected finds out when GC was last. Where that can't be read it is due: it removes nothing too early.
func (s *Store) readCollected() {
	var c collected
	raw, damage, err := durable.ReadState(s.path(collectedName), 4096, nil)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err = errors.Join(err, damage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Logger.Warn("time of the last collection", "err", err)
	}
	s.collected = c.At
}

// noteCollected remembers that GC is run now. Where the disk does not take it, the next process collects once more.
func (s *Store) noteCollected() {
	at := s.c.Now()
	s.mu.Lock()
	s.collected = at
	s.mu.Unlock()
	raw, err := json.Marshal(collected{at})
	if err == nil {
		err = s.c.FS.WriteState(s.path(collectedName), raw, 0o644)
	}
	if err != nil {
		s.c.Logger.Warn("time of this collection not written", "err", err)
	}
}
