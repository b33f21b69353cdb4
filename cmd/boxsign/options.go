package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/keys/strength"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/status"
)

// Environment variables that the commands read.
const (
	keysVariable       = "BOXSIGN_KEYS"
	repoVariable       = "BOXSIGN_REPO"
	passphraseVariable = "BOXSIGN_PASSPHRASE"
	rootVariable       = "BOXSIGN_ROOT_PASSPHRASE"
	releaseVariable    = "BOXSIGN_RELEASE_PASSPHRASE"
	backupVariable     = "BOXSIGN_BACKUP_PASSPHRASE"
	agentVariable      = "SSH_AUTH_SOCK"

	// epochVariable holds the time for reproducible builds, in Unix seconds:
	// https://reproducible-builds.org/specs/source-date-epoch.
	epochVariable = "SOURCE_DATE_EPOCH"
)

// action calls one method of the signer with the arguments of the command line.
type action func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error)

// newCommand returns cmd with the flags that flags adds. The command calls call and prints its result.
func newCommand(s cli.Streams, cmd *cobra.Command, flags func(*options, *cobra.Command), call action) *cobra.Command {
	var o options
	flags(&o, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, k, end := o.signer(cmd.Context(), s)
		result, err := call(ctx, k, args)
		end()
		if err != nil && !partial(result) {
			return err
		}
		return errors.Join(o.print(s, result), err)
	}
	return cmd
}

// newRepoCommand is newCommand for a command that changes a repository.
func newRepoCommand(s cli.Streams, cmd *cobra.Command, call action) *cobra.Command {
	return newCommand(s, cmd, (*options).repoFlags, call)
}

// partial reports whether a result that came with an error says what was done or found before it.
func partial(result signer.Result) bool {
	switch r := result.(type) {
	case signer.Changes:
		return len(r) > 0
	case signer.Verdict:
		return len(r.Problems) > 0
	}
	return false
}

// options holds the flags that commands share. A flag that is not given is "", nil or false.
type options struct {
	keys, passphraseFile              string
	rootFile, releaseFile             string // of the passphrases of these keys
	weak                              bool   // a new passphrase may be weak
	rootKeys, releaseKeys, onlineKeys []string
	repo, root                        string
	yes, dryRun, json                 bool
	ofBackup                          bool // the passphrase is that of a backup
}

func (o *options) jsonFlag(cmd *cobra.Command) { command.AddJSON(cmd, &o.json) }

// keysFlags adds the flags of commands that read the directory of keys.
func (o *options) keysFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.keys, "keys", "", "your keys in `DIR` (default $"+keysVariable+" or ~/.boxsign)")
	o.jsonFlag(cmd)
}

// backupFlags adds the flags that backup and restore share.
func (o *options) backupFlags(cmd *cobra.Command) {
	o.ofBackup = true
	o.keysFlags(cmd)
	o.passphraseFlag(cmd, "the backup")
}

// passphraseFlag adds the flag for the passphrase of what.
func (o *options) passphraseFlag(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&o.passphraseFile, "passphrase-file", "", "read the passphrase of "+what+" from `FILE` (default $"+o.passphraseVariable()+", or ask)")
}

// passphraseVariable names the environment variable with the passphrase that --passphrase-file replaces.
func (o *options) passphraseVariable() string {
	if o.ofBackup {
		return backupVariable
	}
	return passphraseVariable
}

// weakFlag adds the flag of commands that set a new passphrase.
func (o *options) weakFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.weak, "weak-passphrase", false, "accept a new passphrase that is easy to guess")
}

// makeFlags adds the flags of commands that change a repository and make keys.
func (o *options) makeFlags(cmd *cobra.Command) {
	o.repoFlags(cmd)
	o.weakFlag(cmd)
}

// signFlags adds the flags of commands that sign with release keys.
func (o *options) signFlags(cmd *cobra.Command) {
	o.keysFlags(cmd)
	o.passphraseFlag(cmd, "the keys")
	cmd.Flags().StringVar(&o.releaseFile, "release-passphrase-file", "", "read the passphrase of release keys from `FILE`")
	cmd.Flags().StringArrayVar(&o.releaseKeys, "release-key", nil, "sign with `KEY`: a file, or ssh-agent:SHA256:…")
}

// readFlags adds the flags of commands that only read a repository.
func (o *options) readFlags(cmd *cobra.Command) {
	o.keysFlags(cmd)
	o.placeFlags(cmd)
}

// repoFlags adds the flags of commands that change a repository.
func (o *options) repoFlags(cmd *cobra.Command) {
	o.signFlags(cmd)
	o.placeFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.rootFile, "root-passphrase-file", "", "read the passphrase of root keys from `FILE`")
	f.StringArrayVar(&o.rootKeys, "root-key", nil, "sign roots with `KEY`: a file, or ssh-agent:SHA256:…")
	f.StringArrayVar(&o.onlineKeys, "online-key", nil, "sign snapshot and timestamp with `KEY`")
	f.BoolVar(&o.yes, "yes", false, "don't ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would change; sign and change nothing")
}

func (o *options) placeFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.repo, "repo", "", "`DIR|URL` of the repository (default $"+repoVariable+")")
	cmd.Flags().StringVar(&o.root, "root", "", "`FILE` with the root to trust, when your keys use the repository for the first time")
}

func forceFlag(cmd *cobra.Command, force *bool) {
	cmd.Flags().BoolVar(force, "force", false, "also sign an archive that is not a proper update")
}

