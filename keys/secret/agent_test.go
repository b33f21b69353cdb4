package secret_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
)

// startAgent starts a real ssh-agent and returns the path of its socket.
func startAgent(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (this test needs openssh)", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // it was killed
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("ssh-agent does not answer: %v", err)
		}
	}
}

// sshAdd adds a seeded key to an agent, by ssh-add, and returns its public half.
func sshAdd(t *testing.T, socket string, b byte) keys.Public {
	t.Helper()
	private, public := seeded(t, b)
	block, err := ssh.MarshalPrivateKey(private, "release key")
	if err != nil {
		t.Fatal(err)
	}
	run(t, []string{"SSH_AUTH_SOCK=" + socket}, nil, "ssh-add", "-q", file(t, pem.EncodeToMemory(block)))
	return public
}

// dial connects to an agent for what the package itself does not do.
func dial(t *testing.T, socket string) agent.ExtendedAgent {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return agent.NewClient(conn)
}

func TestKeyInSSHAgent(t *testing.T) {
	socket := startAgent(t)
	sshAdd(t, socket, 2)
	public := sshAdd(t, socket, 1)
	shown := string(run(t, []string{"SSH_AUTH_SOCK=" + socket}, nil, "ssh-add", "-l"))
	if fingerprint := secret.SSHFingerprint(public); !strings.Contains(shown, " "+fingerprint+" ") {
		t.Errorf("SSHFingerprint returns %s, ssh-add -l shows\n%s", fingerprint, shown)
	}
	l := secret.Loader{AgentSocket: socket, Passphrase: notAsked(t)}
	k, err := l.Load(t.Context(), secret.AgentName(public))
	if err != nil {
		t.Fatal(err)
	}
	checkSigns(t, k, public)
	if want := "key " + public.Fingerprint() + " (ssh-agent:SHA256:"; !strings.HasPrefix(k.String(), want) {
		t.Errorf("got %v, want %s…", k, want)
	}
	private, _ := seeded(t, 1)
	msg := bytes.Repeat([]byte("m"), secret.MaxAgentMessage)
	sig, err := k.Sign(t.Context(), msg)
	if err != nil || !bytes.Equal(sig[:], ed25519.Sign(private, msg)) {
		t.Errorf("the longest message: got %x, %v", sig, err)
	}
	_, err = k.Sign(t.Context(), append(msg, 'm'))
	wantError(t, err, "at most 262080 bytes, this one has 262081", "use a key file")

	path := filepath.Join(t.TempDir(), "key.pem")
	wantError(t, k.WriteUnencrypted(disk.FS{}, path), "never gives out the private key")
	wantError(t, k.WriteEncrypted(t.Context(), disk.FS{}, path, notAsked(t)), "never gives out the private key")

	// The bound is that of the agent, not ours.
	sshKey, err := ssh.NewPublicKey(public.Ed25519())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, socket).Sign(sshKey, append(msg, 'm')); err == nil {
		t.Error("the agent signs a longer message than MaxAgentMessage")
	}
}

