package secret_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ signing.Signer = (*secret.Key)(nil)

const passphrase = "correct horse"

// seeded returns the key pair whose seed is 32 times b.
func seeded(t testing.TB, b byte) (ed25519.PrivateKey, keys.Public) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	public, err := keys.New(private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// plainPEM returns the unencrypted key file of a seeded key.
func plainPEM(t testing.TB, b byte) []byte {
	t.Helper()
	private, _ := seeded(t, b)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// encryptedPEM returns the encrypted key file of a seeded key, with the cheapest scrypt.
func encryptedPEM(t testing.TB, b byte) []byte {
	t.Helper()
	block, _ := pem.Decode(plainPEM(t, b))
	envelope, err := encrypted.EncryptWithCustomKDFParameters(block.Bytes, []byte(passphrase), encrypted.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: envelope})
}

// file writes a key file of mode 0600.
func file(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want one with %q", err, part)
		}
	}
}

// run runs a real program and returns its output.
func run(t testing.TB, env []string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s(this test needs openssl 3.0 or newer, and openssh)", name, strings.Join(args, " "), err, &stderr)
	}
	return out
}

// notAsked is a Passphrase for what must be refused, or work, without one.
func notAsked(t *testing.T) secret.Passphrase {
	return secret.Passphrase{From: func(_ context.Context, r secret.Request) ([]byte, error) {
		t.Errorf("a passphrase was asked for (%s)", r.Purpose)
		return nil, errors.New("not asked")
	}}
}

func checkSigns(t *testing.T, k *secret.Key, want keys.Public) {
	t.Helper()
	msg := []byte("message")
	sig, err := k.Sign(t.Context(), msg)
	if err != nil || k.Public() != want || !want.Verify(msg, sig[:]) {
		t.Errorf("%v: got signature %x, %v, want one by %v", k, sig, err, want)
	}
}

func TestKeyOfOpenSSLLoads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "release.pem")
	run(t, nil, nil, "openssl", "genpkey", "-algorithm", "ed25519", "-out", path)
	public, err := keys.ParsePEM(run(t, nil, nil, "openssl", "pkey", "-in", path, "-pubout"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := secret.Loader{Passphrase: notAsked(t)}.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	checkSigns(t, k, public)
}

func TestOpenSSLReadsTheUnencryptedFile(t *testing.T) {
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "online.pem")
	if err := k.WriteUnencrypted(disk.FS{}, path); err != nil {
		t.Fatal(err)
	}
	if out := run(t, nil, nil, "openssl", "pkey", "-in", path, "-pubout"); !bytes.Equal(out, k.Public().PEM()) {
		t.Errorf("openssl reads another public key:\n%s", out)
	}
	ours, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if theirs := run(t, nil, nil, "openssl", "pkey", "-in", path); !bytes.Equal(ours, theirs) {
		t.Error("openssl writes the key differently")
	}
	checkMode(t, path)
	again, err := secret.Loader{}.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	checkSigns(t, again, k.Public())
}

func checkMode(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%s: got mode %v, %v, want 0600", path, info.Mode(), err)
	}
}

func TestEncryptedFile(t *testing.T) {
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "release.pem")
	ask := func(wantNew bool, answer string) secret.Passphrase {
		return secret.Passphrase{From: func(_ context.Context, r secret.Request) ([]byte, error) {
			if r.New != wantNew || r.Purpose != path {
				t.Errorf("asked for %q, new %v, want %q, %v", r.Purpose, r.New, path, wantNew)
			}
			return []byte(answer), r.Refused
		}}
	}
	if err := k.WriteEncrypted(t.Context(), disk.FS{}, path, ask(true, passphrase)); err != nil {
		t.Fatal(err)
	}
	checkMode(t, path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")) {
		t.Errorf("got %.60s", b)
	}
	theirs, err := cryptoutils.UnmarshalPEMToPrivateKey(b, cryptoutils.StaticPasswordFunc([]byte(passphrase)))
	if private, ok := theirs.(ed25519.PrivateKey); !ok || !bytes.Equal(private[32:], k.Public().Ed25519()) {
		t.Errorf("sigstore reads another key, or none: %v", err)
	}
	again, err := secret.Loader{Passphrase: ask(false, passphrase)}.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	checkSigns(t, again, k.Public())
	_, err = secret.Loader{Passphrase: ask(false, passphrase+"\n")}.Load(t.Context(), path)
	wantError(t, err, path, "wrong passphrase")
	if !errors.Is(err, secret.ErrPassphrase) {
		t.Errorf("got error %v, want ErrPassphrase", err)
	}
}

