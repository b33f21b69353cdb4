package signing

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/update"
)

// Signer holds a private key, in memory or elsewhere.
type Signer interface {
	// Public returns the key that verifies what Sign returns.
	Public() keys.Public

	// Sign returns the Ed25519 signature of msg. It may ask a person or another program; the wait ends with ctx.
	Sign(ctx context.Context, msg []byte) ([ed25519.SignatureSize]byte, error)
}

// Sign returns the detached signature of the update with this digest and name.
func Sign(ctx context.Context, s Signer, d update.Digest, n update.Name) (Signature, error) {
	if d.IsZero() || n.IsZero() {
		return Signature{}, errors.New("sign: a digest and a name are needed")
	}
	raw, err := s.Sign(ctx, update.ChecksumLine(d, n))
	if err != nil {
		return Signature{}, fmt.Errorf("sign %v: %w", n, err)
	}
	sig, err := ParseSignature(raw[:])
	if err != nil {
		return Signature{}, fmt.Errorf("sign %v: %w", n, err)
	}
	// A wrong signature must not reach the boxes, each of which would refuse the update.
	if _, err := Open(d, n, sig, s.Public()); err != nil {
		return Signature{}, fmt.Errorf("sign %v: the signer returned what its key does not verify: %w", n, err)
	}
	return sig, nil
}