func TestSSHAgentWithoutTheKey(t *testing.T) {
	socket := startAgent(t)
	public := sshAdd(t, socket, 1)
	_, other := seeded(t, 2)
	l := secret.Loader{AgentSocket: socket}
	_, err := l.Load(t.Context(), secret.AgentName(other))
	wantError(t, err, secret.AgentName(other), "of the 1 keys that it shows", "ssh-add FILE adds it")

	k, err := l.Load(t.Context(), secret.AgentName(public))
	if err != nil {
		t.Fatal(err)
	}
	if err := dial(t, socket).Lock([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_, err = l.Load(t.Context(), secret.AgentName(public))
	wantError(t, err, "of the 0 keys that it shows", "ssh-add -X unlocks")
	_, err = k.Sign(t.Context(), []byte("x"))
	wantError(t, err, "sign with key "+public.Fingerprint(), "is the key still there (ssh-add -l)")

	_, err = secret.Loader{}.Load(t.Context(), secret.AgentName(public))
	wantError(t, err, "make sure that SSH_AUTH_SOCK is set")
	_, err = secret.Loader{AgentSocket: filepath.Join(t.TempDir(), "none")}.Load(t.Context(), secret.AgentName(public))
	wantError(t, err, "connect to ssh-agent", "does it still run")
}

func TestOtherKeysInSSHAgentAreRefusedByName(t *testing.T) {
	socket := startAgent(t)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := dial(t, socket).Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	sshKey, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, err = secret.Loader{AgentSocket: socket}.Load(t.Context(), "ssh-agent:"+ssh.FingerprintSHA256(sshKey))
	wantError(t, err, `expected a key of type "ssh-ed25519", got "ecdsa-sha2-nistp256"`)
}

func TestAgentNameRefused(t *testing.T) {
	_, public := seeded(t, 1)
	good := secret.AgentName(public)
	for _, test := range []struct{ name, in string }{
		{"nothing after the scheme", "ssh-agent:"},
		{"MD5", "ssh-agent:MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48"},
		{"lower case", strings.Replace(good, "SHA256", "sha256", 1)},
		{"short", good[:len(good)-1]},
		{"long", good + "A"},
		{"padded", good + "="},
		{"newline", good + "\n"},
		{"newline within", good[:30] + "\n" + good[30:]},
		{"bits after the end", good[:len(good)-1] + "B"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := secret.Loader{}.Load(t.Context(), test.in)
			wantError(t, err, "expected ssh-agent:SHA256:…")
		})
	}
}

// fakeAgent is an agent of one key. It embeds a real one, of no keys, for what is not tested.
type fakeAgent struct {
	agent.Agent
	key  *agent.Key
	sign func(data []byte) (*ssh.Signature, error)
}

func (f fakeAgent) List() ([]*agent.Key, error) { return []*agent.Key{f.key}, nil }

func (f fakeAgent) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) { return f.sign(data) }

// serve serves one agent to all who connect and returns the path of its socket.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handle(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return socket
}

// fake returns an agent that lists key under format and signs as sign says.
func fake(t *testing.T, format string, blob []byte, sign func([]byte) (*ssh.Signature, error)) string {
	return serve(t, func(conn net.Conn) {
		agent.ServeAgent(fakeAgent{agent.NewKeyring(), &agent.Key{Format: format, Blob: blob}, sign}, conn) // ends with the connection
	})
}

func sshBlob(t *testing.T, k keys.Public) []byte {
	t.Helper()
	sshKey, err := ssh.NewPublicKey(k.Ed25519())
	if err != nil {
		t.Fatal(err)
	}
	return sshKey.Marshal()
}

func TestKeyOfASecurityTokenIsRefused(t *testing.T) {
	_, public := seeded(t, 1)
	blob := ssh.Marshal(struct{ Type, Key, Application string }{ssh.KeyAlgoSKED25519, string(public.Ed25519()), "ssh:"})
	name := "ssh-agent:" + ssh.FingerprintSHA256(&agent.Key{Format: ssh.KeyAlgoSKED25519, Blob: blob})
	_, err := secret.Loader{AgentSocket: fake(t, ssh.KeyAlgoSKED25519, blob, nil)}.Load(t.Context(), name)
	wantError(t, err, name, `"sk-ssh-ed25519@openssh.com" lives in a security token`, "use a key of type")
}

