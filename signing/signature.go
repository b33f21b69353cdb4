package signing

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
)

// Signature is a detached signature: Ed25519 over a checksum line. The zero Signature fits nothing.
type Signature [ed25519.SignatureSize]byte

// ParseSignature parses a signature file: 64 raw bytes.
func ParseSignature(b []byte) (Signature, error) {
	if len(b) != ed25519.SignatureSize {
		return Signature{}, fmt.Errorf("signature: expected %d raw bytes, got %d%s", ed25519.SignatureSize, len(b), lengthHint(len(b)))
	}
	s := Signature(b)
	if s.IsZero() {
		return Signature{}, fmt.Errorf("signature: all %d bytes are zero; the file is damaged", len(b))
	}
	return s, nil
}

func lengthHint(n int) string {
	switch n {
	case 0:
		return "; the file is empty"
	case 88, 89:
		return "; this looks like Base64, decode it first"
	case 128, 129:
		return "; this looks like hex, decode it first"
	}
	return ""
}

// IsZero reports whether s is the zero Signature, which fits nothing.
func (s Signature) IsZero() bool { return s == Signature{} }

// String returns 128 lower-case hex digits.
func (s Signature) String() string { return hex.EncodeToString(s[:]) }

// MarshalText returns the spelling of String.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts exactly 128 lower-case hex digits.
func (s *Signature) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(s)) {
		return fmt.Errorf("signature: expected %d hex digits, got %d bytes", hex.EncodedLen(len(s)), len(b))
	}
	if bytes.ContainsAny(b, "ABCDEF") {
		return fmt.Errorf("signature: expected lower-case hex digits, got %q", b)
	}
	var raw [ed25519.SignatureSize]byte
	if _, err := hex.Decode(raw[:], b); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	v, err := ParseSignature(raw[:])
	if err != nil {
		return err
	}
	*s = v
	return nil
}
