package pace

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestParseRetryAfter(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"120":                              2 * time.Minute,
		"0":                                0,
		"007":                              7 * time.Second,
		"99999999999999999999999999999999": MaxRetryAfter,
		fmt.Sprint(int64(math.MaxInt64)):   MaxRetryAfter,
		day.Add(time.Minute).Format(http.TimeFormat):                       time.Minute,
		day.Add(-time.Minute).Format(http.TimeFormat):                      0,
		"Fri, 31 Dec 9999 23:59:59 GMT":                                    MaxRetryAfter,
		day.Add(time.Minute).Format("Monday, 02-Jan-06 15:04:05 ") + "GMT": time.Minute, // RFC 850, obsolete and to be understood
		"":                       0,
		"-1":                     0,
		"+1":                     0,
		"1.5":                    0,
		" 1":                     0,
		"1s":                     0,
		"soon":                   0,
		strings.Repeat("1", 100): 0,
	} {
		if got := ParseRetryAfter(in, day); got != want {
			t.Errorf("%q: expected %v, got %v", in, want, got)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"120", "Sun, 01 Mar 2026 12:01:00 GMT", "Sunday, 01-Mar-26 12:01:00 GMT", "Sun Mar  1 12:01:00 2026", "-1", "", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := ParseRetryAfter(s, day)
		if got < 0 || got > MaxRetryAfter {
			t.Errorf("%q: %v", s, got)
		}
		if got > 0 && got < MaxRetryAfter && got%time.Second == 0 && ParseRetryAfter(fmt.Sprint(int(got/time.Second)), day) != got {
			t.Errorf("%q: %v is another pause in seconds", s, got)
		}
	})
}