func TestHostileAgent(t *testing.T) {
	private, public := seeded(t, 1)
	other, _ := seeded(t, 2)
	sign := func(format string, change func([]byte) []byte) func([]byte) (*ssh.Signature, error) {
		return func(data []byte) (*ssh.Signature, error) {
			return &ssh.Signature{Format: format, Blob: change(ed25519.Sign(private, data))}, nil
		}
	}
	for _, test := range []struct {
		name string
		sign func([]byte) (*ssh.Signature, error)
		want string
	}{
		{"a bit changed", sign("ssh-ed25519", func(b []byte) []byte { b[9] ^= 1; return b }), "does not fit the public key; do not use this agent"},
		{"cut", sign("ssh-ed25519", func(b []byte) []byte { return b[:63] }), "(63 bytes) does not fit"},
		{"longer", sign("ssh-ed25519", func(b []byte) []byte { return append(b, 0) }), "(65 bytes) does not fit"},
		{"empty", sign("ssh-ed25519", func([]byte) []byte { return nil }), "(0 bytes) does not fit"},
		{"another key", sign("ssh-ed25519", func([]byte) []byte { return ed25519.Sign(other, []byte("x")) }), "does not fit"},
		{"another format", sign("ssh-rsa", bytes.Clone), `expected a signature of format "ssh-ed25519" from ssh-agent, got "ssh-rsa"`},
		{"an error", func([]byte) (*ssh.Signature, error) { return nil, errors.New("no") }, "was its use confirmed?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := secret.Loader{AgentSocket: fake(t, "ssh-ed25519", sshBlob(t, public), test.sign)}
			k, err := l.Load(t.Context(), secret.AgentName(public))
			if err != nil {
				t.Fatal(err)
			}
			sig, err := k.Sign(t.Context(), []byte("x"))
			wantError(t, err, "sign with key "+public.Fingerprint(), test.want)
			if sig != [64]byte{} {
				t.Errorf("got signature %x beside an error", sig)
			}
		})
	}
}

func TestHostileListOfKeys(t *testing.T) {
	point := make([]byte, 32) // of order 4
	blob := ssh.Marshal(struct{ Type, Key string }{ssh.KeyAlgoED25519, string(point)})
	name := "ssh-agent:" + ssh.FingerprintSHA256(&agent.Key{Blob: blob})
	_, err := secret.Loader{AgentSocket: fake(t, ssh.KeyAlgoED25519, blob, nil)}.Load(t.Context(), name)
	wantError(t, err, "small order")

	short := ssh.Marshal(struct{ Type, Key string }{ssh.KeyAlgoED25519, "short"})
	name = "ssh-agent:" + ssh.FingerprintSHA256(&agent.Key{Blob: short})
	_, err = secret.Loader{AgentSocket: fake(t, ssh.KeyAlgoED25519, short, nil)}.Load(t.Context(), name)
	wantError(t, err, name)

	for reply, want := range map[string]string{
		"":                                     "EOF",
		"\x00\x00\x00\x01\x05":                 "ssh-agent at ",
		"\xff\xff\xff\xff\x0c":                 "ssh-agent at ",
		"\x00\x00\x00\x02\x0c\x00":             "ssh-agent at ",
		"\x00\x00\x00\x05\x0c\xff\xff\xff\xff": "ssh-agent at ",
		"\x00\x00\x00\x09\x0c\x00\x00\x00\x01\xff\xff\xff\xff": "ssh-agent at ",
	} {
		socket := serve(t, func(conn net.Conn) {
			io.ReadFull(conn, make([]byte, 5)) // the request; what comes of it is looked at on the other side
			io.WriteString(conn, reply)
		})
		_, err := secret.Loader{AgentSocket: socket}.Load(t.Context(), name)
		wantError(t, err, name, want)
	}
}

func TestWaitingForSSHAgentEndsWithTheContext(t *testing.T) {
	_, public := seeded(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	socket := serve(t, func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 5)) // the request
		cancel()
		io.Copy(io.Discard, conn) // until the other side gives up
	})
	_, err := secret.Loader{AgentSocket: socket}.Load(ctx, secret.AgentName(public))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
}

func TestZeroPublicHasNoNameInAnAgent(t *testing.T) {
	if f, n := secret.SSHFingerprint(keys.Public{}), secret.AgentName(keys.Public{}); f != "" || n != "" {
		t.Errorf("got %q and %q", f, n)
	}
}

// The package comments show the same key.
func TestPackageCommentsShowARealFingerprint(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "testdata", "release.pub"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := keys.ParsePEM(b)
	if err != nil {
		t.Fatal(err)
	}
	for path, fact := range map[string]string{"doc.go": secret.AgentName(public), "../doc.go": secret.SSHFingerprint(public)} {
		doc, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(doc, []byte(fact)) {
			t.Errorf("%s does not show %s (%v)", path, fact, err)
		}
	}
}
