package signer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/status"
)

// BackupOptions say what a backup holds and where it goes.
type BackupOptions struct {
	Passphrase secret.Passphrase // of the backup; it is independent of the passphrases of the keys
	Out        string            // the file, which must not exist; "" to return the bytes alone
	Roles      []string          // only the keys of these roles, without the trusted state; empty for everything
	Paper      bool              // as text to print, and to type or scan in again; without Roles it holds the root key alone
}

// Contents describes a backup.
type Contents struct {
	File    string           `json:"file,omitempty"`
	Made    time.Time        `json:"made"`
	Keys    []string         `json:"keys"`              // names of the key files
	Trusted *status.Versions `json:"trusted,omitempty"` // nil: the backup has no trusted state
	Notes   []string         `json:"notes,omitempty"`
	Into    string           `json:"into,omitempty"` // the directory of keys that Restore wrote to
	State   string           `json:"state,omitempty"`
}

// Backup encrypts keys and trusted state. It writes them into the file o.Out, unless that is "", and returns what the
// backup holds and its bytes. A file that exists is refused with fs.ErrExist.
func (s *Signer) Backup(ctx context.Context, o BackupOptions) (c Contents, raw []byte, err error) {
	defer func() { err = withHint(err) }()
	if o.Paper && len(o.Roles) == 0 {
		o.Roles = []string{string(rootPart)}
	}
	ring, err := s.ring()
	if err != nil {
		return Contents{}, nil, err
	}
	if err := disk.RefuseExisting(o.Out); err != nil {
		return Contents{}, nil, status.WithHint(err, "boxsign never overwrites a backup: choose another name")
	}
	b, err := ring.bundle(o.Roles, s.Now())
	if err != nil {
		return Contents{}, nil, err
	}
	if c, err = b.check(); err != nil {
		return Contents{}, nil, fmt.Errorf("keys in %s: %w", ring.dir, err)
	}
	passphrase, err := o.Passphrase.Choose(ctx, "the backup")
	if err != nil {
		return Contents{}, nil, err
	}
	defer clear(passphrase)
	if raw, err = sealedBundle(b, passphrase, cmp.Or(s.SealCost, sealCost)); err != nil {
		return Contents{}, nil, err
	}
	if o.Paper {
		if raw, err = paper(raw, c); err != nil {
			return Contents{}, nil, err
		}
	}
	if o.Out != "" {
		if err := ring.disk.CreateFile(o.Out, raw, 0o600); err != nil {
			return Contents{}, nil, err
		}
		c.File = o.Out
	}
	return c, raw, nil
}

// sealedBundle encrypts a bundle, then decrypts the result and compares the two: a backup that can't be read
// would be noticed only when it is needed.
func sealedBundle(b bundle, passphrase []byte, cost int) ([]byte, error) {
	plain := b.Bytes()
	defer clear(plain)
	sealed, err := seal(plain, passphrase, cost)
	if err != nil {
		return nil, err
	}
	again, err := unseal(sealed, passphrase)
	if err != nil {
		return nil, fmt.Errorf("read the backup again: %w", err)
	}
	defer clear(again)
	if !bytes.Equal(again, plain) {
		return nil, errors.New("read the backup again: it differs; the memory of this computer may be faulty")
	}
	return sealed, nil
}

// paper returns a backup as text, with instructions for the person who restores it. A backup of more than
// maxPrinted bytes is refused.
func paper(sealed []byte, c Contents) ([]byte, error) {
	if len(sealed) > maxPrinted {
		return nil, status.WithHint(fmt.Errorf("a backup of %d bytes is too long for paper", len(sealed)), "choose keys with --role")
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# A backup by boxsign of %s, made %s.\n", strings.Join(c.Keys, ", "), stamp(c.Made))
	out.WriteString("# To restore it, type or scan the lines into a file, and run: boxsign restore FILE --keys DIR\n")
	out.WriteString("# boxsign names each wrong line. Lower case is fine, and so are O for 0, I and L for 1. Spaces and lines that\n")
	out.WriteString("# begin with # are ignored. boxsign asks for the passphrase of the backup.\n")
	out.Write(printPaper(sealed))
	return out.Bytes(), nil
}

// bundle reads what goes into a backup: the keys of the given roles or, without roles, all keys and the
// trusted state. It holds the lock of the directory, so that no other program signs meanwhile.
func (k *keyring) bundle(roles []string, at time.Time) (b bundle, err error) {
	for _, r := range roles {
		if _, err := parsePart(r); err != nil {
			return bundle{}, err
		}
	}
	lock, err := k.lock()
	if err != nil {
		return bundle{}, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	names, err := k.keptFiles()
	if err != nil {
		return bundle{}, err
	}
	b.made = at.UTC().Truncate(time.Second)
	private := false
	for _, name := range names {
		m := keyFile.FindStringSubmatch(name)
		// A backup of some roles, which may go onto paper, has only the present keys and the next ones: no
		// replaced keys, whose names have a fingerprint, and no trusted state.
		if len(roles) > 0 && (m == nil || !slices.Contains(roles, m[1]) || len(m[2]) > len(nextInfix)) {
			continue
		}
		data, err := disk.ReadFile(k.path(filepath.FromSlash(name)), maxBundle)
		if err != nil {
			return bundle{}, err
		}
		private = private || m != nil && m[3] != publicSuffix
		b.files = append(b.files, bundled{name, data})
	}
	if !private {
		return bundle{}, status.WithHint(fmt.Errorf("%s: no private key to back up", k.dir), "boxsign key show lists your keys")
	}
	return b, nil
}

// keptFiles returns the paths of the files that a full backup of the directory holds, in ascending order.
func (k *keyring) keptFiles() ([]string, error) {
	var out []string
	for _, dir := range []string{"", trustedDir + "/"} {
		entries, err := os.ReadDir(k.path(dir))
		if err != nil && !(dir != "" && errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		for _, e := range entries {
			if name := dir + e.Name(); isKept(name) && !e.IsDir() {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// Text returns the contents for people.
func (c Contents) Text() string {
	text := lines("backup", c.File, "made", stamp(c.Made)) + each("key", c.Keys)
	if t := c.Trusted; t != nil {
		text += lines("trusted", fmt.Sprintf("root %d, targets %d, snapshot %d, timestamp %d", t.Root, t.Targets, t.Snapshot, t.Timestamp))
	}
	return text + each("note", c.Notes) + lines("into", c.Into, "state", c.State)
}
