package secret

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/openpowerquality/box-update-server/keys"
)

// MaxAgentMessage is the length in bytes of the longest message that an agent signs. OpenSSH reads requests of up to 256
// KiB, of which 64 bytes are not the message.
const MaxAgentMessage = 256<<10 - 64

const (
	agentPrefix       = "ssh-agent:"
	fingerprintPrefix = "SHA256:"
)

// SSHFingerprint returns the fingerprint that ssh-add -l prints: "SHA256:" and 43 characters of Base64; "" for the zero
// Public.
func SSHFingerprint(k keys.Public) string {
	if k.IsZero() {
		return ""
	}
	sshKey, err := ssh.NewPublicKey(k.Ed25519())
	if err != nil {
		return "" // never: the type is known
	}
	return ssh.FingerprintSHA256(sshKey)
}

// AgentName returns the name under which Load finds the key in an agent; "" for the zero Public.
func AgentName(k keys.Public) string {
	if k.IsZero() {
		return ""
	}
	return agentPrefix + SSHFingerprint(k)
}

// parseAgentName returns the fingerprint in ssh-agent:SHA256:<43 characters of Base64>.
func parseAgentName(name string) (string, error) {
	fingerprint, ok := strings.CutPrefix(name, agentPrefix)
	b64, ok2 := strings.CutPrefix(fingerprint, fingerprintPrefix)
	raw, err := base64.RawStdEncoding.Strict().DecodeString(b64)
	if !ok || !ok2 || err != nil || len(raw) != 32 || strings.ContainsAny(b64, "\r\n") {
		return "", fmt.Errorf("key %.80q: expected ssh-agent:SHA256:… with the 43 characters that ssh-add -l prints", name)
	}
	return fingerprint, nil
}

func (l Loader) loadAgent(ctx context.Context, name string) (*Key, error) {
	fingerprint, err := parseAgentName(name)
	if err != nil {
		return nil, err
	}
	a := &agentKey{socket: l.AgentSocket}
	var listed []*agent.Key
	err = a.call(ctx, func(c agent.Agent) (err error) {
		listed, err = c.List()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	a.key, err = find(listed, fingerprint)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	public, err := fromSSH(a.key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	return &Key{public, name, a}, nil
}

func find(listed []*agent.Key, fingerprint string) (ssh.PublicKey, error) {
	for _, k := range listed {
		if ssh.FingerprintSHA256(k) == fingerprint {
			return k, nil
		}
	}
	return nil, fmt.Errorf("ssh-agent does not have it, of the %d keys that it shows; ssh-add FILE adds it, ssh-add -X unlocks the agent", len(listed))
}

func fromSSH(k ssh.PublicKey) (keys.Public, error) {
	switch {
	case strings.HasPrefix(k.Type(), "sk-"):
		return keys.Public{}, fmt.Errorf("a key of type %.60q lives in a security token, which can't sign a plain message; use a key of type %q", k.Type(), ssh.KeyAlgoED25519)
	case k.Type() != ssh.KeyAlgoED25519:
		return keys.Public{}, fmt.Errorf("expected a key of type %q, got %.60q; ssh-keygen -t ed25519 makes one that fits", ssh.KeyAlgoED25519, k.Type())
	}
	parsed, err := ssh.ParsePublicKey(k.Marshal())
	if err != nil {
		return keys.Public{}, fmt.Errorf("the public key that ssh-agent shows: %w", err)
	}
	if c, ok := parsed.(ssh.CryptoPublicKey); ok {
		if point, ok := c.CryptoPublicKey().(ed25519.PublicKey); ok {
			return keys.New(point)
		}
	}
	return keys.Public{}, fmt.Errorf("the public key that ssh-agent shows: expected Ed25519, got %T", parsed)
}

// agentKey is a key in an agent. Each use opens a connection.
type agentKey struct {
	socket string
	key    ssh.PublicKey
}

func (a *agentKey) sign(ctx context.Context, msg []byte) ([]byte, error) {
	if len(msg) > MaxAgentMessage {
		return nil, fmt.Errorf("ssh-agent signs messages of at most %d bytes, this one has %d; use a key file, or keep fewer updates in the list", MaxAgentMessage, len(msg))
	}
	var sig *ssh.Signature
	err := a.call(ctx, func(c agent.Agent) (err error) {
		sig, err = c.Sign(a.key, msg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w; is the key still there (ssh-add -l), and was its use confirmed?", err)
	}
	if sig.Format != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("expected a signature of format %q from ssh-agent, got %.60q", ssh.KeyAlgoED25519, sig.Format)
	}
	return sig.Blob, nil
}

func (a *agentKey) private() (ed25519.PrivateKey, error) {
	return nil, errors.New("ssh-agent never gives out the private key")
}

// call sends a request to the agent. When ctx ends, it returns the error of ctx.
func (a *agentKey) call(ctx context.Context, request func(agent.Agent) error) error {
	if a.socket == "" {
		return errors.New("no ssh-agent is known; start one, and make sure that SSH_AUTH_SOCK is set")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.socket)
	if err != nil {
		return fmt.Errorf("connect to ssh-agent: %w; does it still run, and does SSH_AUTH_SOCK name its socket?", err)
	}
	defer conn.Close() // nothing is buffered
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := request(agent.NewClient(conn)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("ssh-agent at %s: %w", a.socket, err)
	}
	return nil
}
