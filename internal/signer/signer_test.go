package signer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/status"
)

// newSigner returns a signer with keys that have no passphrase, an empty repository in a directory, and the archives p-1.tar.gz
// and p-2.tar.gz. What it warns of goes to the log of the test; it agrees to all.
func newSigner(t *testing.T) (s *Signer, archives []string) {
	t.Helper()
	dir := t.TempDir()
	s = &Signer{Keys: filepath.Join(dir, "K"), Repository: filepath.Join(dir, "R"), Now: time.Now, Warn: func(m string) { t.Log(m) }}
	writeKeys(t, s.Keys, "root", "release", "online")
	src := filepath.Join(dir, "DIR")
	if err := errors.Join(os.Mkdir(src, 0o755), os.WriteFile(filepath.Join(src, "install_update.sh"), []byte("#!/bin/sh\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"p-1.tar.gz", "p-2.tar.gz"} {
		path := filepath.Join(dir, name)
		if _, err := s.Build(t.Context(), src, BuildOptions{Out: path}); err != nil {
			t.Fatal(err)
		}
		archives = append(archives, path)
	}
	if _, err := s.Init(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	return s, archives
}

func writeKeys(t *testing.T, dir string, roles ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, role := range roles {
		key, err := secret.Generate()
		if err == nil {
			err = key.WriteUnencrypted(disk.FS{}, filepath.Join(dir, role+".pem"))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, role+".pub"), key.Public().PEM(), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// failing fails each change of a file with that name.
func failing(name string, err error) disk.FS {
	return disk.FS{Hook: func(_ disk.Op, path string) (bool, error) {
		if filepath.Base(path) == name {
			return false, err
		}
		return true, nil
	}}
}

// A list that could not be published does not wait, unless it did so before.
func TestPublishFails(t *testing.T) {
	broken := errors.New("broken")
	s, archives := newSigner(t)
	s.Disk = failing("2.targets.json", broken)
	if _, err := s.Add(t.Context(), AddOptions{}, archives[0]); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	s.Disk = disk.FS{}
	waiting := func() []Change {
		t.Helper()
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.Pending
	}
	if got := waiting(); len(got) > 0 {
		t.Errorf("expected nothing to wait, got %+v", got)
	}
	if c, err := s.Add(t.Context(), AddOptions{ListOptions: ListOptions{Hold: true}}, archives[0]); err != nil || c.State != stateWaiting || c.To != 2 {
		t.Fatalf("got %+v, %v", c, err)
	}
	s.Disk = failing("2.targets.json", broken)
	if _, err := s.Cosign(t.Context(), CosignOptions{}); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	s.Disk = disk.FS{}
	if got := waiting(); len(got) != 1 || got[0].To != 2 {
		t.Errorf("expected the list to wait on, got %+v", got)
	}
	if c, err := s.Cosign(t.Context(), CosignOptions{}); err != nil || c.State != statePublished {
		t.Errorf("got %+v, %v", c, err)
	}
	if got := waiting(); len(got) > 0 {
		t.Errorf("expected nothing to wait, got %+v", got)
	}
}

// Who asks sees what would be signed, and what was not agreed to is neither signed nor kept.
func TestConfirm(t *testing.T) {
	s, archives := newSigner(t)
	refused := errors.New("refused")
	var shown strings.Builder
	s.Confirm = func(_ context.Context, what Result, question string) error {
		shown.WriteString(what.Text() + question)
		return refused
	}
	before, err := os.ReadFile(filepath.Join(s.Repository, "metadata", "timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(t.Context(), AddOptions{}, archives...); !errors.Is(err, refused) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"targets: 1 -> 2\n", "added: p-1.tar.gz version 1, digest ", "added: p-2.tar.gz ", "Sign this?"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("expected %q in %q", want, shown.String())
		}
	}
	after, err := os.ReadFile(filepath.Join(s.Repository, "metadata", "timestamp.json"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("another timestamp: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(s.Keys, signedFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a signed list was kept: %v", err)
	}
}

// What a command line leaves out is said once it is needed.
func TestNamedNothing(t *testing.T) {
	s := &Signer{Now: time.Now}
	_, noKeys := s.Status(t.Context())
	s.Keys = t.TempDir()
	_, noRepository := s.Status(t.Context())
	s.Repository = "ftp://h"
	_, noURL := s.Status(t.Context())
	for err, want := range map[error]string{noKeys: "no directory of keys", noRepository: "no repository", noURL: "ftp://h: expected a directory, or a URL"} {
		if err == nil || !strings.HasPrefix(err.Error(), want) || status.ExitCode(err) != status.ExitUsage {
			t.Errorf("expected %q, got %v", want, err)
		}
	}
}
