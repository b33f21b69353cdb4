package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// part is what a key is for, in the words of this command.
type part string

const (
	rootPart    part = "root"
	releasePart part = "release"
	onlinePart  part = "online"
)

func parts() []part { return []part{rootPart, releasePart, onlinePart} }

func parsePart(s string) (part, error) {
	if p := part(s); slices.Contains(parts(), p) {
		return p, nil
	}
	return "", cli.Usagef("role %q: expected root, release or online", s)
}

// roles returns the roles in the metadata that a key of this part has.
func (p part) roles() []trust.Role {
	switch p {
	case rootPart:
		return []trust.Role{trust.RoleRoot}
	case releasePart:
		return []trust.Role{trust.RoleTargets}
	}
	return []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp}
}

// The files of a directory of keys, beside those of its trusted state:
//
//	root.pem release.pem online.pem        private keys; only the online key is not encrypted
//	root.agent release.agent online.agent  in their place: the name of a key that an ssh-agent keeps
//	root.pub release.pub online.pub        public keys
//	release.next.pem …                     the key that is about to take over
//	release.<fingerprint>.pem …            a key that was replaced
//	lock                                   held by the one program that signs
//	trusted/                               the newest repository that was seen
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
	dir    string
	disk   durable.FS
	named  map[part][]string // keys that flags name, in place of those of the directory
	loader secret.Loader
	loaded map[string]*secret.Key // by name
}

func (k *keyring) path(name string) string { return filepath.Join(k.dir, name) }

// names returns the names of the private keys of a part; none is no error.
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

// name returns the name of the private key in the file with that base name, "" where there is none.
func (k *keyring) name(base string) (string, error) {
	path := k.path(base + privateSuffix)
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	}
	raw, err := readFile(k.path(base+agentSuffix), 1000)
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
		return nil, cli.WithHint(fmt.Errorf("%s: %w", k.path(string(p)+privateSuffix), fs.ErrNotExist),
			fmt.Sprintf("name the directory with your %s key with --keys, or the key itself with --%[1]s-key", p))
	}
	var out []signing.Signer
	for _, name := range names {
		key, err := k.load(ctx, name)
		if err != nil {
			return nil, withHint(fmt.Errorf("%s key: %w", p, err))
		}
		out = append(out, key)
	}
	return out, nil
}

func (k *keyring) load(ctx context.Context, name string) (*secret.Key, error) {
	if key := k.loaded[name]; key != nil {
		return key, nil
	}
	key, err := k.loader.Load(ctx, name)
	if err != nil {
		return nil, err
	}
	if k.loaded == nil {
		k.loaded = map[string]*secret.Key{}
	}
	k.loaded[name] = key
	return key, nil
}

// public returns the public key in the file with that base name, zero where there is none.
func (k *keyring) public(base string) (keys.Public, error) {
	p, err := readPublic(k.path(base + publicSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return keys.Public{}, nil
	}
	return p, err
}

func readPublic(path string) (keys.Public, error) {
	raw, err := readFile(path, 1000)
	if err != nil {
		return keys.Public{}, err
	}
	p, err := keys.ParsePEM(raw)
	if err != nil {
		return keys.Public{}, fmt.Errorf("public key %s: %w", path, err)
	}
	return p, nil
}

// create makes the private and the public file of a key, or of a key that an agent keeps.
func (k *keyring) create(ctx context.Context, base string, key *secret.Key, agent string) (err error) {
	if err := k.disk.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	path := k.path(base + privateSuffix)
	switch {
	case agent != "":
		path = k.path(base + agentSuffix)
		err = k.disk.CreateFile(path, []byte(agent+"\n"), 0o644)
	case strings.HasPrefix(base, string(onlinePart)):
		err = key.WriteUnencrypted(k.disk, path)
	default:
		err = key.WriteEncrypted(ctx, k.disk, path, k.loader.Passphrase)
	}
	if err != nil {
		return withHint(err)
	}
	if err := k.disk.CreateFile(k.path(base+publicSuffix), key.Public().PEM(), 0o644); err != nil {
		return errors.Join(err, k.disk.Remove(path))
	}
	return nil
}

// remove removes what create made.
func (k *keyring) remove(base string) error {
	var errs []error
	for _, suffix := range []string{publicSuffix, privateSuffix, agentSuffix} {
		errs = append(errs, k.disk.Remove(k.path(base+suffix)))
	}
	return errors.Join(errs...)
}

// rename gives the files of a key another base name.
func (k *keyring) rename(from, to string) error {
	for _, suffix := range []string{publicSuffix, agentSuffix, privateSuffix} {
		if _, err := os.Lstat(k.path(from + suffix)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Lstat(k.path(to + suffix)); err == nil {
			return fmt.Errorf("%s: %w", k.path(to+suffix), fs.ErrExist)
		}
		if err := k.disk.Rename(k.path(from+suffix), k.path(to+suffix)); err != nil {
			return err
		}
	}
	return nil
}
