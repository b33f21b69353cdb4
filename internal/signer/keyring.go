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
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/status"
)

// The files of a directory of keys, beside those of its trusted state:
//
//	root.pem release.pem online.pem        private keys; only the online key is not encrypted
//	root.agent release.agent online.agent  in their place: the name of a key that an ssh-agent keeps
//	root.pub release.pub online.pub        public keys
//	release.next.pem …                     the key that is about to take over
//	release.<fingerprint>.pem …            a key that was replaced
//	signed.targets.json                    the list that was signed last, until it is published
//	lock                                   locked by the program that signs
//	trusted/                               the newest metadata that were seen, see trust.State
const (
	privateSuffix = ".pem"
	agentSuffix   = ".agent"
	publicSuffix  = ".pub"
	nextInfix     = ".next"
	trustedDir    = "trusted"
	lockFile      = "lock"
)

// keyring is a directory of keys.
type keyring struct {
	dir     string
	disk    disk.FS
	named   map[part][]string // keys that are used in place of those of the directory
	loaders map[part]secret.Loader
	loaded  map[string]*secret.Key // by name
}

func (k *keyring) path(name string) string { return filepath.Join(k.dir, name) }

// names returns the names of the private keys of a part. It is no error if there are none.
func (k *keyring) names(p part) ([]string, error) {
	if named := k.named[p]; len(named) > 0 {
		return named, nil
	}
	var out []string
	for _, base := range []string{string(p), string(p) + nextInfix} {
		name, err := k.name(base)
		if err != nil {
			return nil, err
		}
		if name != "" {
			out = append(out, name)
		}
	}
	return out, nil
}

// name returns the name of the private key with that base name, by which load finds it: the path of its file or,
// for a key in an agent, the content of the .agent file. It returns "" if there is neither.
func (k *keyring) name(base string) (string, error) {
	path := k.path(base + privateSuffix)
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	}
	raw, err := disk.ReadFile(k.path(base+agentSuffix), 1000)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSuffix(string(raw), "\n"), err
}

// signers returns the private keys of a part, at least one.
func (k *keyring) signers(ctx context.Context, p part) ([]signing.Signer, error) {
	names, err := k.names(p)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, status.WithHint(fmt.Errorf("%s: %w", k.path(string(p)+privateSuffix), fs.ErrNotExist),
			fmt.Sprintf("name the directory of your %s key with --keys, or the key itself with --%[1]s-key", p))
	}
	var out []signing.Signer
	for _, name := range names {
		key, err := k.load(ctx, p, name)
		if err != nil {
			return nil, k.withRestoreHint(name, fmt.Errorf("%s key: %w", p, err))
		}
		if err := k.checkPublic(name, key); err != nil {
			return nil, fmt.Errorf("%s key: %w", p, err)
		}
		out = append(out, key)
	}
	return out, nil
}

