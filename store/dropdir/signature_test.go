package dropdir

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/update"
)

const signedName = "opq-box-update-1550190683.tar.bz2"

func signature(c string) signing.Signature {
	return signing.Signature([]byte(strings.Repeat(c, len(signing.Signature{}))))
}

// relist lists the directory again and returns what lies beside signedName.
func relist(t *testing.T, d *Dir) (signing.Signature, bool) {
	t.Helper()
	if _, err := d.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d.Signature(update.Update{Name: mustName(t, signedName)})
}

func TestSignatureBesideAnArchive(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, signedName, "archive")
	drop(t, dir, signedName+".sig", strings.Repeat("a", 64))
	d := mustOpen(t, Config{Dir: dir})
	if sig, ok := relist(t, d); !ok || sig != signature("a") {
		t.Errorf("got %v, %t", sig, ok)
	}
	if names := names(d); strings.Contains(names, ".sig") || len(d.Health().Warnings) > 0 {
		t.Errorf("listed %s, warnings %q", names, d.Health().Warnings)
	}
	// Whoever keeps what it made of the catalog has to see that a signature is another one.
	before := d.Catalog()
	drop(t, dir, signedName+".sig", strings.Repeat("b", 64))
	if sig, ok := relist(t, d); !ok || sig != signature("b") || d.Catalog() == before {
		t.Errorf("after a change: got %v, %t, same catalog %t", sig, ok, d.Catalog() == before)
	}
	before = d.Catalog()
	if _, ok := relist(t, d); !ok || d.Catalog() != before {
		t.Error("another catalog without a change")
	}
	if err := os.Remove(filepath.Join(dir, signedName+".sig")); err != nil {
		t.Fatal(err)
	}
	if sig, ok := relist(t, d); ok || d.Catalog() == before {
		t.Errorf("after removal: got %v", sig)
	}
}

func TestWhatIsNoSignature(t *testing.T) {
	for label, make := range map[string]func(t *testing.T, path string) (warning string){
		"too short": func(t *testing.T, path string) string {
			write(t, path, strings.Repeat("a", 63))
			return "64 raw bytes"
		},
		"too long": func(t *testing.T, path string) string {
			write(t, path, strings.Repeat("a", 65))
			return "64 raw bytes"
		},
		"link": func(t *testing.T, path string) string {
			target := filepath.Join(t.TempDir(), "sig")
			write(t, target, strings.Repeat("a", 64))
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			return ""
		},
		"directory": func(t *testing.T, path string) string {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			return ""
		},
	} {
		t.Run(label, func(t *testing.T) {
			dir := t.TempDir()
			drop(t, dir, signedName, "archive")
			warning := make(t, filepath.Join(dir, signedName+".sig"))
			d := mustOpen(t, Config{Dir: dir})
			if sig, ok := relist(t, d); ok {
				t.Errorf("got %v", sig)
			}
			w := strings.Join(d.Health().Warnings, "\n")
			if warning == "" && w != "" || !strings.Contains(w, warning) {
				t.Errorf("warnings %q, want one that says %q", w, warning)
			}
		})
	}
}

func TestOpenDigest(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, signedName, "archive")
	d := mustOpen(t, Config{Dir: dir})
	digest := update.Sum([]byte("archive"))
	if _, ok := d.OpenDigest(digest); ok {
		t.Error("opened before it was hashed")
	}
	running(t, d)
	eventually(t, func() bool { return d.Health().Pending == 0 })
	eventually(t, func() bool { u, _ := d.Catalog().Lookup(mustName(t, signedName)); return !u.Digest.IsZero() })
	f, ok := d.OpenDigest(digest)
	if !ok {
		t.Fatal("not found")
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "archive" {
		t.Errorf("got %q, %v", b, err)
	}
	if f, ok := d.OpenDigest(update.Digest{}); ok {
		t.Errorf("opened %s for no digest", f.Name())
	}
}
