package signer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// A backup is the file that age makes (age-encryption.org/v1, one scrypt recipient) of a bundle:
//
//	boxsign backup 1
//	made 2026-03-01T12:00:00Z
//	file release.pem 645
//	-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
//	…
//	-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
//
//	file release.pub 113
//	…
//	end
//
// Each file is its path in the directory of keys, its length in bytes, its bytes, and a newline. Paths are in
// ascending order. A person can get a key out of a backup with age and a text editor alone.
const (
	bundleBegin = "boxsign backup 1\n"
	bundleEnd   = "end\n"
)

// maxBundle bounds a bundle in bytes. The largest list, the largest ledger and the roots of centuries fit in.
const maxBundle = 64 << 20

// bundle is what a backup holds.
type bundle struct {
	made  time.Time // in whole seconds
	files []bundled
}

// bundled is one file of a directory of keys.
type bundled struct {
	path string // with slashes
	data []byte
}

// keyFile matches the name of a file of a key: its part, whether it is the next key or a replaced one (by
// fingerprint), and its suffix.
var keyFile = regexp.MustCompile(`^(root|release|online)(\.next|\.[0-9a-f]{4}(?:-[0-9a-f]{4}){3})?(\.pem|\.agent|\.pub)$`)

// isKept reports whether a backup holds the file at a path in the directory of keys.
func isKept(file string) bool {
	if keyFile.MatchString(file) {
		return true
	}
	dir, name := path.Split(file)
	if dir != trustedDir+"/" {
		return false
	}
	_, _, ok := trust.ParseFileName(name)
	return ok || name == trust.LedgerName
}

// Bytes returns the bundle in the form that parseBundle parses.
func (b bundle) Bytes() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%smade %s\n", bundleBegin, stamp(b.made))
	for _, f := range b.files {
		fmt.Fprintf(&out, "file %s %d\n%s\n", f.path, len(f.data), f.data)
	}
	out.WriteString(bundleEnd)
	return out.Bytes()
}

// parseBundle parses the one accepted spelling of a bundle. It doesn't look into the files; check does.
func parseBundle(raw []byte) (bundle, error) {
	rest, ok := bytes.CutPrefix(raw, []byte(bundleBegin))
	if !ok {
		return bundle{}, fmt.Errorf("expected %q", strings.TrimSpace(bundleBegin))
	}
	line, rest, _ := bytes.Cut(rest, []byte("\n"))
	made, err := time.Parse(time.RFC3339, strings.TrimPrefix(string(line), "made "))
	if err != nil || "made "+stamp(made) != string(line) {
		return bundle{}, fmt.Errorf("expected the time when it was made, got %.60q", line)
	}
	b := bundle{made: made}
	for !bytes.Equal(rest, []byte(bundleEnd)) {
		var f bundled
		if f, rest, err = parseBundled(rest); err != nil {
			return bundle{}, err
		}
		if n := len(b.files); n > 0 && b.files[n-1].path >= f.path {
			return bundle{}, fmt.Errorf("file %s after %s: expected ascending paths", f.path, b.files[n-1].path)
		}
		b.files = append(b.files, f)
	}
	return b, nil
}

// parseBundled parses the file that text begins with, and returns what follows it.
func parseBundled(text []byte) (bundled, []byte, error) {
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	words := strings.Split(string(line), " ")
	if len(words) != 3 || words[0] != "file" || !isKept(words[1]) {
		return bundled{}, nil, fmt.Errorf("expected a file or the end, got %.60q", line)
	}
	n, err := strconv.Atoi(words[2])
	if err != nil || strconv.Itoa(n) != words[2] || n < 0 || n >= len(rest) || rest[n] != '\n' {
		return bundled{}, nil, fmt.Errorf("file %s: expected %.20s bytes and a newline", words[1], words[2])
	}
	return bundled{words[1], rest[:n]}, rest[n+1:], nil
}

// content returns the content of the file at path, nil if the bundle lacks it.
func (b bundle) content(path string) []byte {
	for _, f := range b.files {
		if f.path == path {
			return f.data
		}
	}
	return nil
}

// trusted returns the files of the trusted state.
func (b bundle) trusted() []bundled {
	var out []bundled
	for _, f := range b.files {
		if strings.HasPrefix(f.path, trustedDir+"/") {
			out = append(out, f)
		}
	}
	return out
}

// check checks the files of a bundle, as far as that is possible without the passphrases of the keys:
// each file is what its name says, the files of a key fit together, and the trusted state verifies.
func (b bundle) check() (Contents, error) {
	c := Contents{Made: b.made, Keys: []string{}}
	for _, f := range b.files {
		if !keyFile.MatchString(f.path) {
			continue
		}
		if err := b.checkKey(f); err != nil {
			return Contents{}, fmt.Errorf("%s: %w", f.path, err)
		}
		c.Keys = append(c.Keys, f.path)
		if strings.HasSuffix(f.path, agentSuffix) {
			c.Notes = append(c.Notes, f.path+" names a key in an ssh-agent: the key itself is not in the backup")
		}
	}
	if len(b.trusted()) == 0 {
		c.Notes = append(c.Notes, "no trusted state: the first command after a restore needs --root FILE, the root to trust")
		return c, nil
	}
	t, err := b.checkTrusted()
	c.Trusted = &t
	return c, err
}

func (b bundle) checkKey(f bundled) error {
	base := strings.TrimSuffix(f.path, filepath.Ext(f.path))
	var public keys.Public
	if raw := b.content(base + publicSuffix); raw != nil {
		var err error
		if public, err = keys.ParsePEM(raw); err != nil {
			return err
		}
	}
	switch {
	case strings.HasSuffix(f.path, agentSuffix):
		if name := secret.AgentName(public); string(f.data) != name+"\n" {
			return fmt.Errorf("expected %q, the name of the public key beside it", name)
		}
	case strings.HasSuffix(f.path, privateSuffix):
		own, err := secret.CheckFile(f.data)
		if err != nil {
			return err
		}
		if !own.IsZero() && !public.IsZero() && own != public {
			return errors.New("it does not belong to the public key beside it")
		}
	}
	return nil
}

// checkTrusted verifies the trusted state, from its oldest root.
func (b bundle) checkTrusted() (v status.Versions, err error) {
	err = inTempDir(func(dir string) error {
		for _, f := range b.trusted() {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.path)), f.data, 0o600); err != nil {
				return err
			}
		}
		state, err := trust.Open(trust.Config{Dir: dir, DeferRoots: true})
		if err != nil {
			return fmt.Errorf("trusted state: %w", err)
		}
		v = versions(state)
		return nil
	})
	return v, err
}

// versions returns the versions of the metadata in a state.
func versions(s *trust.State) status.Versions {
	r, err := s.Current()
	if err != nil {
		return status.Versions{Root: s.Root().Version()}
	}
	v := r.Versions()
	v.Root = s.Root().Version()
	return v
}

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
// age checks the passphrase, is secret.ErrPassphrase too, because the two look the same.
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
	plain, err := disk.ReadAll(r, maxBundle)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, explain.Cut("it", err))
	}
	return plain, nil
}
