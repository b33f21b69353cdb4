package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/status"
)

// keyFacts are what is said of a key.
type keyFacts struct {
	Key         string  `json:"key"` // the base name of its files
	ID          keys.ID `json:"id"`
	Fingerprint string  `json:"fingerprint"`
	SSH         string  `json:"ssh"`     // what ssh-add calls it
	Private     string  `json:"private"` // where the private key is, "" where it isn't at hand
}

func newKeygen(s cli.Streams) *cobra.Command {
	var o options
	agent := ""
	cmd := &cobra.Command{
		Use:   "keygen ROLE",
		Short: "Make a key",
		Long: `Make a key for ROLE: root, release or online.

The private key is encrypted under a passphrase, except that of online, which a server uses without a
person. With --agent nothing is made: the key stays in the ssh-agent, and its name is noted.`,
		Example: `  boxsign keygen --keys K release`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return keygen(cmd.Context(), s, o, args[0], agent)
		},
	}
	o.keysFlag(cmd)
	cmd.Flags().StringVar(&o.passphraseFile, "passphrase-file", "", "read the passphrase of the key in `FILE`")
	cmd.Flags().StringVar(&agent, "agent", "", "use `KEY` of the ssh-agent, ssh-agent:SHA256:…")
	o.jsonFlag(cmd)
	return cmd
}

func keygen(ctx context.Context, s cli.Streams, o options, role, agent string) error {
	p, err := parsePart(role)
	if err != nil {
		return err
	}
	ring, err := o.ring(s)
	if err != nil {
		return err
	}
	lock, undo, err := ring.lockNew()
	if err != nil {
		return err
	}
	if err := errors.Join(makeKey(ctx, ring, p, agent), lock.Unlock()); err != nil {
		return errors.Join(err, undo())
	}
	return showKeys(s, o.json, ring, string(p))
}

// makeKey makes a key that is not there, or what a crash left out of it.
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
			"a key is never overwritten: choose another directory with --keys, or replace it in the repository too with boxsign rotate")
	case name != "":
		_, err := ring.completed(ctx, string(p))
		return withHint(err)
	}
	key, err := newKey(ctx, ring, agent)
	if err != nil {
		return withHint(err)
	}
	return ring.create(ctx, string(p), key, agent)
}

// newKey makes a key, or takes one of the ssh-agent.
func newKey(ctx context.Context, ring *keyring, agent string) (*secret.Key, error) {
	if agent != "" {
		return ring.load(ctx, agent)
	}
	return secret.Generate()
}

func newKeyCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Show and export keys"}
	cmd.AddCommand(newKeyShow(s), newKeyExport(s))
	return cmd
}

func newKeyShow(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show your keys",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ring, err := o.ring(s)
			if err != nil {
				return err
			}
			return showKeys(s, o.json, ring, allBases()...)
		},
	}
	o.keysFlag(cmd)
	o.jsonFlag(cmd)
	return cmd
}

// allBases are the base names that the keys of a directory may have.
func allBases() []string {
	var out []string
	for _, p := range parts() {
		out = append(out, string(p), string(p)+nextInfix)
	}
	return out
}

func showKeys(s cli.Streams, asJSON bool, ring *keyring, bases ...string) error {
	all := []keyFacts{}
	for _, base := range bases {
		public, err := ring.public(base)
		if err != nil {
			return err
		}
		if public.IsZero() {
			continue
		}
		name, err := ring.name(base)
		if err != nil {
			return err
		}
		all = append(all, keyFacts{base, public.ID(), public.Fingerprint(), secret.SSHFingerprint(public), name})
	}
	if len(all) == 0 {
		return status.WithHint(fmt.Errorf("%s: has no key", ring.dir), "name the directory with your keys with --keys DIR, or make one with boxsign keygen")
	}
	if asJSON {
		return s.JSON(all)
	}
	for _, k := range all {
		private := k.Private
		if private == "" {
			private = "not at hand"
		}
		if _, err := fmt.Fprintf(s.Out, "key: %s\nid: %s\nfingerprint: %s\nssh: %s\nprivate: %s\n", k.Key, k.ID, k.Fingerprint, k.SSH, private); err != nil {
			return err
		}
	}
	return nil
}

func newKeyExport(s cli.Streams) *cobra.Command {
	var o options
	out := ""
	cmd := &cobra.Command{
		Use:     "export ROLE",
		Short:   "Print a public key",
		Long:    `Print the public key of ROLE, root, release or online, as PEM, which openssl reads.`,
		Example: `  boxsign key export release > release.pub`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return export(s, o, args[0], out)
		},
	}
	o.keysFlag(cmd)
	o.jsonFlag(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to `FILE`")
	return cmd
}

func export(s cli.Streams, o options, role, out string) error {
	p, err := parsePart(role)
	if err != nil {
		return err
	}
	ring, err := o.ring(s)
	if err != nil {
		return err
	}
	public, err := ring.public(string(p))
	if err != nil {
		return err
	}
	if public.IsZero() {
		return status.WithHint(fmt.Errorf("%s: %w", ring.path(string(p)+publicSuffix), fs.ErrNotExist), "boxsign key show lists your keys")
	}
	switch {
	case out != "":
		return ring.disk.CreateFile(out, public.PEM(), 0o644)
	case o.json:
		return s.JSON(map[string]string{"id": string(public.ID()), "pem": string(public.PEM())})
	}
	_, err = s.Out.Write(public.PEM())
	return err
}
