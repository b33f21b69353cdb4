package secret

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/openpowerquality/box-update-server/keys"
)

// Key is a private key that is ready to sign. It is immutable and safe for concurrent use. When printed it shows its
// fingerprint and its place, and no verb of fmt shows a secret. The zero Key signs nothing.
type Key struct {
	public keys.Public
	place  string // of the secret, for messages
	holder holder
}

// holder has the secret, or access to an agent that has it.
type holder interface {
	// sign returns the Ed25519 signature of msg, not yet verified.
	sign(ctx context.Context, msg []byte) ([]byte, error)

	// private returns the secret, to write it to a file.
	private() (ed25519.PrivateKey, error)
}

// Generate returns a new key, which is only in memory.
func Generate() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	return inMemory(private, "memory")
}

func inMemory(private ed25519.PrivateKey, place string) (*Key, error) {
	public, err := keys.New(ed25519.PublicKey(private[ed25519.SeedSize:]))
	if err != nil {
		return nil, err
	}
	return &Key{public, place, memoryKey{func() ed25519.PrivateKey { return private }}}, nil
}

// Public returns the key that verifies what Sign returns, zero for the zero Key.
func (k Key) Public() keys.Public { return k.public }

// Sign returns the Ed25519 signature of msg, and has verified it with the public key. An ssh-agent may ask a person first;
// the wait ends with ctx.
func (k Key) Sign(ctx context.Context, msg []byte) ([ed25519.SignatureSize]byte, error) {
	var none [ed25519.SignatureSize]byte
	if k.holder == nil {
		return none, errors.New("sign: the key is the zero Key")
	}
	sig, err := k.holder.sign(ctx, msg)
	if err != nil {
		return none, fmt.Errorf("sign with %v: %w", k, err)
	}
	if !k.public.Verify(msg, sig) {
		return none, fmt.Errorf("sign with %v: the signature that came back (%d bytes) does not fit the public key; do not use this agent", k, len(sig))
	}
	return [ed25519.SignatureSize]byte(sig), nil
}

// String returns the fingerprint and the place of the key: "key 74c1-81c7-ad8a-0855 (K/release.pem)".
func (k Key) String() string { return "key " + k.public.Fingerprint() + " (" + k.place + ")" }

// memoryKey is a key whose secret is in this process. A function hides the secret from fmt, which prints unexported fields,
// and follows pointers if a verb does not fit.
type memoryKey struct{ key func() ed25519.PrivateKey }

func (m memoryKey) sign(ctx context.Context, msg []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return ed25519.Sign(m.key(), msg), nil
}

func (m memoryKey) private() (ed25519.PrivateKey, error) { return m.key(), nil }