func TestPassphraseRefused(t *testing.T) {
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		answer secret.Source
		want   string
	}{
		{"none", secret.FromValue(""), "expected one, got none"},
		{"too long", secret.FromValue(strings.Repeat("a", 4097)), "expected at most 4096 bytes"},
		{"not answered", func(context.Context, secret.Request) ([]byte, error) { return nil, errors.New("gone") }, "gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "new.pem")
			err := k.WriteEncrypted(t.Context(), disk.FS{}, path, secret.Passphrase{From: test.answer})
			wantError(t, err, "passphrase for "+path, test.want)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s was made (%v)", path, err)
			}
			_, err = secret.Loader{Passphrase: secret.Passphrase{From: test.answer}}.Load(t.Context(), file(t, encryptedPEM(t, 1)))
			wantError(t, err, "passphrase for ", test.want)
		})
	}
	_, err = secret.Loader{}.Load(t.Context(), file(t, encryptedPEM(t, 1)))
	wantError(t, err, "the key is encrypted, and there is no passphrase")
}

func TestKeysAreNeverOverwritten(t *testing.T) {
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"a file":          func(path string) error { return os.WriteFile(path, []byte("old"), 0o600) },
		"a dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{
				k.WriteUnencrypted(disk.FS{}, path),
				k.WriteEncrypted(t.Context(), disk.FS{}, path, notAsked(t)),
			} {
				if !errors.Is(err, fs.ErrExist) {
					t.Errorf("got error %v, want fs.ErrExist", err)
				}
				wantError(t, err, path, "never overwritten")
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
				t.Errorf("%s was changed (%v)", path, err)
			}
		})
	}
}

// A file that appears while the passphrase is typed is not overwritten either.
func TestKeyThatAppearsMeanwhileIsNotOverwritten(t *testing.T) {
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	meanwhile := secret.Passphrase{From: func(context.Context, secret.Request) ([]byte, error) {
		return []byte(passphrase), os.WriteFile(path, []byte("other"), 0o600)
	}}
	err = k.WriteEncrypted(t.Context(), disk.FS{}, path, meanwhile)
	if b, readErr := os.ReadFile(path); !errors.Is(err, fs.ErrExist) || string(b) != "other" || readErr != nil {
		t.Errorf("got error %v, file %q, %v", err, b, readErr)
	}
}

func TestFaultyDiskLeavesNoFileOrTheWholeOne(t *testing.T) {
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	steps := 0
	for _, applied := range []bool{false, true} {
		for step := 0; ; step++ {
			path, at := filepath.Join(t.TempDir(), "key.pem"), 0
			fsys := disk.FS{Hook: func(disk.Op, string) (bool, error) {
				at++
				if at-1 == step {
					return applied, full
				}
				return true, nil
			}}
			err := k.WriteUnencrypted(fsys, path)
			if at <= step {
				steps += step
				break
			}
			if !errors.Is(err, full) {
				t.Errorf("step %d: got error %v", step, err)
			}
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			again, err := secret.Loader{}.Load(t.Context(), path)
			if err != nil {
				t.Fatalf("step %d: the file is there and does not load: %v", step, err)
			}
			checkSigns(t, again, k.Public())
		}
	}
	if steps < 8 {
		t.Errorf("only %d steps were made to fail", steps)
	}
}

