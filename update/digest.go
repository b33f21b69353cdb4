package update

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"unicode/utf8"
)

// Digest is a SHA-256 digest. The zero Digest means "not known".
type Digest [sha256.Size]byte

// Sum returns the digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest parses the one accepted spelling of a SHA-256 digest: 64 lower-case hex digits.
// Upper case is refused, so that each archive has exactly one URL and one file name.
func ParseDigest(s string) (Digest, error) { return parseDigest(s) }

func parseDigest[T string | []byte](s T) (d Digest, err error) {
	if len(s) != hex.EncodedLen(len(d)) {
		return Digest{}, fmt.Errorf("digest %s: expected 64 hex digits, got %d bytes", quote(string(s)), len(s))
	}
	for i := range len(s) {
		v, ok := nibble(s[i])
		if !ok {
			return Digest{}, fmt.Errorf("digest %s: expected lower-case hex digits, got %s at byte %d", quote(string(s)), character(string(s), i), i)
		}
		d[i/2] = d[i/2]<<4 | v
	}
	return d, nil
}

// nibble returns the value of a lower-case hex digit.
func nibble(c byte) (v byte, ok bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// String returns 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d is the zero Digest, which means "not known".
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText returns the spelling of String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts what ParseDigest accepts.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := parseDigest(b)
	if err != nil {
		return err
	}
	*d = v
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// character quotes the character at a byte of outside text, or the byte itself where that is none.
func character(s string, i int) string {
	r, n := utf8.DecodeRuneInString(s[i:])
	if r == utf8.RuneError && n == 1 {
		return fmt.Sprintf("%q", s[i:i+1])
	}
	return fmt.Sprintf("%q", r)
}

// quote quotes outside text for an error message and bounds its length.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		end := most
		for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		return fmt.Sprintf("%q…", s[:end])
	}
	return fmt.Sprintf("%q", s)
}
