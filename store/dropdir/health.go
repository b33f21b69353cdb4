package dropdir

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a report, however many files are wrong.
const (
	maxWarnings = 50
	maxText     = 300 // bytes
	maxNews     = 50  // lines in the log for one listing
	maxProblems = 32  // of one archive
)

// Health is what an operator should know of the directory.
type Health struct {
	Readable bool   // whether the last attempt to list the directory succeeded
	Error    string // why not; "" if it did
	Pending  int    // files that are not hashed yet

	// Warnings are at most 50 texts of at most 300 bytes, sorted: names that don't parse, files that were replaced, are
	// empty or can't be read, archives that are not proper updates or are of another product, and symbolic links.
	Warnings []string
	More     int // how many warnings were left out

	// Nothing says that no archive is served although there are files that look like archives.
	Nothing bool
}

// Health returns the state of the directory. The caller must not change the slice.
func (d *Dir) Health() Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.health == nil {
		h := d.state.health()
		d.health = &h
	}
	return *d.health
}

// report logs what is new in the state, at most maxNews lines. The caller holds d.mu.
func (d *Dir) report() {
	d.health = nil
	news := d.state.news
	d.state.news = nil
	for i, n := range news {
		if i == maxNews {
			d.c.Logger.Warn("updates directory: further changes not logged", "dir", d.c.Dir, "count", len(news)-maxNews)
			return
		}
		d.c.Logger.Log(context.Background(), n.level, n.message, n.attrs...)
	}
}

// item is one line for the log.
type item struct {
	level   slog.Level
	message string
	attrs   []any
}

func (s *state) say(level slog.Level, message string, attrs ...any) {
	s.news = append(s.news, item{level, message, attrs})
}

func (s *state) health() Health {
	h := Health{Readable: s.err == nil}
	if s.err != nil {
		h.Error = clip(s.err.Error())
	}
	var w []string
	for _, text := range s.notes {
		w = append(w, clip(text))
	}
	for base, text := range s.odd {
		w = append(w, clip(base+" "+text))
	}
	served := false
	for n, e := range s.entries {
		served = served || e.state != absent && e.state != failed && e.seen.Size > 0
		if e.state == listed && !e.isKnown() {
			h.Pending++
		}
		for _, text := range e.warnings() {
			w = append(w, clip(n.String()+" "+text))
		}
	}
	h.Nothing = h.Readable && !served && len(w) > 0
	slices.Sort(w)
	if len(w) > maxWarnings {
		h.More = len(w) - maxWarnings
		w = w[:maxWarnings:maxWarnings]
	}
	h.Warnings = w
	return h
}

// warnings returns what is wrong with one file that is in the directory.
func (e *entry) warnings() (w []string) {
	if e.state == absent {
		return nil
	}
	if e.seen.Size == 0 {
		w = append(w, "left out, it is empty")
	}
	if e.state == failed {
		w = append(w, "left out, can't be read: "+e.err.Error())
	}
	if e.replaced {
		w = append(w, "was replaced under the same name")
	}
	if e.known.stamp == e.seen && len(e.known.problems) > 0 {
		w = append(w, "is not a proper update: "+strings.Join(e.known.problems, "; "))
	}
	return w
}

// clip shortens a text for log, health and cache, and makes it valid UTF-8.
func clip(s string) string {
	const mark = "…"
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	end := maxText - len(mark)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// clipAll limits the number and length of the problems of one archive.
func clipAll(problems []string) []string {
	out := make([]string, 0, min(len(problems), maxProblems))
	for _, p := range problems[:min(len(problems), maxProblems)] {
		out = append(out, clip(p))
	}
	return out
}

func quote(s string) string { return fmt.Sprintf("%q", s) }
