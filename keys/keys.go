package keys

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"filippo.io/edwards25519"
)

const pemType = "PUBLIC KEY"

// Public is a public key. Public keys are compared with ==. The zero Public is no key: it verifies
// nothing and has no ID.
type Public struct{ point [ed25519.PublicKeySize]byte }

// New returns the public key with these 32 bytes. It refuses bytes that are no point of the curve in its one
// spelling (RFC 8032, section 5.1.3), and points of small order, under which one signature fits many
// messages.
func New(k ed25519.PublicKey) (Public, error) {
	if len(k) != ed25519.PublicKeySize {
		return Public{}, fmt.Errorf("Ed25519 public key: expected %d bytes, got %d", ed25519.PublicKeySize, len(k))
	}
	p, err := new(edwards25519.Point).SetBytes(k)
	if err != nil || [ed25519.PublicKeySize]byte(p.Bytes()) != [ed25519.PublicKeySize]byte(k) {
		return Public{}, fmt.Errorf("Ed25519 public key %x: not a point of the curve in its one spelling; the key is damaged", []byte(k))
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return Public{}, fmt.Errorf("Ed25519 public key %x: a point of small order, for which anybody can make signatures; do not trust where it comes from", []byte(k))
	}
	return Public{[ed25519.PublicKeySize]byte(k)}, nil
}

// ParsePEM parses a public key file: exactly one PEM block "PUBLIC KEY" with an Ed25519 key, byte for
// byte as PEM returns it. The error for a key of another algorithm names that.
func ParsePEM(b []byte) (Public, error) {
	_, der, err := DecodePEM(b, kindHint, pemType)
	if err != nil {
		return Public{}, fmt.Errorf("public key: %w", err)
	}
	if err := checkAlgorithm(der); err != nil {
		return Public{}, fmt.Errorf("public key: %w", err)
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Public{}, fmt.Errorf("public key: %w", err)
	}
	point, ok := k.(ed25519.PublicKey)
	if !ok {
		return Public{}, fmt.Errorf("public key: expected Ed25519, got %T", k)
	}
	p, err := New(point)
	if err != nil {
		return Public{}, err
	}
	if string(p.PEM()) != string(b) {
		return Public{}, errors.New("public key: not in DER, the one spelling of a SubjectPublicKeyInfo; openssl pkey -pubin -in KEY writes it as expected")
	}
	return p, nil
}

func kindHint(kind string) string {
	switch kind {
	case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY":
		return "; this is the secret half; give the public one, and pass this file to nobody"
	case "CERTIFICATE":
		return "; certificates are not used; give the public key alone"
	}
	return ""
}

func checkAlgorithm(spki []byte) error {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return errors.New("expected one SubjectPublicKeyInfo in the PEM block; the file is damaged")
	}
	return CheckAlgorithm(info.Algorithm.Algorithm)
}

// PEM returns the key as a public key file, nil for the zero Public.
func (p Public) PEM() []byte {
	if p.IsZero() {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(p.Ed25519())
	if err != nil {
		return nil // never: the type is known and the length fixed
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
}

// Ed25519 returns a copy of the 32 bytes of the key, nil for the zero Public.
func (p Public) Ed25519() ed25519.PublicKey {
	if p.IsZero() {
		return nil
	}
	return p.point[:]
}

// Hex returns the key as metadata of The Update Framework spells it: 64 lower-case hex digits, "" for
// the zero Public.
func (p Public) Hex() string { return hex.EncodeToString(p.Ed25519()) }

// IsZero reports whether p is the zero Public, which is no key.
func (p Public) IsZero() bool { return p == Public{} }

// Verify reports whether sig is the Ed25519 signature of msg by this key. It is false for the zero Public, and for a sig
// that is not 64 bytes long.
func (p Public) Verify(msg, sig []byte) bool {
	return !p.IsZero() && ed25519.Verify(p.Ed25519(), msg, sig)
}

// String returns the fingerprint.
func (p Public) String() string { return p.Fingerprint() }