func TestModes(t *testing.T) {
	for _, content := range [][]byte{plainPEM(t, 1), encryptedPEM(t, 1)} {
		for mode := range fs.FileMode(0o1000) {
			if mode&0o400 == 0 {
				continue
			}
			path := file(t, content)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			asked := errors.New("asked")
			l := secret.Loader{Passphrase: secret.Passphrase{From: func(context.Context, secret.Request) ([]byte, error) { return nil, asked }}}
			_, err := l.Load(t.Context(), path)
			if mode&0o077 != 0 {
				wantError(t, err, fmt.Sprintf("mode %04o", mode), "chmod 600 "+path)
			} else if err != nil && !errors.Is(err, asked) {
				t.Errorf("mode %04o: got error %v", mode, err)
			}
		}
	}
}

func TestWhatIsNoPlainFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		syscall.Mkfifo(at("pipe"), 0o600),
		os.Mkdir(at("directory"), 0o700),
		os.WriteFile(at("open"), plainPEM(t, 1), 0o600), os.Chmod(at("open"), 0o644),
		os.Symlink("open", at("link to open")),
		os.WriteFile(at("good"), plainPEM(t, 1), 0o600),
		os.Symlink("good", at("link to good")),
		os.WriteFile(at("huge"), nil, 0o600), os.Truncate(at("huge"), 1<<40),
	); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"pipe":         "expected a regular file",
		"directory":    "expected a regular file",
		"link to open": "mode 0644",
		"huge":         "expected at most 16384 bytes",
		"missing":      "no such file",
	} {
		_, err := secret.Loader{Passphrase: notAsked(t)}.Load(t.Context(), at(name))
		wantError(t, err, at(name), want)
	}
	k, err := secret.Loader{}.Load(t.Context(), at("link to good"))
	if err != nil {
		t.Fatal(err)
	}
	_, public := seeded(t, 1)
	checkSigns(t, k, public)
}

func TestOtherKindsAreRefusedByName(t *testing.T) {
	rsa := run(t, nil, nil, "openssl", "genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048")
	ec := run(t, nil, nil, "openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
	_, public := seeded(t, 1)
	ssh := filepath.Join(t.TempDir(), "id")
	run(t, nil, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh)
	sshFile, err := os.ReadFile(ssh)
	if err != nil {
		t.Fatal(err)
	}
	cosign := bytes.ReplaceAll(encryptedPEM(t, 1), []byte("SIGSTORE"), []byte("COSIGN"))
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"RSA", rsa, "expected an Ed25519 key, got RSA"},
		{"ECDSA", ec, "expected an Ed25519 key, got ECDSA"},
		{"Ed448", run(t, nil, nil, "openssl", "genpkey", "-algorithm", "ed448"), "expected an Ed25519 key, got Ed448"},
		{"X25519", run(t, nil, nil, "openssl", "genpkey", "-algorithm", "x25519"), "expected an Ed25519 key, got X25519"},
		{"RSA, PKCS #1", run(t, nil, rsa, "openssl", "rsa", "-traditional"), `got "RSA PRIVATE KEY"; this is a key of another algorithm`},
		{"ECDSA, SEC 1", run(t, nil, ec, "openssl", "ec"), `got "EC PRIVATE KEY"; this is a key of another algorithm`},
		{"encrypted by openssl", run(t, nil, plainPEM(t, 1), "openssl", "pkey", "-aes256", "-passout", "pass:x"), "openssl pkey -in OLD -out NEW decrypts it"},
		{"of ssh", sshFile, "name it ssh-agent:SHA256:"},
		{"of cosign", cosign, `got "ENCRYPTED COSIGN PRIVATE KEY"`},
		{"public", public.PEM(), "this is the public half"},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"}), `got "CERTIFICATE"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := file(t, test.file)
			_, err := secret.Loader{Passphrase: notAsked(t)}.Load(t.Context(), path)
			wantError(t, err, path, test.want)
		})
	}
}

