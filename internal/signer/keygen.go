package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/status"
)

// KeyFacts describes a key.
type KeyFacts struct {
	Key         string  `json:"key"` // the base name of its files
	ID          keys.ID `json:"id"`
	Fingerprint string  `json:"fingerprint"`
	SSH         string  `json:"ssh"`     // the fingerprint that ssh-add shows
	Private     string  `json:"private"` // the file of the private key or its name in the agent, "" if it isn't at hand
}

func keyFacts(base string, k keys.Public, private string) KeyFacts {
	return KeyFacts{base, k.ID(), k.Fingerprint(), secret.SSHFingerprint(k), private}
}

// KeyList describes keys.
type KeyList []KeyFacts

// Text returns the keys for people.
func (l KeyList) Text() string {
	text := ""
	for _, k := range l {
		private := k.Private
		if private == "" {
			private = "not at hand"
		}
		text += lines("key", k.Key, "id", k.ID, "fingerprint", k.Fingerprint, "ssh", k.SSH, "private", private)
	}
	return text
}

// Keygen makes a key for a role: root, release or online. If agent is not "", it names a key that stays in the ssh-agent,
// and no new key is made. A key that exists is refused with fs.ErrExist.
func (s *Signer) Keygen(ctx context.Context, role, agent string) (_ KeyList, err error) {
	defer func() { err = withHint(err) }()
	p, err := parsePart(role)
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	lock, undo, err := ring.lockNew()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(makeKey(ctx, ring, p, agent), lock.Unlock()); err != nil {
		return nil, errors.Join(err, undo())
	}
	return ring.describe(string(p))
}

// makeKey makes a key, or the public file that a crash left out. A complete key is refused with fs.ErrExist.
func makeKey(ctx context.Context, ring *keyring, p part, agent string) error {
	name, err := ring.name(string(p))
	if err != nil {
		return err
	}
	public, err := ring.public(string(p))
	if err != nil {
		return err
	}
	switch {
	case name != "" && (!public.IsZero() || agent != "" && agent != name):
		return status.WithHint(fmt.Errorf("%s: %w", name, fs.ErrExist),
			"boxsign never overwrites a key: choose another directory with --keys, or replace the key with "+replaceCommand(p))
	case name != "":
		_, err := ring.completeKey(ctx, string(p))
		return err
	}
	key, err := newKey(ctx, ring, p, agent)
	if err != nil {
		return err
	}
	return ring.create(ctx, string(p), key, agent)
}

// replaceCommand returns the commands that replace the key of a part.
func replaceCommand(p part) string {
	if p == rootPart {
		return "boxsign root add-key and boxsign root remove-key"
	}
	return "boxsign rotate " + string(p)
}

// newKey generates a key or, if agent is not "", loads that key of the ssh-agent.
func newKey(ctx context.Context, ring *keyring, p part, agent string) (*secret.Key, error) {
	if agent != "" {
		return ring.load(ctx, p, agent)
	}
	return secret.Generate()
}

// ShowKeys returns the keys of the directory.
func (s *Signer) ShowKeys() (KeyList, error) {
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	return ring.describe(allBases()...)
}

// describe describes the keys with these base names, without those that are missing. If all are missing, it is an
// error.
func (k *keyring) describe(bases ...string) (KeyList, error) {
	var all KeyList
	for _, base := range bases {
		public, err := k.public(base)
		if err != nil {
			return nil, err
		}
		if public.IsZero() {
			continue
		}
		name, err := k.name(base)
		if err != nil {
			return nil, err
		}
		all = append(all, keyFacts(base, public, name))
	}
	if len(all) == 0 {
		return nil, status.WithHint(fmt.Errorf("%s: no key", k.dir), "name the directory of your keys with --keys DIR, or make a key, such as with boxsign keygen release")
	}
	return all, nil
}

// PublicKey returns the public key of a role: root, release or online.
func (s *Signer) PublicKey(role string) (keys.Public, error) {
	p, err := parsePart(role)
	if err != nil {
		return keys.Public{}, err
	}
	ring, err := s.ring()
	if err != nil {
		return keys.Public{}, err
	}
	public, err := ring.public(string(p))
	if err != nil {
		return keys.Public{}, err
	}
	if public.IsZero() {
		return keys.Public{}, status.WithHint(fmt.Errorf("%s: %w", ring.path(string(p)+publicSuffix), fs.ErrNotExist), "boxsign key show lists your keys")
	}
	return public, nil
}
