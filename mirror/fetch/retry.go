package fetch

import (
	"net/http"
	"strconv"
	"time"
)

// backoff returns the pause after so many failures in a row: between half of the step and the step.
func (c *Config) backoff(fails int) time.Duration {
	step := c.Backoff
	for i := 1; i < fails && step < c.MaxBackoff; i++ {
		step *= 2
	}
	step = min(step, c.MaxBackoff)
	return step/2 + time.Duration(c.Jitter()*float64(step/2))
}

// maxDelay bounds what parseRetryAfter returns.
const maxDelay = 365 * 24 * time.Hour

// parseRetryAfter returns the pause that a Retry-After field asks for (RFC 9110, section 10.2.3): seconds,
// or a date. It is 0 for what can't be read and for a date in the past, and at most maxDelay.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if s == "" || len(s) > 64 {
		return 0
	}
	if n, ok := parseDigits(s); ok {
		return time.Duration(min(n, int64(maxDelay/time.Second))) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxDelay)
}

// parseDigits parses a number that is written in decimal digits and nothing else. What is too large for an
// int64 becomes the largest.
func parseDigits(s string) (int64, bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil || s != "" && n > 0
}
