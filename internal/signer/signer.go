// Package signer is what boxsign does: make keys, build, sign and publish updates, and keep the keys safe.
//
// A [Signer] stands for one person's keys and the repository that they sign for; each of its exported methods is one
// command. It is told what a person may say on a command line (paths, thresholds, conditions), asks through Confirm before
// it signs, and returns a [Result]. Whoever calls it prints that.
//
// The person's files are described at the keyring (keyring.go), backups in bundle.go, their form on paper in paper.go.
package signer

import (
	"context"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// Signer is a person's keys, the repository that they sign for, and how they are asked and told. What a method has no use
// for may be zero; Now and Warn are always required.
type Signer struct {
	Keys        string // the directory of keys
	Passphrase  secret.Passphrase
	AgentSocket string // of an ssh-agent, "" for none

	// Keys that sign in place of those of the directory: files, or names of keys in the agent.
	RootKeys, ReleaseKeys, OnlineKeys []string

	Repository string // its directory or URL
	Root       string // a file with a root to trust, the first time that the keys meet the repository, else ""
	DryRun     bool   // nothing is signed or changed; results say what would be

	Disk      disk.FS // the zero value is the file system as it is
	Now       func() time.Time
	UserAgent string // for servers

	// SealCost is what a try at the passphrase of a new backup costs, as the binary logarithm of scrypt's N: 0 for 18, which
	// takes 256 MiB and about a second. Only tests that are not about it take less.
	SealCost int

	// Confirm shows what is about to happen and asks. The error ends the command before anything is signed. nil agrees to
	// all.
	Confirm func(ctx context.Context, what Result, question string) error

	// Warn tells what is no error.
	Warn func(message string)

	// Sending is told how far an archive has been sent, nil for nobody. It may be called concurrently.
	Sending func(publish.Progress)
}

// Result is what a command did or found. As JSON it is what programs read.
type Result interface {
	// Text returns it for people: one fact per line.
	Text() string
}

// confirm is Confirm, which may be nil.
func (s *Signer) confirm(ctx context.Context, what Result, question string) error {
	if s.Confirm == nil {
		return nil
	}
	return s.Confirm(ctx, what, question)
}

// ring returns the directory of keys. Whether it is there is not looked at.
func (s *Signer) ring() (*keyring, error) {
	if s.Keys == "" {
		return nil, status.WithHint(usagef("which keys?"), "name their directory with --keys DIR or $BOXSIGN_KEYS")
	}
	return &keyring{
		dir:    s.Keys,
		disk:   s.Disk,
		named:  map[part][]string{rootPart: s.RootKeys, releasePart: s.ReleaseKeys, onlinePart: s.OnlineKeys},
		loader: secret.Loader{Passphrase: s.Passphrase, AgentSocket: s.AgentSocket},
	}, nil
}

// usagef returns an error of what a person said, made as by fmt.Errorf.
func usagef(format string, args ...any) error {
	return status.WithCode(fmt.Errorf(format, args...), status.ExitUsage)
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
