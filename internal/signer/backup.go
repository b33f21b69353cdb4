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
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// BackupOptions say what a backup holds and where it goes.
type BackupOptions struct {
	Passphrase secret.Passphrase // of the backup, which is not that of a key
	Out        string            // the file, which must not exist; "" to return the bytes alone
	Roles      []string          // only the keys of these, and no trusted state; none for all
	Paper      bool              // as text that can be typed or scanned again, of the root key alone where there are no Roles
}

// Contents are what is said of a backup.
type Contents struct {
	File    string        `json:"file,omitempty"`
	Made    time.Time     `json:"made"`
	Keys    []string      `json:"keys"`              // the files
	Trusted *TrustedFacts `json:"trusted,omitempty"` // nil: it has none
	Notes   []string      `json:"notes,omitempty"`
	Into    string        `json:"into,omitempty"` // of restore
	State   string        `json:"state,omitempty"`
}

// TrustedFacts are the versions that a trusted state knows, 0 for none.
type TrustedFacts struct {
	Root      int64 `json:"root"`
	Targets   int64 `json:"targets"`
	Snapshot  int64 `json:"snapshot"`
	Timestamp int64 `json:"timestamp"`
}

// Backup writes keys and trusted state into one encrypted file, or returns its bytes where o names none.
func (s *Signer) Backup(ctx context.Context, o BackupOptions) (c Contents, raw []byte, err error) {
	defer func() { err = withHint(err) }()
	if o.Paper && len(o.Roles) == 0 {
		o.Roles = []string{string(rootPart)}
	}
	ring, err := s.ring()
	if err != nil {
		return Contents{}, nil, err
	}
	if _, err := os.Lstat(o.Out); o.Out != "" && err == nil {
		return Contents{}, nil, status.WithHint(fmt.Errorf("%s: %w", o.Out, fs.ErrExist), "a backup is never overwritten: choose another name")
	}
	b, err := ring.bundle(o.Roles, s.Now())
	if err != nil {
		return Contents{}, nil, err
	}
	if c, err = b.check(); err != nil {
		return Contents{}, nil, fmt.Errorf("keys in %s: %w", ring.dir, err)
	}
	passphrase, err := o.Passphrase.Ask(ctx, "the backup", true)
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

// sealedBundle encrypts a bundle, and makes sure that it can be read again.
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
		return nil, errors.New("read the backup again: it differs; look after the memory of this computer")
	}
	return sealed, nil
}

// paper returns a backup as text with what a person has to know about it.
func paper(sealed []byte, c Contents) ([]byte, error) {
	if len(sealed) > maxPrinted {
		return nil, status.WithHint(fmt.Errorf("a backup of %d bytes is too long for paper", len(sealed)), "choose keys with --role")
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# A backup by boxsign of %s, made %s.\n", strings.Join(c.Keys, ", "), stamp(c.Made))
	out.WriteString("# To get it back type or scan the lines into a file, and say: boxsign restore FILE --keys DIR\n")
	out.WriteString("# It tells which line is wrong. Lower case will do, and so do O for 0, I and L for 1. Spaces don't count,\n")
	out.WriteString("# and lines that begin with # don't either. It asks for the passphrase of the backup.\n")
	out.Write(printPaper(sealed))
	return out.Bytes(), nil
}

// bundle reads what a backup holds: the keys of those roles, or without a role all keys and the trusted
// state. No other program may be signing meanwhile.
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
		// On paper and in parts there is no room for keys that were replaced, and none for what they trust.
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
		return bundle{}, status.WithHint(fmt.Errorf("%s: has no private key to back up", k.dir), "boxsign key show lists your keys")
	}
	return b, nil
}

// keptFiles returns the files of the directory that a backup holds, ascending.
func (k *keyring) keptFiles() ([]string, error) {
	var out []string
	for _, dir := range []string{"", trustedDir + "/"} {
		entries, err := os.ReadDir(k.path(dir))
		if err != nil && !(dir != "" && errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		for _, e := range entries {
			if name := dir + e.Name(); kept(name) && !e.IsDir() {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// Text returns it for people.
func (c Contents) Text() string {
	var facts []any
	if c.File != "" {
		facts = append(facts, "backup", c.File)
	}
	facts = append(facts, "made", stamp(c.Made))
	for _, k := range c.Keys {
		facts = append(facts, "key", k)
	}
	if t := c.Trusted; t != nil {
		facts = append(facts, "trusted", fmt.Sprintf("root %d, targets %d, snapshot %d, timestamp %d", t.Root, t.Targets, t.Snapshot, t.Timestamp))
	}
	for _, n := range c.Notes {
		facts = append(facts, "note", n)
	}
	if c.Into != "" {
		facts = append(facts, "into", c.Into)
	}
	if c.State != "" {
		facts = append(facts, "state", c.State)
	}
	return lines(facts...)
}

// versions returns what a state knows.
func versions(s *trust.State) TrustedFacts {
	t := TrustedFacts{Root: s.Root().Version()}
	if r, err := s.Current(); err == nil {
		t.Targets, t.Snapshot, t.Timestamp = r.Version(trust.RoleTargets), r.Version(trust.RoleSnapshot), r.Version(trust.RoleTimestamp)
	}
	return t
}

// covers reports whether t is in nothing older than u.
func (t TrustedFacts) covers(u TrustedFacts) bool {
	return min(cmp.Compare(t.Root, u.Root), cmp.Compare(t.Targets, u.Targets), cmp.Compare(t.Snapshot, u.Snapshot), cmp.Compare(t.Timestamp, u.Timestamp)) >= 0
}
