package signing_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

// seeded is a signer whose seed is 32 times its value.
type seeded byte

func (s seeded) private() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(s)}, ed25519.SeedSize))
}

func (s seeded) Public() keys.Public {
	public, err := keys.New(s.private().Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return public
}

func (s seeded) Sign(ctx context.Context, msg []byte) ([ed25519.SignatureSize]byte, error) {
	return [ed25519.SignatureSize]byte(ed25519.Sign(s.private(), msg)), ctx.Err()
}

// faulty is a signer that answers with sig and err for the key of its seed.
type faulty struct {
	seeded
	sig [ed25519.SignatureSize]byte
	err error
}

func (f faulty) Sign(context.Context, []byte) ([ed25519.SignatureSize]byte, error) {
	return f.sig, f.err
}

// keyless is a signer without a public key.
type keyless struct{ seeded }

func (keyless) Public() keys.Public { return keys.Public{} }

func name(t testing.TB, s string) update.Name {
	t.Helper()
	n, err := update.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func sign(t testing.TB, s signing.Signer, d update.Digest, n update.Name) signing.Signature {
	t.Helper()
	sig, err := signing.Sign(t.Context(), s, d, n)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want one with %q", err, part)
		}
	}
}

var archive = []byte("an archive\n")

func TestSignedUpdateOpens(t *testing.T) {
	n, d := name(t, "p-7.tar.gz"), update.Sum(archive)
	sig := sign(t, seeded(1), d, n)
	opened, err := signing.Open(d, n, sig, seeded(2).Public(), seeded(1).Public())
	if err != nil {
		t.Fatal(err)
	}
	if opened.IsZero() || opened.Name() != n || opened.Digest() != d || opened.Key() != seeded(1).Public() || opened.Length() != -1 || !opened.Blocks().IsZero() {
		t.Errorf("Open: got %+v", opened)
	}
	read, err := signing.Verify(t.Context(), bytes.NewReader(archive), n, sig, seeded(1).Public())
	if err != nil {
		t.Fatal(err)
	}
	if read.Name() != n || read.Digest() != d || read.Key() != seeded(1).Public() || read.Length() != int64(len(archive)) {
		t.Errorf("Verify: got %+v", read)
	}
}

func TestOpenRefuses(t *testing.T) {
	n, d := name(t, "p-7.tar.gz"), update.Sum(archive)
	sig := sign(t, seeded(1), d, n)
	one, two := seeded(1).Public(), seeded(2).Public()
	for _, test := range []struct {
		name   string
		digest update.Digest
		update update.Name
		sig    signing.Signature
		keys   []keys.Public
		fit    bool // whether the error is ErrSignature
		want   string
	}{
		{"another digest", update.Sum([]byte("x")), n, sig, []keys.Public{one}, true, "expected one by key " + one.Fingerprint()},
		{"another name", d, name(t, "p-8.tar.gz"), sig, []keys.Public{one}, true, `p-8.tar.gz\n"`},
		{"another product", d, name(t, "q-7.tar.gz"), sig, []keys.Public{one}, true, "q-7.tar.gz"},
		{"another key", d, n, sig, []keys.Public{two}, true, "expected one by key " + two.Fingerprint()},
		{"no key", d, n, sig, nil, true, "no key was given"},
		{"the zero key", d, n, sig, []keys.Public{{}}, true, "does not fit"},
		{"the signature of another update", d, n, sign(t, seeded(1), update.Sum([]byte("x")), n), []keys.Public{one}, true, "does not fit"},
		{"the zero signature", d, n, signing.Signature{}, []keys.Public{one}, true, "does not fit"},
		{"the zero digest", update.Digest{}, n, sig, []keys.Public{one}, false, "a name, a digest"},
		{"the zero name", d, update.Name{}, sig, []keys.Public{one}, false, "a name, a digest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, err := signing.Open(test.digest, test.update, test.sig, test.keys...)
			wantError(t, err, test.want)
			if errors.Is(err, signing.ErrSignature) != test.fit {
				t.Errorf("got error %v; that it is ErrSignature should be %v", err, test.fit)
			}
			if !v.IsZero() {
				t.Errorf("got %+v beside an error", v)
			}
		})
	}
}

