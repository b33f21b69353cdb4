package update

import (
	"errors"
	"fmt"
)

// The checksum line of sha256sum: the digest, a separator, the name, a newline.
const (
	lineSeparator = "  "
	lineNameStart = 64 + len(lineSeparator)
	maxLine       = lineNameStart + maxName + len("\n")
)

// ChecksumLine returns the checksum line of an update, as sha256sum prints it:
//
//	<64 hex digits>  <name>\n
//
// These bytes are what a detached signature signs.
func ChecksumLine(d Digest, n Name) []byte {
	return []byte(d.String() + lineSeparator + n.String() + "\n")
}

// ParseChecksumLine parses exactly one checksum line, its newline included.
func ParseChecksumLine(b []byte) (Digest, Name, error) {
	if len(b) > maxLine {
		return Digest{}, Name{}, fmt.Errorf("checksum line: expected at most %d bytes, got %d", maxLine, len(b))
	}
	s := string(b)
	if len(s) < lineNameStart || s[64:lineNameStart] != lineSeparator {
		return Digest{}, Name{}, fmt.Errorf("checksum line %s: expected 64 hex digits, two spaces, a name and a newline", quote(s))
	}
	if s[len(s)-1] != '\n' {
		return Digest{}, Name{}, errors.New("checksum line: expected a newline at its end")
	}
	d, err := ParseDigest(s[:64])
	if err != nil {
		return Digest{}, Name{}, fmt.Errorf("checksum line: %w", err)
	}
	n, err := ParseName(s[lineNameStart : len(s)-1])
	if err != nil {
		return Digest{}, Name{}, fmt.Errorf("checksum line: %w", err)
	}
	return d, n, nil
}
