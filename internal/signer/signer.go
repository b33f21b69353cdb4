// Package signer is what boxsign does: make keys, build, sign and publish updates, and keep the keys safe.
//
// A [Signer] stands for one person's keys and the repository that they sign for. Each of its exported methods is one
// command: it takes what a person gives on a command line (paths, thresholds, conditions), asks through Confirm before
// it signs, and returns a [Result], which the caller prints.
//
// keyring.go describes the files in the directory of keys, bundle.go the format of backups, and paper.go their form on
// paper.
package signer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// Signer is a person's keys, the repository that they sign for, and how to ask that person. Now and Warn are required;
// other fields may be zero where a method doesn't use them.
type Signer struct {
	Keys        string // the directory of keys
	Passphrase  secret.Passphrase
	AgentSocket string // path of the socket of an ssh-agent, "" for none

	// Passphrases of root keys and of release keys. The zero value stands for Passphrase.
	RootPassphrase, ReleasePassphrase secret.Passphrase

	// Keys that sign in place of those of the directory: files, or names of keys in the agent.
	RootKeys, ReleaseKeys, OnlineKeys []string

	Repository string // its directory or URL
	Root       string // file of the root to trust; needed when the keys are used with the repository for the first time, else ""
	DryRun     bool   // sign and change nothing; results say what would be done

	Disk      disk.FS // the zero value is the file system as it is
	Now       func() time.Time
	UserAgent string // sent to servers

	// SealCost is the cost of trying one passphrase of a new backup, as the binary logarithm of scrypt's N. 0 stands for
	// 18, which takes 256 MiB and about a second. Only tests set less.
	SealCost int

	// Confirm shows what is about to happen and asks the question. An error ends the command before anything is signed.
	// A nil Confirm agrees to everything.
	Confirm func(ctx context.Context, what Result, question string) error

	// Warn shows a message that is not an error.
	Warn func(message string)

	// Sending, if not nil, is called with the progress of each archive that is sent. It may be called concurrently.
	Sending func(publish.Progress)
}

// Result is what a command did or found. Programs read its JSON encoding.
type Result interface {
	// Text returns the result for people, one fact per line.
	Text() string
}

// confirm calls Confirm, unless that is nil.
func (s *Signer) confirm(ctx context.Context, what Result, question string) error {
	if s.Confirm == nil {
		return nil
	}
	return s.Confirm(ctx, what, question)
}

// ring returns the directory of keys. It doesn't check that the directory exists.
func (s *Signer) ring() (*keyring, error) {
	if s.Keys == "" {
		return nil, status.WithHint(status.Usagef("no directory of keys"), "name it with --keys DIR or $BOXSIGN_KEYS")
	}
	loaders := map[part]secret.Loader{}
	for _, p := range parts() {
		loaders[p] = secret.Loader{Passphrase: s.passphraseOf(p), AgentSocket: s.AgentSocket}
	}
	return &keyring{
		dir:     s.Keys,
		disk:    s.Disk,
		named:   map[part][]string{rootPart: s.RootKeys, releasePart: s.ReleaseKeys, onlinePart: s.OnlineKeys},
		loaders: loaders,
	}, nil
}

// passphraseOf returns where the passphrase of the keys of a part comes from.
func (s *Signer) passphraseOf(p part) secret.Passphrase {
	switch {
	case p == rootPart && s.RootPassphrase.From != nil:
		return s.RootPassphrase
	case p == releasePart && s.ReleasePassphrase.From != nil:
		return s.ReleasePassphrase
	}
	return s.Passphrase
}

// readRoot reads the file of a root that is to be trusted.
func readRoot(path string) (*trust.Root, error) {
	raw, err := disk.ReadFile(path, trust.MaxLength(trust.RoleRoot))
	if err != nil {
		return nil, err
	}
	root, err := trust.ParseRoot(raw)
	return root, explain.At(path, err)
}

// withHint adds a hint to an error that any signing command can return: the origin's hint if it sent one, else the
// hint for that kind of failure. It returns nil for nil.
func withHint(err error) error {
	hint := status.SignerHint(err)
	if refused := (*publish.Error)(nil); errors.As(err, &refused) && refused.Hint != "" {
		hint = refused.Hint
	}
	if hint == "" {
		return err
	}
	return status.WithHint(err, hint)
}

// inTempDir calls run with a new directory, and removes that afterwards.
func inTempDir(run func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "boxsign-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return run(dir)
}

// undo removes what a command made, the newest last.
type undo []func() error

func (u *undo) add(remove func() error) { *u = append(*u, remove) }

// addMissing adds what removes path, unless path exists already.
func (u *undo) addMissing(path string, remove func() error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		u.add(remove)
	}
}

// run stops at the first failure, because what was made before may belong to what is left.
func (u undo) run() error {
	for _, remove := range slices.Backward(u) {
		if err := remove(); err != nil {
			return err
		}
	}
	return nil
}

// removeEmpty removes those directories that are empty.
func removeEmpty(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
