package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

const stateRestored = "restored"

// Restore writes the keys and the trusted state of a backup into the directory of keys. The file at path is one that
// Backup wrote, or text that was typed or scanned from paper. Restore verifies the whole backup before it writes
// anything, and never overwrites a file.
func (s *Signer) Restore(ctx context.Context, path string, of secret.Passphrase) (c Contents, err error) {
	defer func() { err = withHint(err) }()
	ring, err := s.ring()
	if err != nil {
		return Contents{}, err
	}
	sealed, err := readBackup(path)
	if errors.As(err, new(*fs.PathError)) {
		return Contents{}, fmt.Errorf("backup: %w", err) // a PathError names the file
	}
	if err != nil {
		return Contents{}, fmt.Errorf("backup %s: %w", path, err)
	}
	passphrase, err := of.Ask(ctx, "the backup "+path, false)
	if err != nil {
		return Contents{}, err
	}
	defer clear(passphrase)
	plain, err := unseal(sealed, passphrase)
	if err != nil {
		return Contents{}, fmt.Errorf("backup %s: %w", path, err)
	}
	defer clear(plain)
	b, err := parseBundle(plain)
	if err != nil {
		return Contents{}, fmt.Errorf("backup %s: %w: %w", path, errDamaged, err)
	}
	if c, err = b.check(); err != nil {
		return Contents{}, fmt.Errorf("backup %s: %w", path, err)
	}
	if c.State = stateDryRun; s.DryRun {
		return c, nil
	}
	notes, err := ring.restore(b, c)
	if err != nil {
		return Contents{}, err
	}
	c.Into, c.State, c.Notes = ring.dir, stateRestored, append(c.Notes, notes...)
	return c, nil
}

// readBackup returns the encrypted backup, from the file that age made or from typed text.
func readBackup(path string) ([]byte, error) {
	raw, err := disk.ReadFile(path, maxSealed)
	if err != nil || bytes.HasPrefix(raw, []byte(sealedPrefix)) {
		return raw, err
	}
	sealed, err := parsePaper(raw)
	if err != nil {
		return nil, status.WithHint(err, "lines that were typed are compared with the paper; a file of age begins with "+strings.TrimSpace(sealedPrefix))
	}
	return sealed, nil
}

// restore writes the files of a checked bundle that the directory lacks, and returns notes about the others.
// On an error, it removes what it wrote.
func (k *keyring) restore(b bundle, c Contents) (notes []string, err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for _, u := range slices.Backward(undo) {
				err = errors.Join(err, u())
			}
		}
	}()
	lock, unmake, err := k.lockNew()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	undo = append(undo, unmake)
	files, notes, err := k.lacking(b, c)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if undo, err = k.put(f, undo); err != nil {
			return nil, err
		}
	}
	return notes, nil
}

// makeDir makes a directory if it is missing, for its owner alone. It returns undo with what removes the directory
// again.
func (k *keyring) makeDir(dir string, undo []func() error) ([]func() error, error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		undo = append(undo, func() error { return removeEmpty(dir) })
	}
	return undo, k.disk.MkdirAll(dir, 0o700)
}

// put writes a file, which must not exist. It returns undo with what removes the file again.
func (k *keyring) put(f bundled, undo []func() error) ([]func() error, error) {
	path, mode := k.path(filepath.FromSlash(f.path)), fs.FileMode(0o644)
	if strings.HasSuffix(path, privateSuffix) {
		mode = 0o600
	}
	undo, err := k.makeDir(filepath.Dir(path), undo)
	if err != nil {
		return undo, err
	}
	if err = k.disk.CreateFile(path, f.data, mode); !errors.Is(err, fs.ErrExist) { // another program made it: it is not ours to remove
		undo = append(undo, func() error { return k.disk.Remove(path) })
	}
	return undo, err
}

// lacking returns the files that the directory lacks, in the order in which they are to be written: the trusted
// state first, its timestamp last, and private keys at the end. So nobody can sign before the trusted state is
// complete. A key file that exists with another content is refused.
func (k *keyring) lacking(b bundle, c Contents) (files []bundled, notes []string, err error) {
	trusted, note, err := k.lackingTrusted(b, c)
	if err != nil {
		return nil, nil, err
	}
	if note != "" {
		notes = append(notes, note)
	}
	files = trusted
	for _, suffix := range []string{publicSuffix, agentSuffix, privateSuffix} {
		for _, f := range b.files {
			if !keyFile.MatchString(f.path) || !strings.HasSuffix(f.path, suffix) {
				continue
			}
			same, err := k.same(f)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				files = append(files, f)
			case err != nil:
				return nil, nil, err
			case !same:
				return nil, nil, status.WithHint(fmt.Errorf("%s: %w, and it is another", k.path(f.path), fs.ErrExist),
					"a key is never overwritten: choose another directory with --keys, or move the old one away")
			default:
				notes = append(notes, f.path+" was there already")
			}
		}
	}
	return files, notes, nil
}

// same reports whether the directory has the file with that content. The error is fs.ErrNotExist if it lacks the
// file.
func (k *keyring) same(f bundled) (bool, error) {
	raw, err := disk.ReadFile(k.path(filepath.FromSlash(f.path)), maxBundle)
	return bytes.Equal(raw, f.data), err
}

// lackingTrusted returns the files of the trusted state that the directory lacks. If the directory has a state that
// differs, it returns no files and a note where that state is newer, and an error where it is older: versions must
// never go back.
func (k *keyring) lackingTrusted(b bundle, c Contents) (files []bundled, note string, err error) {
	differs := false
	for _, f := range b.trusted() {
		same, err := k.same(f)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			files = append(files, f)
		case err != nil:
			return nil, "", err
		case !same && strings.HasSuffix(f.path, "."+string(trust.RoleRoot)+".json"):
			if raw, err := disk.ReadFile(k.path(f.path), trust.MaxLength(trust.RoleRoot)); err == nil {
				if _, err := trust.ParseRoot(raw); err != nil {
					return nil, "", status.WithHint(fmt.Errorf("%s: it is damaged: %w", k.path(f.path), err), "move it away, then run the command again")
				}
			}
			return nil, "", status.WithHint(fmt.Errorf("%s: another root than in the backup", k.path(f.path)), "keys belong to one repository: choose another directory with --keys")
		default:
			differs = differs || !same
		}
	}
	if !differs {
		return files, "", nil // sorted, with timestamp.json at the end
	}
	here, err := trust.Open(trust.Config{Dir: k.path(trustedDir), DeferRoots: true})
	if err != nil {
		return nil, "", status.WithHint(err, "move "+k.path(trustedDir)+" away, then run the command again")
	}
	if !versions(here).covers(*c.Trusted) {
		return nil, "", status.WithHint(fmt.Errorf("%s: older than in the backup, or damaged", k.path(trustedDir)), "move it away, then run the command again")
	}
	return nil, "the trusted state in " + k.path(trustedDir) + " is newer and stays", nil
}
