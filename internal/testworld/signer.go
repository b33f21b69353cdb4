// Package testworld is the world that the tests of all packages share: signers with fixed keys, repositories that they
// sign, the programs as users have them, fast directories, disks that fail, processes that are killed or lack
// permissions, and the data of an earlier version. A package that needs a store, a server or a box in its tests adds
// that itself, because those packages stand above this one. Only tests import it.
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

// NewSigner returns the signer of a name. The same name always has the same key.
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

// Private returns the private key, for tests in which a thief signs with it.
func (s *Signer) Private() ed25519.PrivateKey { return s.private }

// Sign signs a message.
func (s *Signer) Sign(ctx context.Context, msg []byte) ([ed25519.SignatureSize]byte, error) {
	return [ed25519.SignatureSize]byte(ed25519.Sign(s.private, msg)), ctx.Err()
}

// Signers returns ss as signing.Signers.
func Signers(ss ...*Signer) (out []signing.Signer) {
	for _, s := range ss {
		out = append(out, s)
	}
	return out
}

// Publics returns the public keys of ss.
func Publics(ss ...*Signer) (out []keys.Public) {
	for _, s := range ss {
		out = append(out, s.public)
	}
	return out
}
