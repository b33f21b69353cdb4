package pace

import (
	"net/http"
	"strconv"
	"time"
)

// MaxRetryAfter bounds what ParseRetryAfter returns.
const MaxRetryAfter = 365 * 24 * time.Hour

// ParseRetryAfter returns the pause in a Retry-After field (RFC 9110, section 10.2.3), which is in seconds or a date. It is
// 0 for a malformed field and for a date in the past, and at most MaxRetryAfter.
func ParseRetryAfter(s string, now time.Time) time.Duration {
	if s == "" || len(s) > 64 {
		return 0
	}
	if n, ok := parseDigits(s); ok {
		return time.Duration(min(n, int64(MaxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), MaxRetryAfter)
}

// parseDigits parses a number of only decimal digits. A number too large for an int64 becomes the largest one.
func parseDigits(s string) (int64, bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil || s != "" && n > 0
}
