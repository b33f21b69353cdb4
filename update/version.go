package update

import (
	"cmp"
	"fmt"
	"strconv"
	"time"
)

// maxVersionDigits bounds a version: 32 digits hold a time in nanoseconds with room to spare.
const maxVersionDigits = 32

// Version is the version of an update: a whole number in decimal digits without sign or leading
// zero, by custom the Unix time in seconds at which the update was built. Versions are compared as
// numbers of any size. The zero Version means "none" and is less than every other.
type Version struct{ digits string }

// ParseVersion parses 1 to 32 decimal digits without a leading zero; "0" itself is accepted.
func ParseVersion(s string) (Version, error) {
	if s == "" || len(s) > maxVersionDigits {
		return Version{}, fmt.Errorf("version %s: expected 1 to %d digits, got %d bytes", quote(s), maxVersionDigits, len(s))
	}
	for i := range len(s) {
		if !isDigit(s[i]) {
			return Version{}, fmt.Errorf("version %s: expected decimal digits, got %s at byte %d", quote(s), character(s, i), i)
		}
	}
	if len(s) > 1 && s[0] == '0' {
		return Version{}, fmt.Errorf("version %s: expected no leading zero", quote(s))
	}
	return Version{s}, nil
}

// VersionAt returns t in whole Unix seconds; a time before 1970 gives version 0.
func VersionAt(t time.Time) Version {
	return Version{strconv.FormatInt(max(t.Unix(), 0), 10)}
}

// String returns the decimal digits, "" for the zero Version.
func (v Version) String() string { return v.digits }

// IsZero reports whether v is the zero Version, which means "none".
func (v Version) IsZero() bool { return v.digits == "" }

// Compare returns -1, 0 or 1 as v is less than, equal to or greater than w, as numbers.
func (v Version) Compare(w Version) int {
	if c := cmp.Compare(len(v.digits), len(w.digits)); c != 0 {
		return c
	}
	return cmp.Compare(v.digits, w.digits)
}

// MarshalJSON returns a JSON number, null for the zero Version.
func (v Version) MarshalJSON() ([]byte, error) {
	if v.IsZero() {
		return []byte("null"), nil
	}
	return []byte(v.digits), nil
}

// UnmarshalJSON accepts a JSON number that ParseVersion accepts, and null.
func (v *Version) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*v = Version{}
		return nil
	}
	w, err := ParseVersion(string(b))
	if err != nil {
		return err
	}
	*v = w
	return nil
}
