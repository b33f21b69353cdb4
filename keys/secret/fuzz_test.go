package secret

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

func FuzzParse(f *testing.F) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	plain, err := cryptoutils.MarshalPrivateKeyToPEM(private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(`-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
`))
	der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(private, cryptoutils.StaticPasswordFunc([]byte("x")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cryptoutils.PEMEncode(cryptoutils.EncryptedSigstorePrivateKeyPEMType, der))
	asked := errors.New("asked")
	// scrypt would make each run take 100 ms: the file must be sound, or refused, when it would begin.
	l := Loader{Passphrase: Passphrase{From: func(context.Context, Request) ([]byte, error) { return nil, asked }}}
	f.Fuzz(func(t *testing.T, b []byte) {
		private, err := l.parse(t.Context(), "key", b)
		if public, checked := CheckFile(b); (checked == nil) != (err == nil || errors.Is(err, asked)) || public.IsZero() == (err == nil) {
			t.Errorf("%q: %v as parsed, %v, %v as checked", b, err, public, checked)
		}
		switch {
		case errors.Is(err, asked) && !bytes.HasPrefix(b, []byte("-----BEGIN "+encryptedType)):
			t.Errorf("a passphrase was asked for %q", b)
		case err == nil:
			if again, err := cryptoutils.MarshalPrivateKeyToPEM(private); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%q is parsed as what prints as %q, %v", b, again, err)
			}
		}
	})
}

func FuzzParseAgentName(f *testing.F) {
	f.Add("ssh-agent:SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8")
	f.Add("ssh-agent:SHA256:")
	f.Fuzz(func(t *testing.T, s string) {
		if fingerprint, err := parseAgentName(s); err == nil && (agentPrefix+fingerprint != s || len(s) != 60) {
			t.Errorf("%q is parsed as %q", s, fingerprint)
		}
	})
}
