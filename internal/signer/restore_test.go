package signer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// cheap is a cost that lets a test try a thousand times.
const cheap = 1

func TestSealed(t *testing.T) {
	plain, passphrase := sampleBundle().Bytes(), []byte("correct horse")
	sealed, err := seal(plain, passphrase, cheap)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unseal(sealed, passphrase); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := unseal(sealed, []byte("correct horsf")); !errors.Is(err, secret.ErrPassphrase) {
		t.Errorf("another passphrase: got %v", err)
	}
	// The passphrase is checked by the second line; what is wrong there can't be told from a wrong one.
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := unseal(bad, passphrase); !errors.Is(err, errDamaged) && !errors.Is(err, secret.ErrPassphrase) {
			t.Errorf("byte %d flipped: got %v", i, err)
		}
	}
	for n := range sealed {
		if _, err := unseal(sealed[:n], passphrase); !errors.Is(err, errDamaged) {
			t.Errorf("cut after %d bytes: got %v", n, err)
		}
	}
}

// TestSealedCost refuses a file that would take gigabytes to open.
func TestSealedCost(t *testing.T) {
	sealed, err := seal([]byte("x"), []byte("x"), cheap)
	if err != nil {
		t.Fatal(err)
	}
	hostile := bytes.Replace(sealed, []byte(" 1\n"), []byte(" 30\n"), 1)
	if _, err := unseal(hostile, []byte("x")); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "work factor too large") {
		t.Errorf("got %v", err)
	}
}

// seeded returns a key whose seed is 32 times b, and its file.
func seeded(t *testing.T, b byte) (*secret.Key, []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := secret.Loader{}.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return key, raw
}

