package settings

import (
	"fmt"
	"time"
)

// A Window is a maintenance window: a part of each day, in local time, in which updates are installed. A window that ends
// before it begins goes past midnight. The zero window is the whole day.
type Window struct {
	from, to int // minutes since midnight; to is not in the window
}

// ParseWindow parses the one spelling of a window, "02:00-04:00". Begin and end differ.
func ParseWindow(s string) (Window, error) {
	var w Window
	const clock = "15:04"
	if len(s) != 2*len(clock)+1 || s[len(clock)] != '-' {
		return Window{}, errValue
	}
	for i, p := range []*int{&w.from, &w.to} {
		at, err := time.Parse(clock, s[i*(len(clock)+1):][:len(clock)])
		if err != nil {
			return Window{}, errValue
		}
		*p = at.Hour()*60 + at.Minute()
	}
	if w.from == w.to || w.String() != s {
		return Window{}, errValue
	}
	return w, nil
}

// String returns what ParseWindow parses, "" for the zero window.
func (w Window) String() string {
	if w == (Window{}) {
		return ""
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", w.from/60, w.from%60, w.to/60, w.to%60)
}

// Open reports whether at is in the window, by the clock of its location.
func (w Window) Open(at time.Time) bool {
	minute := at.Hour()*60 + at.Minute()
	switch {
	case w == (Window{}):
		return true
	case w.from < w.to:
		return w.from <= minute && minute < w.to
	}
	return minute >= w.from || minute < w.to
}
