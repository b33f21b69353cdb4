package box

import (
	"encoding/json"
	"fmt"
	"time"
)

// window is a maintenance window: a part of each day, in local time, in which updates are installed.
// Where it ends before it begins it goes past midnight. The zero window is the whole day.
type window struct {
	from, to int // minutes since midnight; to is not in the window
}

// parseWindow parses the one spelling of a window, "02:00-04:00". Begin and end differ.
func parseWindow(s string) (window, error) {
	var w window
	const clock = "15:04"
	if len(s) != 2*len(clock)+1 || s[len(clock)] != '-' {
		return window{}, fmt.Errorf("window %.20q: %w", s, errValue)
	}
	for i, p := range []*int{&w.from, &w.to} {
		at, err := time.Parse(clock, s[i*(len(clock)+1):][:len(clock)])
		if err != nil {
			return window{}, fmt.Errorf("window %.20q: %w", s, errValue)
		}
		*p = at.Hour()*60 + at.Minute()
	}
	if w.from == w.to || w.String() != s {
		return window{}, fmt.Errorf("window %.20q: %w", s, errValue)
	}
	return w, nil
}

func (w *window) set(b json.RawMessage) error {
	s, err := decode[string](b)
	if err != nil {
		return err
	}
	parsed, err := parseWindow(s)
	if err != nil {
		return err
	}
	*w = parsed
	return nil
}

// String returns what parseWindow parses, "" for the zero window.
func (w window) String() string {
	if w == (window{}) {
		return ""
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", w.from/60, w.from%60, w.to/60, w.to%60)
}

// open reports whether at is in the window, by the clock of its location.
func (w window) open(at time.Time) bool {
	minute := at.Hour()*60 + at.Minute()
	switch {
	case w == (window{}):
		return true
	case w.from < w.to:
		return w.from <= minute && minute < w.to
	}
	return minute >= w.from || minute < w.to
}