func TestOpenWithEachBitChanged(t *testing.T) {
	n, d := name(t, "p-7.tar.gz"), update.Sum(archive)
	sig, key := sign(t, seeded(1), d, n), seeded(1).Public()
	for i := range len(sig) * 8 {
		bad := sig
		bad[i/8] ^= 1 << (i % 8)
		if _, err := signing.Open(d, n, bad, key); !errors.Is(err, signing.ErrSignature) {
			t.Errorf("signature, bit %d changed: got error %v", i, err)
		}
	}
	for i := range len(d) * 8 {
		bad := d
		bad[i/8] ^= 1 << (i % 8)
		if _, err := signing.Open(bad, n, sig, key); !errors.Is(err, signing.ErrSignature) {
			t.Errorf("digest, bit %d changed: got error %v", i, err)
		}
	}
	for i := range archive {
		bad := slices.Clone(archive)
		bad[i] ^= 1
		if _, err := signing.Verify(t.Context(), bytes.NewReader(bad), n, sig, key); !errors.Is(err, signing.ErrSignature) {
			t.Errorf("archive, byte %d changed: got error %v", i, err)
		}
		if _, err := signing.Verify(t.Context(), bytes.NewReader(archive[:i]), n, sig, key); !errors.Is(err, signing.ErrSignature) {
			t.Errorf("archive cut to %d bytes: got error %v", i, err)
		}
	}
}

// A signature stays the only one for its line: s + L, the same number modulo the order of the group,
// would be a second (RFC 8032, section 5.1.7).
func TestSecondSpellingOfASignatureIsRefused(t *testing.T) {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	n, d := name(t, "p-7.tar.gz"), update.Sum(archive)
	sig := sign(t, seeded(1), d, n)
	carry := 0
	for i, b := range order {
		sum := int(sig[32+i]) + int(b) + carry
		sig[32+i], carry = byte(sum), sum>>8
	}
	if _, err := signing.Open(d, n, sig, seeded(1).Public()); !errors.Is(err, signing.ErrSignature) {
		t.Errorf("got error %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	n, d := name(t, "p-7.tar.gz"), update.Sum(archive)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	locked := errors.New("the token is locked")
	other := sign(t, seeded(2), d, n)
	for _, test := range []struct {
		name   string
		ctx    context.Context
		signer signing.Signer
		digest update.Digest
		update update.Name
		want   string
	}{
		{"the zero digest", t.Context(), seeded(1), update.Digest{}, n, "a digest and a name are needed"},
		{"the zero name", t.Context(), seeded(1), d, update.Name{}, "a digest and a name are needed"},
		{"a context that has ended", canceled, seeded(1), d, n, "context canceled"},
		{"a signer that fails", t.Context(), faulty{1, other, locked}, d, n, "sign p-7.tar.gz: the token is locked"},
		{"a signer that signs with another key", t.Context(), faulty{1, other, nil}, d, n, "the signer returned what its key does not verify"},
		{"a signer that returns zeros", t.Context(), faulty{seeded: 1}, d, n, "all 64 bytes are zero"},
		{"a signer without a key", t.Context(), keyless{1}, d, n, "the signer returned what its key does not verify"},
	} {
		t.Run(test.name, func(t *testing.T) {
			sig, err := signing.Sign(test.ctx, test.signer, test.digest, test.update)
			wantError(t, err, test.want)
			if !sig.IsZero() {
				t.Errorf("got signature %v beside an error", sig)
			}
		})
	}
}

func TestParseSignature(t *testing.T) {
	sig := sign(t, seeded(1), update.Sum(archive), name(t, "p-7.tar.gz"))
	if got, err := signing.ParseSignature(sig[:]); err != nil || got != sig {
		t.Errorf("got %v, %v, want %v", got, err, sig)
	}
	for n := range 200 {
		if n == len(sig) {
			continue
		}
		_, err := signing.ParseSignature(make([]byte, n))
		wantError(t, err, fmt.Sprintf("expected 64 raw bytes, got %d", n))
	}
	_, err := signing.ParseSignature(make([]byte, 64))
	wantError(t, err, "all 64 bytes are zero")
	_, err = signing.ParseSignature([]byte(sig.String() + "\n"))
	wantError(t, err, "looks like hex")
	_, err = signing.ParseSignature(make([]byte, 88))
	wantError(t, err, "looks like Base64")
	_, err = signing.ParseSignature(nil)
	wantError(t, err, "the file is empty")
}

func TestSignatureInJSON(t *testing.T) {
	sig := sign(t, seeded(1), update.Sum(archive), name(t, "p-7.tar.gz"))
	b, err := json.Marshal(sig)
	if err != nil || string(b) != `"`+sig.String()+`"` {
		t.Errorf("got %s, %v", b, err)
	}
	var got signing.Signature
	if err := json.Unmarshal(b, &got); err != nil || got != sig {
		t.Errorf("got %v, %v, want %v", got, err, sig)
	}
	good := sig.String()
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", "expected 128 hex digits, got 0"},
		{"short", good[2:], "expected 128 hex digits, got 126"},
		{"long", good + "00", "expected 128 hex digits, got 130"},
		{"upper case", strings.ToUpper(good), "expected lower-case"},
		{"no digit", "x" + good[1:], "invalid byte"},
		{"zero", strings.Repeat("0", 128), "all 64 bytes are zero"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got signing.Signature
			wantError(t, got.UnmarshalText([]byte(test.in)), test.want)
			if !got.IsZero() {
				t.Errorf("got %v beside an error", got)
			}
		})
	}
}