func TestPlainFileRefused(t *testing.T) {
	good := string(plainPEM(t, 1))
	block, _ := pem.Decode([]byte(good))
	again := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	longer := append(slices.Clone(block.Bytes), 0xa0, 0) // attributes, as PKCS #8 has them
	longer[1] += 2
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", "found none"},
		{"two blocks", good + good, "exactly one PEM block"},
		{"text after", good + "\n", "exactly one PEM block"},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), "openssl pkey -in KEY writes a key as expected"},
		{"bytes after the structure", again(append(slices.Clone(block.Bytes), 0)), ""},
		{"attributes", again(longer), "holds more than the key"},
		{"no structure", again([]byte("key")), "expected a PKCS #8 structure"},
		{"nested 4,000 deep", again(bytes.Repeat([]byte{0x30, 0x80}, 4000)), "expected a PKCS #8 structure"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := secret.Loader{Passphrase: notAsked(t)}.Load(t.Context(), file(t, []byte(test.in)))
			wantError(t, err, test.want)
		})
	}
}

func TestPlainFileWithEachByteChangedAndAtEachLength(t *testing.T) {
	good := plainPEM(t, 1)
	_, public := seeded(t, 1)
	path := file(t, good)
	for i := range good {
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			rewrite(t, path, bad)
			// A changed digit of the seed is another key; it must never be the same one.
			if k, err := (secret.Loader{}).Load(t.Context(), path); err == nil && k.Public() == public {
				t.Errorf("byte %d, bit %d: accepted", i, bit)
			}
		}
		rewrite(t, path, good[:i])
		if _, err := (secret.Loader{}).Load(t.Context(), path); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
}

func rewrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEncryptedFileWithEachByteChangedAndAtEachLength(t *testing.T) {
	good := encryptedPEM(t, 1)
	path := file(t, good)
	l := secret.Loader{Passphrase: secret.Passphrase{From: secret.FromValue(passphrase)}}
	if _, err := l.Load(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	asked := errors.New("asked")
	unasked := secret.Loader{Passphrase: secret.Passphrase{From: func(context.Context, secret.Request) ([]byte, error) { return nil, asked }}}
	sound := 0
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		rewrite(t, path, bad)
		_, err := unasked.Load(t.Context(), path)
		if err == nil {
			t.Errorf("byte %d changed: accepted without a passphrase", i)
		}
		if errors.Is(err, asked) { // a changed salt, nonce or ciphertext is seen when it is decrypted
			// Each takes scrypt 60 ms, and ten times that under the race detector: one in eight is tried.
			if sound++; sound%8 == 0 {
				if _, err := l.Load(t.Context(), path); !errors.Is(err, secret.ErrPassphrase) {
					t.Errorf("byte %d changed: got error %v", i, err)
				}
			}
		}
		rewrite(t, path, good[:i])
		if _, err := l.Load(t.Context(), path); err == nil || errors.Is(err, secret.ErrPassphrase) {
			t.Errorf("cut to %d bytes: got error %v", i, err)
		}
	}
	if sound < 8 {
		t.Error("no change reached the ciphertext")
	}
}

func TestEnvelopeRefusedBeforeAPassphraseIsAsked(t *testing.T) {
	block, _ := pem.Decode(encryptedPEM(t, 1))
	good := string(block.Bytes)
	for _, test := range []struct{ name, old, new, want string }{
		{"N of 2^30", `"N":32768`, `"N":1073741824`, "expected scrypt with N 32768, 65536 or 131072"},
		{"N of 16", `"N":32768`, `"N":16`, "expected scrypt with N"},
		{"N past an int", `"N":32768`, `"N":99999999999999999999`, "expected JSON"},
		{"r of 2^20", `"r":8`, `"r":1048576`, "expected scrypt with N"},
		{"p of 2^20", `"p":1`, `"p":1048576`, "expected scrypt with N"},
		{"another KDF", `"scrypt"`, `"pbkdf2"`, "expected scrypt"},
		{"another cipher", `"nacl/secretbox"`, `"rot13"`, "expected nacl/secretbox"},
		{"no salt", `"salt":"`, `"salt":"","x":"`, "as sigstore writes them"},
		{"an unknown field", `{"kdf"`, `{"kdf2":1,"kdf"`, "as sigstore writes them"},
		{"a key that stands twice", `"N":32768`, `"N":32768,"N":32768`, "as sigstore writes them"},
		{"white space", `{"kdf"`, `{ "kdf"`, "as sigstore writes them"},
		{"an empty salt", good[strings.Index(good, `"salt"`):strings.Index(good, `},"cipher"`)], `"salt":""`, "a salt of 32"},
		{"an empty nonce", good[strings.Index(good, `"nonce"`):strings.Index(good, `},"ciphertext"`)], `"nonce":""`, "a nonce of 24"},
		{"an empty ciphertext", good[strings.Index(good, `"ciphertext"`):], `"ciphertext":""}`, "an encrypted Ed25519 key of 64 bytes, got 0"},
		{"no JSON", good, "key", "expected JSON"},
		{"null", good, "null", "as sigstore writes them"},
		{"nested 5,000 deep", good, strings.Repeat("[", 5000), "expected JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := strings.Replace(good, test.old, test.new, 1)
			if bad == good {
				t.Fatal("the test changes nothing")
			}
			b := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: []byte(bad)})
			_, err := secret.Loader{Passphrase: notAsked(t)}.Load(t.Context(), file(t, b))
			wantError(t, err, test.want)
		})
	}
}

