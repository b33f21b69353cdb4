package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/openpowerquality/box-update-server/update"
)

// ID is the ID of a key: 64 lower-case hex digits. The zero ID, "", names no key.
type ID string

// ParseID parses 64 lower-case hex digits.
func ParseID(s string) (ID, error) {
	if _, err := update.ParseDigest(s); err != nil {
		return "", fmt.Errorf("key ID: %w", err)
	}
	return ID(s), nil
}

// UnmarshalText accepts what ParseID accepts.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// Fingerprint returns the first 16 digits in groups of four, as people compare them:
// "74c1-81c7-ad8a-0855"; "" for an ID that is not one.
func (id ID) Fingerprint() string {
	if len(id) != hex.EncodedLen(sha256.Size) {
		return ""
	}
	return string(id[0:4] + "-" + id[4:8] + "-" + id[8:12] + "-" + id[12:16])
}

// ID returns the ID of the key, "" for the zero Public.
func (p Public) ID() ID {
	if p.IsZero() {
		return ""
	}
	canonical := `{"keytype":"ed25519","keyval":{"public":"` + p.Hex() + `"},"scheme":"ed25519"}`
	return ID(update.Sum([]byte(canonical)).String())
}

// Fingerprint returns the fingerprint of the ID, "" for the zero Public.
func (p Public) Fingerprint() string { return p.ID().Fingerprint() }
