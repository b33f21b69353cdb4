package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
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
	var plain []byte
	err = of.Open(ctx, "the backup "+path, func(passphrase []byte) error {
		if plain, err = unseal(sealed, passphrase); err != nil {
			return fmt.Errorf("backup %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return Contents{}, err
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
		return nil, status.WithHint(err, "compare the typed lines with the paper; a file of age begins with "+strings.TrimSpace(sealedPrefix))
	}
	return sealed, nil
}

// restore writes the files of a checked bundle that the directory lacks, and returns notes about the others.
// On an error, it removes what it wrote.
func (k *keyring) restore(b bundle, c Contents) (notes []string, err error) {
	var u undo
	defer func() {
		if err != nil {
			err = errors.Join(err, u.run())
		}
	}()
	lock, unmake, err := k.lockNew()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	u.add(unmake)
	files, notes, err := k.findLacking(b, c)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := k.writeNew(f, &u); err != nil {
			return nil, err
		}
	}
	return notes, nil
}

// writeNew writes a file, which must not exist. It adds to u what removes the file and a directory that it makes.
func (k *keyring) writeNew(f bundled, u *undo) error {
	path, mode := k.path(filepath.FromSlash(f.path)), fs.FileMode(0o644)
	if strings.HasSuffix(path, privateSuffix) {
		mode = 0o600
	}
	dir := filepath.Dir(path)
	u.addMissing(dir, func() error { return removeEmpty(dir) })
	if err := k.disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err := k.disk.CreateFile(path, f.data, mode)
	if !errors.Is(err, fs.ErrExist) { // another program made it: it is not ours to remove
		u.add(func() error { return k.disk.Remove(path) })
	}
	return err
}

// findLacking returns the files that the directory lacks, in the order in which they are to be written: the trusted
// state first, its timestamp last, and private keys at the end. So nobody can sign before the trusted state is
// complete. A key file that exists with another content is refused.
func (k *keyring) findLacking(b bundle, c Contents) (files []bundled, notes []string, err error) {
	trusted, note, err := k.findLackingTrusted(b, c)
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
			same, err := k.hasSame(f)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				files = append(files, f)
			case err != nil:
				return nil, nil, err
			case !same:
				return nil, nil, status.WithHint(fmt.Errorf("%s: %w, and differs from the backup", k.path(f.path), fs.ErrExist),
					"boxsign never overwrites a key: choose another directory with --keys, or move the old key away")
			default:
				notes = append(notes, f.path+" was there already")
			}
		}
	}
	return files, notes, nil
}

// hasSame reports whether the directory has the file with that content. The error is fs.ErrNotExist if it lacks the
// file.
func (k *keyring) hasSame(f bundled) (bool, error) {
	raw, err := disk.ReadFile(k.path(filepath.FromSlash(f.path)), maxBundle)
	return bytes.Equal(raw, f.data), err
}

// findLackingTrusted returns the files of the trusted state that the directory lacks. If the directory has a state that
// differs, it returns no files and a note where that state is newer, and an error where it is older: versions must
// never go back.
func (k *keyring) findLackingTrusted(b bundle, c Contents) (files []bundled, note string, err error) {
	differs := false
	for _, f := range b.trusted() {
		same, err := k.hasSame(f)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			files = append(files, f)
		case err != nil:
			return nil, "", err
		case !same && strings.HasSuffix(f.path, "."+string(trust.RoleRoot)+".json"):
			if raw, err := disk.ReadFile(k.path(f.path), trust.MaxLength(trust.RoleRoot)); err == nil {
				if _, err := trust.ParseRoot(raw); err != nil {
					return nil, "", status.WithHint(fmt.Errorf("%s: damaged: %w", k.path(f.path), err), "move it away, then run the command again")
				}
			}
			return nil, "", status.WithHint(fmt.Errorf("%s: differs from the root in the backup", k.path(f.path)), "choose another directory with --keys, because keys belong to one repository")
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
	if !covers(versions(here), *c.Trusted) {
		return nil, "", status.WithHint(fmt.Errorf("%s: older than in the backup, or damaged", k.path(trustedDir)), "move it away, then run the command again")
	}
	return nil, "the trusted state in " + k.path(trustedDir) + " is newer and stays", nil
}

// covers reports whether no version of have is lower than that of want.
func covers(have, want status.Versions) bool {
	return have.Root >= want.Root && have.Targets >= want.Targets && have.Snapshot >= want.Snapshot && have.Timestamp >= want.Timestamp
}
