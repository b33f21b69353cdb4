package fetch

import (
	"fmt"
	"strconv"
	"strings"
)

// byteRange is bytes first to last, both included, of total.
type byteRange struct{ first, last, total int64 }

// String returns the value of a Content-Range field.
func (r byteRange) String() string { return fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, r.total) }

// parseContentRange parses the value of a Content-Range field (RFC 9110, section 14.4) whose range and
// total are known; the numbers are spelled without leading zeros.
func parseContentRange(s string) (byteRange, error) {
	fail := fmt.Errorf("expected a Content-Range such as %q, got %.80q", "bytes 0-99/1000", s)
	span, ok := strings.CutPrefix(s, "bytes ")
	if !ok || len(s) > 80 {
		return byteRange{}, fail
	}
	span, total, ok1 := strings.Cut(span, "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok1 || !ok2 {
		return byteRange{}, fail
	}
	var r byteRange
	for i, part := range []string{first, last, total} {
		n, err := strconv.ParseUint(part, 10, 63)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return byteRange{}, fail
		}
		*[]*int64{&r.first, &r.last, &r.total}[i] = int64(n)
	}
	if r.first > r.last || r.last >= r.total {
		return byteRange{}, fail
	}
	return r, nil
}