// openssl runs the real openssl in dir and returns whether it passes.
func openssl(t *testing.T, dir string, args ...string) (ok bool, output string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v (this test needs openssl 3.0 or newer)", err)
	}
	return err == nil, string(out)
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checksum has the real sha256sum make the line of an archive.
func checksum(t *testing.T, dir, name string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sha256sum", name)
	cmd.Dir = dir
	line, err := cmd.Output()
	if err != nil {
		t.Fatalf("sha256sum: %v", err)
	}
	write(t, dir, "L", line)
}

func TestOpenSSLVerifiesWhatWeSign(t *testing.T) {
	dir, n := t.TempDir(), name(t, "p-7.tar.gz")
	sig := sign(t, seeded(1), update.Sum(archive), n)
	recipe := []string{"pkeyutl", "-verify", "-pubin", "-inkey", "release.pub", "-rawin", "-in", "L", "-sigfile", "U.sig"}
	bad := slices.Clone(sig[:])
	bad[40] ^= 1
	other := sign(t, seeded(1), update.Sum([]byte("other\n")), name(t, "p-8.tar.gz"))
	for _, test := range []struct {
		name, file string
		archive    []byte
		sig        []byte
		key        keys.Public
		passes     bool
	}{
		{"genuine", "p-7.tar.gz", archive, sig[:], seeded(1).Public(), true},
		{"a byte of the archive changed", "p-7.tar.gz", []byte("an archivE\n"), sig[:], seeded(1).Public(), false},
		{"a byte of the signature changed", "p-7.tar.gz", archive, bad, seeded(1).Public(), false},
		{"the signature cut", "p-7.tar.gz", archive, sig[:63], seeded(1).Public(), false},
		{"another name", "p-8.tar.gz", archive, sig[:], seeded(1).Public(), false},
		{"another key", "p-7.tar.gz", archive, sig[:], seeded(2).Public(), false},
		{"the genuine signature of another update", "p-7.tar.gz", archive, other[:], seeded(1).Public(), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			write(t, dir, "release.pub", test.key.PEM())
			write(t, dir, test.file, test.archive)
			write(t, dir, "U.sig", test.sig)
			checksum(t, dir, test.file)
			ok, output := openssl(t, dir, recipe...)
			if ok != test.passes {
				t.Errorf("openssl: passes: %v, want %v\n%s", ok, test.passes, output)
			}
			ours := false
			if parsed, err := signing.ParseSignature(test.sig); err == nil {
				_, err = signing.Verify(t.Context(), bytes.NewReader(test.archive), name(t, test.file), parsed, test.key)
				ours = err == nil
			}
			if ours != test.passes {
				t.Errorf("Verify: passes: %v, want %v", ours, test.passes)
			}
		})
	}
}

