package secret

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
)

const (
	plainType     = string(cryptoutils.PrivateKeyPEMType)
	encryptedType = string(cryptoutils.EncryptedSigstorePrivateKeyPEMType)
)

// mode is that of every key file.
const mode fs.FileMode = 0o600

// WriteEncrypted writes the key to a new file at path, encrypted under a passphrase that it asks for. Before it asks, it
// refuses a path that exists, with fs.ErrExist, and a key that an agent keeps. After an error there is no file, or the whole
// one.
func (k Key) WriteEncrypted(ctx context.Context, disk disk.FS, path string, p Passphrase) error {
	return k.write(disk, path, func(private ed25519.PrivateKey) ([]byte, error) {
		passphrase, err := p.Choose(ctx, path)
		if err != nil {
			return nil, err
		}
		defer clear(passphrase)
		der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(private, cryptoutils.StaticPasswordFunc(passphrase))
		if err != nil {
			return nil, err
		}
		return cryptoutils.PEMEncode(cryptoutils.EncryptedSigstorePrivateKeyPEMType, der), nil
	})
}

// WriteUnencrypted writes the key to a new file at path as PKCS #8, for a server, which can't ask for a passphrase. Everyone
// who can read the file has the key. It refuses the same as WriteEncrypted.
func (k Key) WriteUnencrypted(disk disk.FS, path string) error {
	return k.write(disk, path, func(private ed25519.PrivateKey) ([]byte, error) {
		return cryptoutils.MarshalPrivateKeyToPEM(private)
	})
}

func (k Key) write(disk disk.FS, path string, encode func(ed25519.PrivateKey) ([]byte, error)) error {
	if k.holder == nil {
		return fmt.Errorf("write private key %s: the key is the zero Key", path)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("write private key %s: %w; a key is never overwritten: move the old one away, or choose another name", path, fs.ErrExist)
	}
	private, err := k.holder.private()
	if err != nil {
		return fmt.Errorf("write private key: %w", explain.At(path, err))
	}
	b, err := encode(private)
	if err != nil {
		return fmt.Errorf("write private key: %w", explain.At(path, err))
	}
	defer clear(b)
	return disk.CreateFile(path, b, mode)
}

// parsePlain parses PKCS #8 as openssl writes it.
func parsePlain(der []byte) (ed25519.PrivateKey, error) {
	var info struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, errors.New("expected a PKCS #8 structure in the PEM block; the file is damaged")
	}
	defer clear(info.Key)
	if err := keys.CheckAlgorithm(info.Algorithm.Algorithm); err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("expected an Ed25519 key, got %T", key)
	}
	again, err := x509.MarshalPKCS8PrivateKey(private)
	defer clear(again)
	if err != nil || !bytes.Equal(again, der) {
		return nil, errors.New("the PKCS #8 structure holds more than the key, or is damaged; openssl pkey -in KEY writes a key as expected")
	}
	return private, nil
}

// envelope has the inputs of scrypt and secretbox, in the order in which sigstore writes them.
type envelope struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N int `json:"N"`
			R int `json:"r"`
			P int `json:"p"`
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// checkEnvelope refuses everything that this package and sigstore don't write, before the passphrase is asked for and memory
// is spent on it. A failure after that means that the passphrase is wrong.
func checkEnvelope(b []byte) error {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return errors.New("expected JSON in the encrypted PEM block; the file is damaged")
	}
	again, err := json.Marshal(e)
	if err != nil || !bytes.Equal(again, b) {
		return errors.New("expected kdf, cipher and ciphertext in the encrypted PEM block, as sigstore writes them; the file is damaged")
	}
	if p := e.KDF.Params; e.KDF.Name != "scrypt" || !slices.Contains([]int{1 << 15, 1 << 16, 1 << 17}, p.N) || p.R != 8 || p.P != 1 {
		return fmt.Errorf("expected scrypt with N 32768, 65536 or 131072, r 8 and p 1, got %.20q with N %d, r %d and p %d; the file is damaged or hostile", e.KDF.Name, p.N, p.R, p.P)
	}
	if e.Cipher.Name != "nacl/secretbox" || len(e.KDF.Salt) != 32 || len(e.Cipher.Nonce) != 24 {
		return fmt.Errorf("expected nacl/secretbox, a nonce of 24 bytes and a salt of 32, got %.20q, %d and %d; the file is damaged", e.Cipher.Name, len(e.Cipher.Nonce), len(e.KDF.Salt))
	}
	if len(e.Ciphertext) != 64 {
		return fmt.Errorf("expected an encrypted Ed25519 key of 64 bytes, got %d; it is damaged or a key of another algorithm", len(e.Ciphertext))
	}
	return nil
}

// decrypt decrypts a key file that checkEnvelope accepted.
func decrypt(file, passphrase []byte) (ed25519.PrivateKey, error) {
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(file, cryptoutils.StaticPasswordFunc(passphrase))
	if err != nil {
		return nil, fmt.Errorf("%w, or the file is damaged", ErrPassphrase)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("expected an Ed25519 key, got %T", key)
	}
	return private, nil
}
