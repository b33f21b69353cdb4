package signer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// check checks the files of a bundle, as far as that is possible without the passphrases of the keys:
// each file is what its name says, the files of a key fit together, and the trusted state verifies.
func (b bundle) check() (Contents, error) {
	c := Contents{Made: b.made, Keys: []string{}}
	for _, f := range b.files {
		if !keyFile.MatchString(f.path) {
			continue
		}
		if err := b.checkKey(f); err != nil {
			return Contents{}, fmt.Errorf("%s: %w", f.path, err)
		}
		c.Keys = append(c.Keys, f.path)
		if strings.HasSuffix(f.path, agentSuffix) {
			c.Notes = append(c.Notes, f.path+" names a key in an ssh-agent: the key itself is not in the backup")
		}
	}
	if len(b.trusted()) == 0 {
		c.Notes = append(c.Notes, "without a trusted state: the first command after a restore needs --root with a root to trust")
		return c, nil
	}
	t, err := b.checkTrusted()
	c.Trusted = &t
	return c, err
}

func (b bundle) checkKey(f bundled) error {
	base := strings.TrimSuffix(f.path, filepath.Ext(f.path))
	var public keys.Public
	if raw := b.find(base + publicSuffix); raw != nil {
		var err error
		if public, err = keys.ParsePEM(raw); err != nil {
			return err
		}
	}
	switch {
	case strings.HasSuffix(f.path, agentSuffix):
		if name := secret.AgentName(public); string(f.data) != name+"\n" {
			return fmt.Errorf("expected %q, the name of the public key beside it", name)
		}
	case strings.HasSuffix(f.path, privateSuffix):
		own, err := secret.CheckFile(f.data)
		if err != nil {
			return err
		}
		if !own.IsZero() && !public.IsZero() && own != public {
			return errors.New("it does not fit the public key beside it")
		}
	}
	return nil
}

// checkTrusted verifies the trusted state, from its oldest root.
func (b bundle) checkTrusted() (t TrustedFacts, err error) {
	dir, err := os.MkdirTemp("", "boxsign-")
	if err != nil {
		return TrustedFacts{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, f := range b.trusted() {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.path)), f.data, 0o600); err != nil {
			return TrustedFacts{}, err
		}
	}
	state, err := trust.Open(trust.Config{Dir: dir, DeferRoots: true})
	if err != nil {
		return TrustedFacts{}, fmt.Errorf("trusted state: %w", err)
	}
	return versions(state), nil
}