// Another key of 48 bytes of PKCS #8, an X25519 one, fits the envelope.
func TestEncryptedKeyOfAnotherAlgorithm(t *testing.T) {
	block, _ := pem.Decode(run(t, nil, nil, "openssl", "genpkey", "-algorithm", "x25519"))
	envelope, err := encrypted.EncryptWithCustomKDFParameters(block.Bytes, []byte(passphrase), encrypted.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: envelope})
	_, err = secret.Loader{Passphrase: secret.Passphrase{From: secret.FromValue(passphrase)}}.Load(t.Context(), file(t, b))
	wantError(t, err, "expected an Ed25519 key, got *ecdh.PrivateKey")
}

func TestPrintingShowsNoSecret(t *testing.T) {
	private, public := seeded(t, 0xa7)
	path := file(t, plainPEM(t, 0xa7))
	k, err := secret.Loader{}.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "key " + public.Fingerprint() + " (" + path + ")"; fmt.Sprint(k) != want || k.String() != want {
		t.Errorf("got %v, want %s", k, want)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k, "value", *k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k, "value", *k)
	asJSON, err := json.Marshal([]any{k, *k, struct{ K any }{*k}})
	if err != nil {
		t.Fatal(err)
	}
	log.Write(asJSON)
	type holder struct {
		hidden  secret.Key
		pointer *secret.Key
		Shown   secret.Key
	}
	for _, v := range []any{k, *k, &k, holder{*k, k, *k}, &holder{*k, k, *k}, []secret.Key{*k}, map[string]*secret.Key{"k": k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%p"} {
			fmt.Fprintf(&log, verb+"\n", v)
		}
	}
	seed := private.Seed()
	for _, leak := range []string{
		string(seed[:4]), hex.EncodeToString(seed[:4]), strings.ToUpper(hex.EncodeToString(seed[:4])),
		base64.StdEncoding.EncodeToString(seed[:3]), "167 167 167", "167,167,167", "0xa7, 0xa7", "10100111 10100111", "247 247 247", "U+00A7 U+00A7",
	} {
		if strings.Contains(log.String(), leak) {
			t.Errorf("the output holds %q", leak)
		}
	}
}

func TestZeroKeySignsNothing(t *testing.T) {
	var zero secret.Key
	_, err := zero.Sign(t.Context(), []byte("x"))
	wantError(t, err, "the zero Key")
	path := filepath.Join(t.TempDir(), "key.pem")
	wantError(t, zero.WriteUnencrypted(disk.FS{}, path), path, "the zero Key")
	wantError(t, zero.WriteEncrypted(t.Context(), disk.FS{}, path, notAsked(t)), path, "the zero Key")
	if !zero.Public().IsZero() {
		t.Errorf("it has the public key %v", zero.Public())
	}
}

func TestSignEndsWithItsContext(t *testing.T) {
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if sig, err := k.Sign(ctx, []byte("x")); !errors.Is(err, context.Canceled) || sig != [64]byte{} {
		t.Errorf("got %x, %v", sig, err)
	}
}