// history returns the backups of one directory of keys, each made after a further timestamp.
func history(t *testing.T, n int) []bundle {
	t.Helper()
	day := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var by []signing.Signer
	var public []keys.Public
	base := bundle{made: day}
	for i, name := range []string{"online", "release", "root"} {
		key, raw := seeded(t, byte(i+1))
		by, public = append(by, key), append(public, key.Public())
		base.files = append(base.files, bundled{name + ".pem", raw}, bundled{name + ".pub", key.Public().PEM()})
	}
	repo, err := trust.Init(t.Context(), day, trust.Setup{
		Online: public[0], Release: trust.Holder{Keys: public[1:2], Threshold: 1}, Root: trust.Holder{Keys: public[2:], Threshold: 1},
	}, by...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	state, err := trust.Open(trust.Config{Dir: dir, Pinned: repo.Raw(trust.RoleRoot)})
	if err != nil {
		t.Fatal(err)
	}
	var out []bundle
	for i := range n {
		if err := state.Commit(repo); err != nil {
			t.Fatal(err)
		}
		out = append(out, base.with(t, dir))
		if repo, err = repo.Next(t.Context(), day.Add(time.Duration(i)*time.Hour), trust.Change{}, by[0]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// with returns the bundle with the state in dir.
func (b bundle) with(t *testing.T, dir string) bundle {
	t.Helper()
	out := bundle{made: b.made, files: append([]bundled(nil), b.files...)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if path := trustedDir + "/" + e.Name(); isKept(path) {
			out.files = append(out.files, bundled{path, data})
		}
	}
	return out
}

func restoreInto(t *testing.T, dir string, b bundle, disk disk.FS) ([]string, error) {
	t.Helper()
	c, err := b.check()
	if err != nil {
		t.Fatal(err)
	}
	return (&keyring{dir: dir, disk: disk}).restore(b, c)
}

func wantHeld(t *testing.T, dir string, b bundle) {
	t.Helper()
	for _, f := range b.files {
		if raw, err := os.ReadFile(filepath.Join(dir, f.path)); err != nil || !bytes.Equal(raw, f.data) {
			t.Errorf("%s: got %q, %v", f.path, raw, err)
		}
	}
}

// A state never goes back: not to an older backup, and not half of it.
func TestRestoreNeverGoesBack(t *testing.T) {
	all := history(t, 3)
	dir := filepath.Join(t.TempDir(), "K")
	if _, err := restoreInto(t, dir, all[1], disk.FS{}); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, dir, all[1])
	if notes, err := restoreInto(t, dir, all[0], disk.FS{}); err != nil || !strings.Contains(strings.Join(notes, "\n"), "is newer and stays") {
		t.Errorf("an older backup: got %q, %v", notes, err)
	}
	if _, err := restoreInto(t, dir, all[2], disk.FS{}); err == nil || !strings.Contains(err.Error(), "older than in the backup") {
		t.Errorf("a newer backup: got %v", err)
	}
	wantHeld(t, dir, all[1])
	if err := os.Remove(filepath.Join(dir, trustedDir, trust.TimestampName)); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreInto(t, dir, all[1], disk.FS{}); err != nil {
		t.Errorf("what is missing: %v", err)
	}
	wantHeld(t, dir, all[1])
}

func TestRestoreNeverOverwrites(t *testing.T) {
	b := history(t, 1)[0]
	for _, path := range []string{"root.pem", "online.pub", "trusted/1.root.json"} {
		dir := t.TempDir()
		mine := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(mine), 0o700), os.WriteFile(mine, []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := restoreInto(t, dir, b, disk.FS{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
		left := 0
		err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				left++
			}
			return err
		})
		if raw, readErr := os.ReadFile(mine); err != nil || readErr != nil || string(raw) != "mine" || left != 1 {
			t.Errorf("%s: %q is there, among %d files: %v, %v", path, raw, left, err, readErr)
		}
	}
}

// Whatever step of the disk fails, nothing is left, and the same said again succeeds.
func TestRestoreOnABadDisk(t *testing.T) {
	b := history(t, 2)[1]
	broken := errors.New("broken")
	for step := 0; ; step++ {
		dir := filepath.Join(t.TempDir(), "K")
		n := 0
		fsys := disk.FS{Hook: func(op disk.Op, _ string) (bool, error) {
			if op == disk.OpRemove {
				return true, nil
			}
			if n++; n == step+1 {
				return step%2 == 0, broken
			}
			return true, nil
		}}
		_, err := restoreInto(t, dir, b, fsys)
		if err == nil {
			if step < 30 {
				t.Fatalf("only %d steps", step)
			}
			break
		}
		if !errors.Is(err, broken) {
			t.Fatalf("step %d: %v", step, err)
		}
		if left, err := os.ReadDir(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("step %d: left behind: %v, %v", step, left, err)
		}
		if _, err := restoreInto(t, dir, b, disk.FS{}); err != nil {
			t.Fatalf("step %d: said again: %v", step, err)
		}
		wantHeld(t, dir, b)
	}
}

// Whenever the computer stops, a private key is there only with all that it trusts: who signs then goes back behind
// nothing.
func TestRestoreCutShort(t *testing.T) {
	b := history(t, 2)[1]
	stopped := errors.New("stopped")
	for step := 0; ; step++ {
		dir := filepath.Join(t.TempDir(), "K")
		n := 0
		fsys := disk.FS{Hook: func(disk.Op, string) (bool, error) {
			if n++; n > step {
				return false, stopped
			}
			return true, nil
		}}
		_, err := restoreInto(t, dir, b, fsys)
		if err == nil {
			if step < 30 {
				t.Fatalf("only %d steps", step)
			}
			break
		}
		if !errors.Is(err, stopped) {
			t.Fatalf("step %d: %v", step, err)
		}
		if keys, err := filepath.Glob(filepath.Join(dir, "*.pem")); err != nil || len(keys) == 0 {
			continue
		}
		for _, f := range b.files {
			if _, err := os.Stat(filepath.Join(dir, f.path)); err != nil && !strings.HasSuffix(f.path, ".pem") {
				t.Errorf("step %d: a private key is there without %s", step, f.path)
			}
		}
	}
}

func TestBundleCheck(t *testing.T) {
	good := history(t, 1)[0]
	_, other := seeded(t, 9)
	for _, c := range []struct {
		name, path string
		data       []byte
		want       string
	}{
		{"half of a key", "root.pem", good.content("root.pem")[:50], "root.pem: expected a PEM block"},
		{"another key", "online.pem", other, "online.pem: it does not belong to the public key"},
		{"a public key as private", "root.pem", good.content("root.pub"), "this is the public half"},
		{"no public key", "release.pub", []byte("x"), "public key: expected a PEM block"},
		{"no agent's key", "release.agent", []byte("ssh-agent:SHA256:x\n"), "release.agent: expected \"ssh-agent:SHA256:"},
		{"a root that was changed", "trusted/1.root.json", bytes.Replace(good.content("trusted/1.root.json"), []byte("2031"), []byte("2032"), 1), "trusted state: "},
		{"an encrypted key that would take gigabytes", "root.pem", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY",
			Bytes: []byte(`{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1},"salt":""},"cipher":{"name":"nacl/secretbox","nonce":""},"ciphertext":""}`)}), "damaged or hostile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bundle{made: good.made}
			for _, f := range good.files {
				if f.path != c.path {
					b.files = append(b.files, f)
				}
			}
			b.files = append(b.files, bundled{c.path, c.data})
			if _, err := b.check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if c, err := good.check(); err != nil || *c.Trusted != (status.Versions{Root: 1, Targets: 1, Snapshot: 1, Timestamp: 1}) {
		t.Errorf("got %+v, %v", c, err)
	}
}

// Neither is made nor restored while another program uses the keys: half of what it writes would be in it.
func TestBackupWhileSigning(t *testing.T) {
	b := history(t, 1)[0]
	dir := filepath.Join(t.TempDir(), "K")
	if _, err := restoreInto(t, dir, b, disk.FS{}); err != nil {
		t.Fatal(err)
	}
	lock, err := disk.TryLock(filepath.Join(dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	ring := &keyring{dir: dir}
	if _, err := ring.bundle(nil, b.made); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("backup: got %v", err)
	}
	if _, err := restoreInto(t, dir, b, disk.FS{}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("restore: got %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if again, err := ring.bundle(nil, b.made); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestRestoreCrashes ends restore before each change of the disk, and runs it again: all files are there.
func TestRestoreCrashes(t *testing.T) {
	b := history(t, 2)[1]
	c, err := b.check()
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "N")
		disk, steps := testworld.Crash(n, false)
		_, err := (&keyring{dir: dir, disk: disk}).restore(b, c)
		if err == nil && *steps < n {
			break
		}
		if !errors.Is(err, testworld.ErrCrash) {
			t.Fatalf("crash before change %d: %v", n, err)
		}
		if _, err := (&keyring{dir: dir}).restore(b, c); err != nil {
			t.Errorf("crash before change %d, and run again: %v", n, err)
		}
		for _, f := range b.files {
			if got, err := os.ReadFile(filepath.Join(dir, f.path)); err != nil || !bytes.Equal(got, f.data) {
				t.Errorf("crash before change %d: %s: got %d bytes, %v", n, f.path, len(got), err)
			}
		}
	}
}
