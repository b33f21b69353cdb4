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

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// backupVariable is the environment variable with the passphrase of backups.
const backupVariable = "BOXSIGN_BACKUP_PASSPHRASE"

// backupOptions are the flags of backup, "" or nil where one is not given.
type backupOptions struct {
	options
	out   string
	roles []string
	print bool
}

// contents are what is said of a backup.
type contents struct {
	File    string        `json:"file,omitempty"`
	Made    time.Time     `json:"made"`
	Keys    []string      `json:"keys"`              // the files
	Trusted *trustedFacts `json:"trusted,omitempty"` // nil: it has none
	Notes   []string      `json:"notes,omitempty"`
	Into    string        `json:"into,omitempty"` // of restore
	State   string        `json:"state,omitempty"`
}

// trustedFacts are the versions that a trusted state knows, 0 for none.
type trustedFacts struct {
	Root      int64 `json:"root"`
	Targets   int64 `json:"targets"`
	Snapshot  int64 `json:"snapshot"`
	Timestamp int64 `json:"timestamp"`
}

func newBackup(s cli.Streams) *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use:   "backup -o FILE",
		Short: "Write your keys and trusted state into one encrypted file",
		Long: `Write your keys and what they trust into one file, encrypted under a passphrase of its own, which is asked
for twice or comes from --passphrase-file or $` + backupVariable + `. Keys stay in it as they are: whoever restores them still
needs their own passphrase.

With --print it is text for paper, the root key alone unless --role says otherwise, that can be typed or
scanned again; each line has a checksum. The trusted state is not printed.

The file is one of age (age-encryption.org): age -d FILE shows what is in it.`,
		Example: `  boxsign backup --keys K -o keys.backup
  boxsign backup --keys K --print > root-key.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withHint(backup(cmd.Context(), s, o))
		},
	}
	o.keysFlag(cmd)
	o.backupFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.out, "output", "o", "", "write to `FILE`, which must not exist")
	f.BoolVar(&o.print, "print", false, "make text for paper")
	f.StringSliceVar(&o.roles, "role", nil, "only the keys of `ROLE`, root, release or online, and no trusted state")
	return cmd
}

// backupFlags are those of backup and restore.
func (o *options) backupFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.passphraseFile, "passphrase-file", "", "read the passphrase of the backup in `FILE`")
	o.jsonFlag(cmd)
}

// backupPassphrase answers with the passphrase of a backup, which is not that of a key.
func (o *options) backupPassphrase(s cli.Streams) secret.Passphrase {
	if o.passphraseFile != "" {
		return secret.FromFile(o.passphraseFile)
	}
	if p := s.Getenv(backupVariable); p != "" {
		return secret.FromValue(p)
	}
	return secret.FromTerminal("/dev/tty")
}

func backup(ctx context.Context, s cli.Streams, o backupOptions) error {
	if o.out == "" && !o.print {
		return status.WithHint(cli.Usagef("where to?"), "name a file with -o FILE, or say --print")
	}
	if o.out == "" && o.json {
		return cli.Usagef("--json: the text itself is the result; with -o FILE it goes there")
	}
	if o.print && len(o.roles) == 0 {
		o.roles = []string{string(rootPart)}
	}
	ring, err := o.ring(s)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(o.out); o.out != "" && err == nil {
		return status.WithHint(fmt.Errorf("%s: %w", o.out, fs.ErrExist), "a backup is never overwritten: choose another name")
	}
	b, err := ring.bundle(o.roles, s.Now())
	if err != nil {
		return err
	}
	c, err := b.check()
	if err != nil {
		return fmt.Errorf("keys in %s: %w", ring.dir, err)
	}
	passphrase, err := o.backupPassphrase(s).Ask(ctx, "the backup", true)
	if err != nil {
		return err
	}
	defer clear(passphrase)
	raw, err := sealedBundle(b, passphrase)
	if err != nil {
		return err
	}
	if o.print {
		if raw, err = paper(raw, c); err != nil {
			return err
		}
	}
	if o.out == "" {
		_, err := s.Out.Write(raw)
		return err
	}
	if err := ring.disk.CreateFile(o.out, raw, 0o600); err != nil {
		return err
	}
	c.File = o.out
	return c.show(s, o.json)
}

// sealedBundle encrypts a bundle, and makes sure that it can be read again.
func sealedBundle(b bundle, passphrase []byte) ([]byte, error) {
	plain := b.Bytes()
	defer clear(plain)
	sealed, err := seal(plain, passphrase, sealCost)
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
func paper(sealed []byte, c contents) ([]byte, error) {
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

// show prints what a backup holds, as the result of a command.
func (c contents) show(s cli.Streams, asJSON bool) error {
	if asJSON {
		return s.JSON(c)
	}
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
	return printAll(s, facts...)
}

// versions returns what a state knows.
func versions(s *trust.State) trustedFacts {
	t := trustedFacts{Root: s.Root().Version()}
	if r, err := s.Current(); err == nil {
		t.Targets, t.Snapshot, t.Timestamp = r.Version(trust.RoleTargets), r.Version(trust.RoleSnapshot), r.Version(trust.RoleTimestamp)
	}
	return t
}

// covers reports whether t is in nothing older than u.
func (t trustedFacts) covers(u trustedFacts) bool {
	return min(cmp.Compare(t.Root, u.Root), cmp.Compare(t.Targets, u.Targets), cmp.Compare(t.Snapshot, u.Snapshot), cmp.Compare(t.Timestamp, u.Timestamp)) >= 0
}