// checkPublic refuses a private key of the directory that differs from the public key beside it. In a file without a
// passphrase, a flipped bit makes another key, and nothing else notices that.
func (k *keyring) checkPublic(name string, key *secret.Key) error {
	base, private := strings.CutSuffix(name, privateSuffix)
	if !private || filepath.Dir(name) != filepath.Clean(k.dir) {
		return nil
	}
	// During a rotation the public file may be that of the next key already: rotate completes that.
	if waits, err := k.name(filepath.Base(base) + nextInfix); err != nil || waits != "" {
		return err
	}
	public, err := readPublic(base + publicSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && public != key.Public() {
		return status.WithHint(fmt.Errorf("private key %s: expected key %s, as in %s, got %s: one of the two files is damaged", name, public.Fingerprint(), base+publicSuffix, key.Public().Fingerprint()),
			"move both files away and restore them from a backup with boxsign restore; without a backup, replace the key with "+replaceCommand(partOfBase(filepath.Base(base))))
	}
	return nil // there is no public file to compare with
}

// withRestoreHint adds how to get a private key back if its file is damaged.
func (k *keyring) withRestoreHint(name string, err error) error {
	raw, unread := disk.ReadFile(name, maxBundle)
	defer clear(raw)
	if _, damaged := secret.CheckFile(raw); unread == nil && damaged != nil { // else it is a key of an agent, or can't be read
		return status.WithHint(err, "if it is damaged, move it away and restore it from a backup with boxsign restore; without a backup, replace the key as docs/TRUST.md describes")
	}
	return err
}

// load returns the private key of a part with that name.
func (k *keyring) load(ctx context.Context, p part, name string) (*secret.Key, error) {
	if key := k.loaded[name]; key != nil {
		return key, nil
	}
	key, err := k.loaders[p].Load(ctx, name)
	if err != nil {
		return nil, err
	}
	if k.loaded == nil {
		k.loaded = map[string]*secret.Key{}
	}
	k.loaded[name] = key
	return key, nil
}

// public returns the public key in the file with that base name, the zero key if there is no such file.
func (k *keyring) public(base string) (keys.Public, error) {
	p, err := readPublic(k.path(base + publicSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return keys.Public{}, nil
	}
	return p, err
}

// isOwn reports whether a public key is one of the directory.
func (k *keyring) isOwn(key keys.Public) bool {
	return slices.ContainsFunc(allBases(), func(base string) bool {
		mine, err := k.public(base)
		return err == nil && mine == key
	})
}

func readPublic(path string) (keys.Public, error) {
	raw, err := disk.ReadFile(path, 1000)
	if err != nil {
		return keys.Public{}, err
	}
	p, err := keys.ParsePEM(raw)
	if err != nil {
		return keys.Public{}, status.WithHint(fmt.Errorf("public key %s: %w", path, err), "if it is damaged, move it away: signing does not need it; boxsign restore restores it from a backup")
	}
	return p, nil
}

// lock locks the directory for a program that signs, and removes the temporary files that a crash left. A key is
// used only after its file has its final name, so that no such file holds the only copy of a used key. The error is
// disk.ErrLocked if another program holds the lock.
func (k *keyring) lock() (*disk.Lock, error) {
	if _, err := os.Stat(k.dir); err != nil {
		return nil, status.WithHint(fmt.Errorf("keys: %w", err), "name the directory of your keys with --keys DIR or $BOXSIGN_KEYS")
	}
	lock, err := disk.TryLock(k.path(lockFile))
	if err != nil {
		return nil, err
	}
	if err := k.disk.RemoveTemps(k.dir); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock, nil
}

// lockNew makes the directory if it is missing, and locks it. unmake removes what lockNew made, and the directory
// only if it is empty.
func (k *keyring) lockNew() (lock *disk.Lock, unmake func() error, err error) {
	var u undo
	u.addMissing(k.dir, func() error { return removeEmpty(k.dir) })
	if err := k.disk.MkdirAll(k.dir, 0o700); err != nil {
		return nil, nil, errors.Join(err, u.run())
	}
	u.addMissing(k.path(lockFile), func() error { return k.disk.Remove(k.path(lockFile)) })
	if lock, err = k.lock(); errors.Is(err, disk.ErrLocked) {
		return nil, nil, err // another program made them meanwhile: they are not ours to undo
	} else if err != nil {
		return nil, nil, errors.Join(err, u.run())
	}
	return lock, u.run, nil
}

// completeKey returns the public key with that base name, the zero key if there is no such key. A crash in create
// may leave the private file alone: then completeKey writes the public file.
func (k *keyring) completeKey(ctx context.Context, base string) (keys.Public, error) {
	public, err := k.public(base)
	if err != nil || !public.IsZero() {
		return public, err
	}
	name, err := k.name(base)
	if err != nil || name == "" {
		return keys.Public{}, err
	}
	key, err := k.load(ctx, partOfBase(base), name)
	if err != nil {
		return keys.Public{}, err
	}
	return key.Public(), k.disk.CreateFile(k.path(base+publicSuffix), key.Public().PEM(), 0o644)
}

// create writes the files of a key: the private one or, if agent is not "", the one with that name of a key in an
// ssh-agent, then the public one. It overwrites nothing; after an error neither file is left.
func (k *keyring) create(ctx context.Context, base string, key *secret.Key, agent string) (err error) {
	if err := k.disk.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	path := k.path(base + privateSuffix)
	switch {
	case agent != "":
		path = k.path(base + agentSuffix)
		err = k.disk.CreateFile(path, []byte(agent+"\n"), 0o644)
	case partOfBase(base) == onlinePart:
		err = key.WriteUnencrypted(k.disk, path)
	default:
		err = key.WriteEncrypted(ctx, k.disk, path, k.loaders[partOfBase(base)].Passphrase)
	}
	if err != nil {
		return err
	}
	if err := k.disk.CreateFile(k.path(base+publicSuffix), key.Public().PEM(), 0o644); err != nil {
		return errors.Join(err, k.disk.Remove(path))
	}
	return nil
}

// remove removes the files that create made.
func (k *keyring) remove(base string) error {
	var errs []error
	for _, suffix := range []string{publicSuffix, privateSuffix, agentSuffix} {
		errs = append(errs, k.disk.Remove(k.path(base+suffix)))
	}
	return errors.Join(errs...)
}

// rename gives the files of a key another base name. The public file, which identifies the private one, is last, so
// that after a crash the same call completes the renaming. A file with another content is never overwritten.
func (k *keyring) rename(from, to string) error {
	if err := k.renamePrivate(from, to); err != nil {
		return err
	}
	return k.renameFile(k.path(from+publicSuffix), k.path(to+publicSuffix))
}

func (k *keyring) renamePrivate(from, to string) error {
	for _, suffix := range []string{privateSuffix, agentSuffix} {
		if err := k.renameFile(k.path(from+suffix), k.path(to+suffix)); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyring) renameFile(from, to string) error {
	had, err := disk.ReadFile(from, maxBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(had)
	there, err := disk.ReadFile(to, maxBundle)
	defer clear(there)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k.disk.Rename(from, to)
	case err != nil:
		return err
	case !bytes.Equal(had, there):
		return status.WithHint(fmt.Errorf("%s: %w, and differs from %s", to, fs.ErrExist, from),
			"boxsign never overwrites a key: boxsign key show lists them; move away the one that signs nothing")
	}
	return k.disk.Remove(from)
}
