// Package testworld is the one world of tests: signers whose keys are always the same, repositories that they
// sign, the programs as users have them, directories that cost no time, disks that fail, processes that are killed or
// have no permission, and the data of an earlier version. What stands above it in the house, a store, a server or a
// box, each package adds by itself. Tests alone import it.
package testworld

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
)

// Signer is a key from a fixed seed.
type Signer struct {
	private ed25519.PrivateKey
	public  keys.Public
}

// NewSigner returns the signer of a name, the same one each time.
func NewSigner(name string) *Signer {
	seed := sha256.Sum256([]byte(name))
	private := ed25519.NewKeyFromSeed(seed[:])
	public, err := keys.New(private.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return &Signer{private, public}
}

// Public returns the public key.
func (s *Signer) Public() keys.Public { return s.public }

// Private returns the private key, with which its thief signs anything.
func (s *Signer) Private() ed25519.PrivateKey { return s.private }

// Sign signs a message.
func (s *Signer) Sign(ctx context.Context, msg []byte) ([ed25519.SignatureSize]byte, error) {
	return [ed25519.SignatureSize]byte(ed25519.Sign(s.private, msg)), ctx.Err()
}

// Signers returns them as those who sign.
func Signers(ss ...*Signer) (out []signing.Signer) {
	for _, s := range ss {
		out = append(out, s)
	}
	return out
}

// Publics returns their public keys.
func Publics(ss ...*Signer) (out []keys.Public) {
	for _, s := range ss {
		out = append(out, s.public)
	}
	return out
}
