package signer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/status"
)

// TestDamagedKeys turns every bit of the files of the keys, which have no passphrase here, so that nothing but the public file
// says whose a private one is.
func TestDamagedKeys(t *testing.T) {
	dir := t.TempDir()
	key, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	private, base := key.Public(), filepath.Join(dir, string(releasePart))
	if err := errors.Join(key.WriteUnencrypted(disk.FS{}, base+privateSuffix), os.WriteFile(base+publicSuffix, private.PEM(), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{privateSuffix, publicSuffix} {
		path := filepath.Join(dir, string(releasePart)+suffix)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range 8 * len(good) {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			by, err := (&keyring{dir: dir}).signers(t.Context(), releasePart)
			if err == nil && by[0].Public() != private {
				t.Fatalf("%s, bit %d: another key", path, bit)
			}
			if public, damaged := readPublic(filepath.Join(dir, "release.pub")); err == nil && (damaged != nil || public != private) {
				t.Errorf("%s, bit %d: expected to be told of the public file, got nothing", path, bit)
			}
			if err != nil {
				if out := fmt.Sprintln(err, status.Hints(err)); !strings.Contains(out, path) || !strings.Contains(out, "boxsign restore") && !strings.Contains(out, "move it away") {
					t.Errorf("%s, bit %d: expected the file and a command that mends it, got\n%s", path, bit, out)
				}
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, bad) {
				t.Fatalf("%s was written: %v", path, err)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
