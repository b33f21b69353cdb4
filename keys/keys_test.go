package keys_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/keys"
)

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

// openssl runs the real openssl and returns its output.
func openssl(t testing.TB, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s(this test needs openssl 3.0 or newer)", strings.Join(args, " "), err, &stderr)
	}
	return out
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want one with %q", err, part)
	}
}

func TestOpenSSLAgreesOnPublicKeyFiles(t *testing.T) {
	for seed := range byte(5) {
		private, public := seeded(t, seed)
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		theirs := openssl(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "pkey", "-pubout")
		if !bytes.Equal(theirs, public.PEM()) {
			t.Errorf("seed %d: openssl writes\n%s, PEM returns\n%s", seed, theirs, public.PEM())
		}
		parsed, err := keys.ParsePEM(theirs)
		if err != nil || parsed != public {
			t.Errorf("seed %d: ParsePEM: got %v, %v, want %v", seed, parsed, err, public)
		}
		// The errors name this command as the way to a file that is accepted.
		crlf := bytes.ReplaceAll(theirs, []byte("\n"), []byte("\r\n"))
		if mended := openssl(t, crlf, "pkey", "-pubin"); !bytes.Equal(mended, theirs) {
			t.Errorf("seed %d: openssl pkey -pubin does not mend CRLF: got\n%s", seed, mended)
		}
	}
}