func holdFlag(cmd *cobra.Command, hold *bool) {
	cmd.Flags().BoolVar(hold, "hold", false, "let it wait for more signatures, even if it has enough")
}

func agentFlag(cmd *cobra.Command, agent *string) {
	cmd.Flags().StringVar(agent, "agent", "", "use the `KEY` of the ssh-agent, such as ssh-agent:SHA256:…, instead of making one")
}

// cutPlace returns args without the last one if that is a directory or a URL: then it is the repository, and replaces
// --repo.
func cutPlace(k *signer.Signer, args []string) []string {
	n := len(args)
	if n == 0 || !signer.IsPlace(args[n-1]) {
		return args
	}
	k.Repository = args[n-1]
	return args[:n-1]
}

// signer returns the signer that the flags and the environment describe, and the context of its methods. The caller calls
// end to end the display of progress.
func (o *options) signer(ctx context.Context, s cli.Streams) (_ context.Context, k *signer.Signer, end func()) {
	meter := s.NewMeter()
	shown := s
	shown.Err = meter // messages appear above the progress
	k = &signer.Signer{
		Keys:              o.keysDir(s),
		Passphrase:        o.passphrase(s, o.passphraseFile, o.passphraseVariable()),
		RootPassphrase:    o.rolePassphrase(s, o.rootFile, rootVariable),
		ReleasePassphrase: o.rolePassphrase(s, o.releaseFile, releaseVariable),
		AgentSocket:       s.Getenv(agentVariable),
		RootKeys:          o.rootKeys, ReleaseKeys: o.releaseKeys, OnlineKeys: o.onlineKeys,
		Repository: o.repo,
		Root:       o.root,
		DryRun:     o.dryRun,
		Disk:       s.Disk,
		Now:        s.Now,
		UserAgent:  "boxsign/" + version,
		Warn:       func(message string) { shown.Warn("boxsign", message) },
		Sending:    func(p publish.Progress) { meter.Show(p.Name.String(), p.Total, p.Done) },
	}
	if k.Repository == "" {
		k.Repository = s.Getenv(repoVariable)
	}
	if !o.yes {
		k.Confirm = func(ctx context.Context, what signer.Result, question string) error {
			if err := printText(shown.Err, what, s.Colored(s.Err)); err != nil {
				return err
			}
			return shown.Confirm(ctx, question)
		}
	}
	return pace.ObserveWaits(ctx, meter.Wait), k, meter.End
}

// keysDir returns the directory of keys: --keys, $BOXSIGN_KEYS or ~/.boxsign. It returns "" without any of them and
// without $HOME and %USERPROFILE%.
func (o *options) keysDir(s cli.Streams) string {
	if o.keys != "" {
		return o.keys
	}
	if dir := s.Getenv(keysVariable); dir != "" {
		return dir
	}
	for _, variable := range []string{"HOME", "USERPROFILE"} { // the second on Windows
		if home := s.Getenv(variable); home != "" {
			return filepath.Join(home, ".boxsign")
		}
	}
	return ""
}

// rolePassphrase is passphrase for the keys of a role: its own file, its own variable, then those for all keys.
func (o *options) rolePassphrase(s cli.Streams, file, variable string) secret.Passphrase {
	if file == "" && s.Getenv(variable) == "" {
		file = o.passphraseFile
	}
	return o.passphrase(s, file, variable, passphraseVariable)
}

// passphrase returns where a passphrase comes from: the file, if that is not "", the first of the environment variables that
// is set, or the terminal.
func (o *options) passphrase(s cli.Streams, file string, variables ...string) secret.Passphrase {
	p := secret.Passphrase{Judge: strength.Check}
	if o.weak {
		p.Judge = nil
	}
	if file != "" {
		p.From = secret.FromFile(file)
		return p
	}
	for _, v := range variables {
		if value := s.Getenv(v); value != "" {
			p.From = secret.FromValue(value)
			return p
		}
	}
	ask := secret.FromTerminal(secret.Terminal)
	p.From = func(ctx context.Context, r secret.Request) ([]byte, error) {
		passphrase, err := ask(ctx, r)
		if errors.Is(err, secret.ErrNoTerminal) {
			err = status.WithHint(err, "set "+variables[len(variables)-1]+", or give --passphrase-file")
		}
		return passphrase, err
	}
	return p
}

// sourceDate returns the time in $SOURCE_DATE_EPOCH, the zero time if it is not set.
func sourceDate(s cli.Streams) (time.Time, error) {
	text := s.Getenv(epochVariable)
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, status.Usagef("%s %q: expected Unix seconds", epochVariable, text)
	}
	return time.Unix(n, 0), nil
}

// print prints a result, for people or as JSON.
func (o *options) print(s cli.Streams, result signer.Result) error {
	if s.Silenced() {
		for _, text := range signer.WarningsOf(result) {
			s.Warn("boxsign", text)
		}
	}
	if o.json {
		return s.JSON(result)
	}
	return printText(s.Out, result, s.Colored(s.Out))
}

// printText writes a result as text, with control characters escaped: names in archives and answers of servers are
// untrusted.
func printText(w io.Writer, result signer.Result, colored bool) error {
	for line := range strings.Lines(result.Text()) {
		line = cli.Printable(strings.TrimSuffix(line, "\n"))
		if colored {
			line = cli.PaintFact(line)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