func TestWeVerifyWhatOpenSSLSigns(t *testing.T) {
	dir, n := t.TempDir(), name(t, "p-7.tar.gz")
	der, err := x509.MarshalPKCS8PrivateKey(seeded(1).private())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "release.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(t, dir, n.String(), archive)
	checksum(t, dir, n.String())
	if ok, output := openssl(t, dir, "pkeyutl", "-sign", "-inkey", "release.pem", "-rawin", "-in", "L", "-out", "U.sig"); !ok {
		t.Fatal(output)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "U.sig"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signing.ParseSignature(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.Verify(t.Context(), bytes.NewReader(archive), n, sig, seeded(1).Public()); err != nil {
		t.Error(err)
	}
	if want := sign(t, seeded(1), update.Sum(archive), n); sig != want {
		t.Errorf("openssl signs %v, we %v", sig, want)
	}
}

// endless is an archive of length zeros that fails at its end, if err is not nil.
type endless struct {
	length int64
	err    error
	then   func() // called at each read
}

func (e *endless) Read(p []byte) (int, error) {
	if e.then != nil {
		e.then()
	}
	if e.length <= 0 {
		if e.err != nil {
			return 0, e.err
		}
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.length)
	clear(p[:n])
	e.length -= n
	return int(n), nil
}

func TestVerifyUsesConstantMemory(t *testing.T) {
	n := name(t, "p-7.tar.gz")
	const length = 256 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := signing.Verify(t.Context(), &endless{length: length}, n, signing.Signature{1}, seeded(1).Public())
	runtime.ReadMemStats(&after)
	if !errors.Is(err, signing.ErrSignature) {
		t.Errorf("got error %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("%d bytes were allocated for an archive of %d", used, length)
	}
}

func TestVerifyEndsWithItsContextAndItsReader(t *testing.T) {
	n := name(t, "p-7.tar.gz")
	torn := errors.New("torn")
	_, err := signing.Verify(t.Context(), &endless{length: 1 << 20, err: torn}, n, signing.Signature{1}, seeded(1).Public())
	wantError(t, err, "read p-7.tar.gz: torn")
	if !errors.Is(err, torn) || errors.Is(err, signing.ErrSignature) {
		t.Errorf("got error %v, want the one of the reader", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = signing.Verify(ctx, &endless{length: 1 << 62, then: cancel}, n, signing.Signature{1}, seeded(1).Public())
	if !errors.Is(err, context.Canceled) || errors.Is(err, signing.ErrSignature) {
		t.Errorf("got error %v, want that of the context", err)
	}
}

// The package comment is the specification; what it shows must be so.
func TestPackageCommentShowsARealSignature(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	d, n := update.Sum([]byte("hello\n")), name(t, "p-7.tar.gz")
	sig := sign(t, seeded(0), d, n).String()
	for _, fact := range []string{d.String() + "  " + n.String() + `\n`, sig[:64], sig[64:], seeded(0).Public().Hex()} {
		if !bytes.Contains(doc, []byte(fact)) {
			t.Errorf("doc.go does not show %s", fact)
		}
	}
}

func FuzzParseSignature(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 64))
	f.Add([]byte(strings.Repeat("0a", 64)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sig, err := signing.ParseSignature(b); err == nil && !bytes.Equal(sig[:], b) {
			t.Errorf("%x is parsed as %v", b, sig)
		}
		var sig signing.Signature
		if err := sig.UnmarshalText(b); err == nil && sig.String() != string(b) {
			t.Errorf("%q is parsed as %v", b, sig)
		}
	})
}

func ExampleOpen() {
	ctx := context.Background()
	var signer signing.Signer = seeded(0) // a *secret.Key in the programs
	n, err := update.ParseName("p-7.tar.gz")
	if err != nil {
		panic(err)
	}
	sig, err := signing.Sign(ctx, signer, update.Sum([]byte("hello\n")), n)
	if err != nil {
		panic(err)
	}
	v, err := signing.Verify(ctx, strings.NewReader("hello\n"), n, sig, signer.Public())
	fmt.Println(v.Name(), v.Length(), v.Key(), err)
	_, err = signing.Verify(ctx, strings.NewReader("jello\n"), n, sig, signer.Public())
	fmt.Println(errors.Is(err, signing.ErrSignature))
	// Output:
	// p-7.tar.gz 6 4cc3-f338-069d-638e <nil>
	// true
}
