package secret

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/status"
)

// ErrPassphrase says that the passphrase of an encrypted key file is wrong, or that its ciphertext is damaged: the two can't
// be distinguished.
var ErrPassphrase error = status.Passphrase

// Loader loads keys. Its zero value loads only unencrypted files.
type Loader struct {
	// Passphrase opens encrypted files. If it is zero, such files are refused.
	Passphrase Passphrase

	// AgentSocket is the path of the socket of ssh-agent, by custom the value of SSH_AUTH_SOCK. Empty:
	// there is no agent.
	AgentSocket string
}

// Load returns the key with a name: the path of a key file, or "ssh-agent:SHA256:" and the rest of a fingerprint. It refuses
// a file that anyone but its owner can read or write.
func (l Loader) Load(ctx context.Context, name string) (*Key, error) {
	if strings.HasPrefix(name, agentPrefix) {
		return l.loadAgent(ctx, name)
	}
	b, err := readPrivate(name, keys.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	defer clear(b)
	private, err := l.parse(ctx, name, b)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", name, err)
	}
	return inMemory(private, name)
}

// readPrivate returns the bytes of a file of at most size bytes that only its owner can read.
func readPrivate(path string, size int64) ([]byte, error) {
	// Opening a named pipe must not wait for a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|disk.NonBlock, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() // opened for reading
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: expected a regular file, got one of mode %v", path, info.Mode())
	}
	if others := info.Mode().Perm() & 0o077; others != 0 && disk.UnixModes {
		return nil, fmt.Errorf("%s: mode %04o gives access to others than its owner, expected 0600; run chmod 600 %[1]s, and replace the secret if others had access", path, info.Mode().Perm())
	}
	b, err := disk.ReadAll(file, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// parse returns the private key in the bytes of a key file. The prompt for the passphrase shows name.
func (l Loader) parse(ctx context.Context, name string, b []byte) (ed25519.PrivateKey, error) {
	kind, der, err := keys.DecodePEM(b, kindHint, encryptedType, plainType)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	if kind == plainType {
		return parsePlain(der)
	}
	if err := checkEnvelope(der); err != nil {
		return nil, err
	}
	return l.decrypt(ctx, name, b)
}

func (l Loader) decrypt(ctx context.Context, name string, b []byte) (ed25519.PrivateKey, error) {
	if l.Passphrase.From == nil {
		return nil, errors.New("the key is encrypted, and there is no passphrase")
	}
	var private ed25519.PrivateKey
	err := l.Passphrase.Open(ctx, name, func(passphrase []byte) (err error) {
		defer pace.Waiting(ctx, "opening "+name)()
		private, err = decrypt(b, passphrase)
		return err
	})
	return private, err
}

// CheckFile checks the bytes of a key file as far as possible without a passphrase, and returns the public key, zero if the
// file is encrypted.
func CheckFile(b []byte) (keys.Public, error) {
	kind, der, err := keys.DecodePEM(b, kindHint, encryptedType, plainType)
	if err != nil {
		return keys.Public{}, err
	}
	defer clear(der)
	if kind == encryptedType {
		return keys.Public{}, checkEnvelope(der)
	}
	private, err := parsePlain(der)
	if err != nil {
		return keys.Public{}, err
	}
	defer clear(private)
	return keys.New(ed25519.PublicKey(private[ed25519.SeedSize:]))
}

func kindHint(kind string) string {
	switch kind {
	case "PUBLIC KEY":
		return "; this is the public half"
	case "ENCRYPTED PRIVATE KEY":
		return "; this is a key encrypted by openssl: openssl pkey -in OLD -out NEW decrypts it, with umask 077"
	case "OPENSSH PRIVATE KEY":
		return "; this is a key of ssh: add it to an agent with ssh-add and name it ssh-agent:SHA256:…, as ssh-add -l prints it"
	case "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		return "; this is a key of another algorithm than Ed25519: make a new one"
	}
	return ""
}
