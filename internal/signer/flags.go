package signer

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// The environment that the commands read.
const (
	keysVariable       = "BOXSIGN_KEYS"
	repoVariable       = "BOXSIGN_REPO"
	passphraseVariable = "BOXSIGN_PASSPHRASE"
	agentVariable      = "SSH_AUTH_SOCK"
)

// options are the flags that commands share, "" or nil where one is not given.
type options struct {
	keys, passphraseFile              string
	rootKeys, releaseKeys, onlineKeys []string
	repo, pinned                      string
	yes, dryRun, json                 bool
}

// keyFlags adds the flags that say where private keys are.
func (o *options) keyFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.keysFlag(cmd)
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "read the passphrase of the keys in `FILE`")
	f.StringArrayVar(&o.releaseKeys, "release-key", nil, "sign lists with `KEY`: a file, or ssh-agent:SHA256:…")
}

func (o *options) keysFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.keys, "keys", "", "`DIR` with your keys (default $"+keysVariable+" or ~/.boxsign)")
}

// repoFlags adds the flags of commands that change a repository.
func (o *options) repoFlags(cmd *cobra.Command) {
	o.keyFlags(cmd)
	o.repoFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&o.rootKeys, "root-key", nil, "sign roots with `KEY`: a file, or ssh-agent:SHA256:…")
	f.StringArrayVar(&o.onlineKeys, "online-key", nil, "sign snapshot and timestamp with `KEY`")
	f.BoolVar(&o.yes, "yes", false, "don't ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would change, sign and change nothing")
	o.jsonFlag(cmd)
}

func (o *options) repoFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.repo, "repo", "", "`DIR|URL` of the repository (default $"+repoVariable+")")
	cmd.Flags().StringVar(&o.pinned, "root", "", "`FILE` with a root to trust, the first time that your keys meet the repository")
}

// takePlace takes a directory or URL that is the last argument as the repository, and returns the others.
func (o *options) takePlace(args []string) []string {
	if n := len(args); n > 0 && isPlace(args[n-1]) {
		o.repo = args[n-1]
		return args[:n-1]
	}
	return args
}

func (o *options) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print the result as JSON")
}

func (o *options) ring(s cli.Streams) (*keyring, error) {
	dir := o.keys
	if dir == "" {
		dir = s.Getenv(keysVariable)
	}
	if dir == "" {
		home := s.Getenv("HOME")
		if home == "" {
			return nil, status.WithHint(cli.Usagef("which keys?"), "name their directory with --keys DIR or $"+keysVariable)
		}
		dir = filepath.Join(home, ".boxsign")
	}
	return &keyring{
		dir:    dir,
		disk:   s.Disk,
		named:  map[part][]string{rootPart: o.rootKeys, releasePart: o.releaseKeys, onlinePart: o.onlineKeys},
		loader: secret.Loader{Passphrase: o.passphrase(s), AgentSocket: s.Getenv(agentVariable)},
	}, nil
}

func (o *options) passphrase(s cli.Streams) secret.Passphrase {
	if o.passphraseFile != "" {
		return secret.FromFile(o.passphraseFile)
	}
	if p := s.Getenv(passphraseVariable); p != "" {
		return secret.FromValue(p)
	}
	return secret.FromTerminal("/dev/tty")
}

func (o *options) repository(s cli.Streams) (string, error) {
	for _, r := range []string{o.repo, s.Getenv(repoVariable)} {
		if strings.Contains(r, "://") && !isURL(r) {
			return "", cli.Usagef("%s: expected a directory, or a URL with http:// or https://", r)
		}
		if r != "" {
			return r, nil
		}
	}
	return "", status.WithHint(cli.Usagef("which repository?"), "name its directory or URL with --repo or $"+repoVariable)
}

// readRoot reads the file of a root that is to be trusted.
func readRoot(path string) ([]byte, error) {
	raw, err := disk.ReadFile(path, trust.MaxLength(trust.RoleRoot))
	if err != nil {
		return nil, err
	}
	if _, err := trust.ParseRoot(raw); err != nil {
		return nil, explain.At(path, err)
	}
	return raw, nil
}