func TestKeysOfOtherAlgorithmsAreRefusedByName(t *testing.T) {
	for name, args := range map[string][]string{
		"Ed448":             {"-algorithm", "ed448"},
		"X25519":            {"-algorithm", "x25519"},
		"X448":              {"-algorithm", "x448"},
		"RSA":               {"-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"},
		"RSA-PSS":           {"-algorithm", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"},
		"ECDSA":             {"-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"unknown (1.2.840.": {"-algorithm", "dh", "-pkeyopt", "dh_param:modp_2048"},
	} {
		t.Run(name, func(t *testing.T) {
			private := openssl(t, nil, append([]string{"genpkey"}, args...)...)
			public := openssl(t, private, "pkey", "-pubout")
			_, err := keys.ParsePEM(public)
			wantError(t, err, "expected an Ed25519 key, got "+name)
			_, err = keys.ParsePEM(private)
			wantError(t, err, `got "PRIVATE KEY"; this is the secret half`)
		})
	}
}

func TestParsePEMRefuses(t *testing.T) {
	_, public := seeded(t, 1)
	good := string(public.PEM())
	point := func(hexPoint string) string {
		prefix, _ := hex.DecodeString("302a300506032b6570032100")
		raw, err := hex.DecodeString(hexPoint)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: append(prefix, raw...)}))
	}
	der, _ := pem.Decode([]byte(good))
	block := func(kind string, der []byte, headers map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der, Headers: headers}))
	}
	longer := append(slices.Clone(der.Bytes), 5, 0)
	longer[1] += 2
	shorter := slices.Clone(der.Bytes[:len(der.Bytes)-1])
	shorter[1], shorter[10] = shorter[1]-1, shorter[10]-1
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", "expected a PEM block, found none"},
		{"two blocks", good + good, "expected exactly one PEM block"},
		{"text before", "release key\n" + good, "expected exactly one PEM block"},
		{"text after", good + "release key\n", "expected exactly one PEM block"},
		{"newline after", good + "\n", "expected exactly one PEM block"},
		{"no newline at the end", strings.TrimSuffix(good, "\n"), "expected exactly one PEM block"},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), "expected exactly one PEM block"},
		{"a space in the Base64", strings.Replace(good, "MCow", "MCow ", 1), "expected exactly one PEM block"},
		{"a header", block("PUBLIC KEY", der.Bytes, map[string]string{"A": "b"}), "expected exactly one PEM block"},
		{"another type", block("CERTIFICATE", der.Bytes, nil), `expected a PEM block PUBLIC KEY, got "CERTIFICATE"`},
		{"a type of its own", block("KEY", der.Bytes, nil), `expected a PEM block PUBLIC KEY, got "KEY"`},
		{"31 bytes of key", block("PUBLIC KEY", shorter, nil), "wrong Ed25519 public key size"},
		{"an element too many", block("PUBLIC KEY", longer, nil), "not in DER"},
		{"an encrypted private key", block("ENCRYPTED PRIVATE KEY", der.Bytes, nil), "this is the secret half"},
		{"bytes after the structure", block("PUBLIC KEY", append(slices.Clone(der.Bytes), 0), nil), "expected one SubjectPublicKeyInfo"},
		{"an empty structure", block("PUBLIC KEY", nil, nil), "expected one SubjectPublicKeyInfo"},
		{"nested 4,000 deep", block("PUBLIC KEY", bytes.Repeat([]byte{0x30, 0x80}, 4000), nil), "expected one SubjectPublicKeyInfo"},
		{"over the bound", strings.Repeat("A", 16<<10+1), "expected at most 16384 bytes, got more"},
		{"100 MB", strings.Repeat(good, 1e6), "expected at most 16384 bytes, got more"},
		{"not on the curve", point("0200000000000000000000000000000000000000000000000000000000000000"), "not a point of the curve"},
		{"y over the prime", point("f1ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "not a point of the curve"},
		{"the neutral point", point("0100000000000000000000000000000000000000000000000000000000000000"), "small order"},
		{"order 2", point("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "small order"},
		{"order 4", point("0000000000000000000000000000000000000000000000000000000000000000"), "small order"},
		{"order 4, other sign", point("0000000000000000000000000000000000000000000000000000000000000080"), "small order"},
		{"order 8", point("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "small order"},
		{"order 8, other", point("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "small order"},
		{"the neutral point, spelled otherwise", point("0100000000000000000000000000000000000000000000000000000000000080"), "not a point of the curve in its one spelling"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := keys.ParsePEM([]byte(test.in))
			wantError(t, err, test.want)
			if !got.IsZero() {
				t.Errorf("got key %v beside an error", got)
			}
		})
	}
}

func TestParsePEMWithEachByteChangedAndAtEachLength(t *testing.T) {
	_, public := seeded(t, 1)
	good := public.PEM()
	for i := range good {
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			// A changed digit of the key is another key; it must never be the same one.
			if got, err := keys.ParsePEM(bad); err == nil && (got == public || !bytes.Equal(got.PEM(), bad)) {
				t.Errorf("byte %d, bit %d: accepted as %v", i, bit, got)
			}
		}
		if got, err := keys.ParsePEM(good[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted as %v", i, got)
		}
	}
}

func TestNewRefusesOtherLengths(t *testing.T) {
	for _, n := range []int{0, 31, 33, 64} {
		_, err := keys.New(make([]byte, n))
		wantError(t, err, "expected 32 bytes")
	}
}

func TestZeroPublicIsNoKey(t *testing.T) {
	var zero keys.Public
	if !zero.IsZero() || zero.PEM() != nil || zero.Ed25519() != nil || zero.Hex() != "" || zero.ID() != "" || zero.String() != "" {
		t.Errorf("the zero Public: PEM %q, bytes %x, hex %q, ID %q, string %q", zero.PEM(), zero.Ed25519(), zero.Hex(), zero.ID(), zero)
	}
	// All zeros are a point of order 4: this "signature" fits a quarter of all messages under it.
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1
	fits := 0
	for i := range 100 {
		msg := []byte{byte(i)}
		if ed25519.Verify(make([]byte, ed25519.PublicKeySize), msg, forged) {
			fits++
		}
		if zero.Verify(msg, forged) {
			t.Errorf("message %d: the zero Public verifies a forgery", i)
		}
	}
	if fits == 0 {
		t.Error("the forgery fits nothing, so this test shows nothing")
	}
}

func TestVerify(t *testing.T) {
	private, public := seeded(t, 1)
	_, other := seeded(t, 2)
	msg := []byte("message")
	sig := ed25519.Sign(private, msg)
	if !public.Verify(msg, sig) {
		t.Error("a genuine signature is refused")
	}
	if other.Verify(msg, sig) || public.Verify([]byte("massage"), sig) || public.Verify(msg, sig[:63]) || public.Verify(msg, append(sig, 0)) {
		t.Error("a signature of another key, message or length is accepted")
	}
}

func TestEd25519ReturnsACopy(t *testing.T) {
	_, public := seeded(t, 1)
	before := public.Hex()
	public.Ed25519()[0] ^= 1
	if public.Hex() != before {
		t.Error("writing to what Ed25519 returns changes the key")
	}
}

func TestIDIsTheOneOfTUF(t *testing.T) {
	for seed := range byte(20) {
		private, public := seeded(t, seed)
		theirs, err := metadata.KeyFromPublicKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		want, err := theirs.ID()
		if err != nil {
			t.Fatal(err)
		}
		if string(public.ID()) != want {
			t.Errorf("seed %d: got ID %s, go-tuf says %s", seed, public.ID(), want)
		}
		if theirs.Value.PublicKey != public.Hex() {
			t.Errorf("seed %d: got hex %s, go-tuf says %s", seed, public.Hex(), theirs.Value.PublicKey)
		}
		if id, err := keys.ParseID(want); err != nil || id != public.ID() {
			t.Errorf("ParseID(%s): got %s, %v", want, id, err)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	_, public := seeded(t, 1)
	good := string(public.ID())
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", "expected 64 hex digits, got 0 bytes"},
		{"short", good[1:], "expected 64 hex digits, got 63 bytes"},
		{"long", good + "0", "expected 64 hex digits, got 65 bytes"},
		{"upper case", strings.ToUpper(good), "expected lower-case hex digits"},
		{"no digit", "g" + good[1:], "expected lower-case hex digits"},
		{"newline", good[1:] + "\n", "expected lower-case hex digits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			id, err := keys.ParseID(test.in)
			wantError(t, err, test.want)
			wantError(t, err, "key ID")
			if id != "" || id.Fingerprint() != "" || keys.ID(test.in[:min(63, len(test.in))]).Fingerprint() != "" {
				t.Errorf("got ID %q beside an error, or a fingerprint of what is no ID", id)
			}
		})
	}
}

func TestIDInJSON(t *testing.T) {
	_, public := seeded(t, 1)
	in := map[keys.ID]int{public.ID(): 1}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[keys.ID]int
	if err := json.Unmarshal(b, &out); err != nil || out[public.ID()] != 1 {
		t.Errorf("%s: got %v, %v", b, out, err)
	}
	wantError(t, json.Unmarshal([]byte(`{"ab":1}`), &out), "key ID")
}

// The package comment is the specification; what it shows must be so.
func TestPackageCommentShowsARealKey(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	// Test 1 of RFC 8032, section 7.1.
	seed, _ := hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	public, err := keys.New(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	facts := []string{string(public.ID()), public.Fingerprint()}
	facts = append(facts, strings.Split(strings.TrimSpace(string(public.PEM())), "\n")...)
	for _, fact := range facts {
		if !bytes.Contains(doc, []byte(fact)) {
			t.Errorf("doc.go does not show %s", fact)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	_, public := seeded(f, 1)
	f.Add(public.PEM())
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: bytes.Repeat([]byte{0x30, 0x80}, 100)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := keys.ParsePEM(b)
		if err == nil && (p.IsZero() || !bytes.Equal(p.PEM(), b)) {
			t.Errorf("%q is parsed as %v, which prints as %q", b, p, p.PEM())
		}
	})
}

func FuzzParseID(f *testing.F) {
	_, public := seeded(f, 1)
	f.Add(string(public.ID()))
	f.Add(strings.Repeat("F", 64))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := keys.ParseID(s)
		if err == nil && (string(id) != s || len(id.Fingerprint()) != 19) {
			t.Errorf("%q is parsed as %q with fingerprint %q", s, id, id.Fingerprint())
		}
	})
}

func ExamplePublic_Fingerprint() {
	b, err := os.ReadFile(filepath.Join("testdata", "release.pub"))
	if err != nil {
		panic(err)
	}
	key, err := keys.ParsePEM(b)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(string(key.ID()) + "\n" + key.Fingerprint() + "\n")
	// Output:
	// 74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916
	// 74c1-81c7-ad8a-0855
}
