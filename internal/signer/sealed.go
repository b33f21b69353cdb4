package signer

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys/secret"
)

// sealCost is the binary logarithm of scrypt's N: the default cost of a backup, for which Signer.SealCost may be less,
// and the highest cost that is accepted. A file that asks for more is refused.
const sealCost = 18

// sealedPrefix begins every file that age makes.
const sealedPrefix = "age-encryption.org/v1\n"

// maxSealed bounds a backup in bytes.
const maxSealed = maxBundle + maxBundle/1000 + 1000

// errDamaged says that a backup differs from what was written.
var errDamaged = errors.New("the backup is damaged")

// seal encrypts plain under a passphrase, with cost as the binary logarithm of scrypt's N.
func seal(plain, passphrase []byte, cost int) ([]byte, error) {
	to, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	to.SetWorkFactor(cost)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unseal decrypts what seal made. The error is secret.ErrPassphrase or errDamaged. Damage in the header, by which
// age checks the passphrase, is secret.ErrPassphrase too, since nothing tells the two apart.
func unseal(sealed, passphrase []byte) ([]byte, error) {
	by, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	by.SetMaxWorkFactor(sealCost)
	r, err := age.Decrypt(bytes.NewReader(sealed), by)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fmt.Errorf("%w, or the backup is damaged", secret.ErrPassphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, explain.Cut("it", err))
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, explain.Cut("it", err))
	}
	if len(plain) > maxBundle {
		return nil, fmt.Errorf("%w: more than %d bytes", errDamaged, maxBundle)
	}
	return plain, nil
}
