package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/update"
)

// MaxMessage bounds in bytes what a Signer is asked to sign. Repository metadata of 2,000 updates
// stays below it.
const MaxMessage = 16 << 20

// Signer holds a private key, in memory or elsewhere.
type Signer interface {
	// Public returns the key that verifies what Sign returns.
	Public() keys.Public

	// Sign returns the Ed25519 signature of msg. It may ask a person or another program and ends when
	// ctx does.
	Sign(ctx context.Context, msg []byte) ([ed25519.SignatureSize]byte, error)
}

// Sign returns the detached signature of the update with that digest and name.
func Sign(ctx context.Context, s Signer, d update.Digest, n update.Name) (Signature, error) {
	if d.IsZero() || n.IsZero() {
		return Signature{}, errors.New("sign: a digest and a name are needed")
	}
	raw, err := Sigstore(ctx, s).SignMessage(bytes.NewReader(update.ChecksumLine(d, n)))
	if err != nil {
		return Signature{}, fmt.Errorf("sign %v: %w", n, err)
	}
	sig, err := ParseSignature(raw)
	if err != nil {
		return Signature{}, fmt.Errorf("sign %v: %w", n, err)
	}
	// A faulty signer must not reach the boxes: they would refuse the update one by one.
	if _, err := Open(d, n, sig, s.Public()); err != nil {
		return Signature{}, fmt.Errorf("sign %v: the signer returned what its key does not verify: %w", n, err)
	}
	return sig, nil
}

// Sigstore returns s as the signer that sigstore, and what builds on it, takes. Its calls end when ctx
// does; options are ignored. Messages over MaxMessage are refused.
func Sigstore(ctx context.Context, s Signer) signature.Signer { return sigstoreSigner{ctx, s} }

type sigstoreSigner struct {
	ctx    context.Context // the interface of sigstore has no place for it
	signer Signer
}

// PublicKey returns an ed25519.PublicKey.
func (a sigstoreSigner) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	k := a.signer.Public()
	if k.IsZero() {
		return nil, errors.New("the signer has no public key")
	}
	return k.Ed25519(), nil
}

// SignMessage reads message to its end and returns 64 bytes.
func (a sigstoreSigner) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	msg, err := io.ReadAll(io.LimitReader(message, MaxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	if len(msg) > MaxMessage {
		return nil, fmt.Errorf("expected a message of at most %d bytes, got more", MaxMessage)
	}
	sig, err := a.signer.Sign(a.ctx, msg)
	if err != nil {
		return nil, err
	}
	return sig[:], nil
}
