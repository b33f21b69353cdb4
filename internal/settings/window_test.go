package settings

import (
	"testing"
	"time"
)

func TestWindowIsOpen(t *testing.T) {
	for _, c := range []struct {
		window, at string
		open       bool
	}{
		{"02:00-04:00", "01:59", false}, {"02:00-04:00", "02:00", true}, {"02:00-04:00", "03:59", true}, {"02:00-04:00", "04:00", false},
		{"22:00-04:30", "21:59", false}, {"22:00-04:30", "22:00", true}, {"22:00-04:30", "23:59", true}, {"22:00-04:30", "00:00", true},
		{"22:00-04:30", "04:29", true}, {"22:00-04:30", "04:30", false}, {"22:00-04:30", "12:00", false}, {"00:00-23:59", "23:59", false},
	} {
		w, err := ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.ParseInLocation("15:04", c.at, time.FixedZone("", 3*3600))
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Open(at); got != c.open {
			t.Errorf("%s at %s: got %v", c.window, c.at, got)
		}
	}
	if !(Window{}).Open(time.Now()) {
		t.Error("the zero window is closed")
	}
}

// FuzzWindow: what is parsed is printed as it was.
func FuzzWindow(f *testing.F) {
	for _, s := range []string{"02:00-04:00", "22:00-04:30", "00:00-00:00", "2:00-04:00", "24:00-01:00", "02:00–4:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if w, err := ParseWindow(s); err == nil && w.String() != s {
			t.Fatalf("%q became %q", s, w)
		}
	})
}
