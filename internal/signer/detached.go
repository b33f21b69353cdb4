package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// The files beside an archive that is signed.
const (
	lineSuffix      = ".sha256"
	signatureSuffix = ".sig"
)

// detachedFacts are what is said of an archive and its detached signature.
type detachedFacts struct {
	Name   update.Name   `json:"name"`
	Digest update.Digest `json:"digest"`
	Length int64         `json:"length"`
	Key    keys.ID       `json:"key"`
}

func (d detachedFacts) show(s cli.Streams, asJSON bool) error {
	if asJSON {
		return s.JSON(d)
	}
	_, err := fmt.Fprintf(s.Out, "name: %v\ndigest: %v\nlength: %d\nkey: %s\n", d.Name, d.Digest, d.Length, d.Key)
	return err
}

func newSign(s cli.Streams) *cobra.Command {
	var o options
	force := false
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign an update beside itself, without a repository",
		Long: `Sign an update: FILE.sha256 and FILE.sig are written beside it, its checksum line and the detached
signature of that line. Files that say something else are never replaced.`,
		Example: `  boxsign sign --keys K opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(signFile(cmd.Context(), s, o, args[0], force))
		},
	}
	o.keyFlags(cmd)
	o.jsonFlag(cmd)
	forceFlag(cmd, &force)
	return cmd
}

func forceFlag(cmd *cobra.Command, force *bool) {
	cmd.Flags().BoolVar(force, "force", false, "sign an archive that is not a proper update too")
}

func signFile(ctx context.Context, s cli.Streams, o options, path string, force bool) error {
	read, err := readProper(ctx, s, force, path)
	if err != nil {
		return err
	}
	what := read[0]
	ring, err := o.ring(s)
	if err != nil {
		return err
	}
	by, err := ring.signers(ctx, releasePart)
	if err != nil {
		return err
	}
	if len(by) != 1 {
		return cli.Usagef("release key: a detached signature is made by one, got %d", len(by))
	}
	sig, err := signing.Sign(ctx, by[0], what.Digest, what.Name)
	if err != nil {
		return err
	}
	if err := writeDetached(path, update.ChecksumLine(what.Digest, what.Name), sig[:]); err != nil {
		return err
	}
	return detachedFacts{what.Name, what.Digest, what.Length, by[0].Public().ID()}.show(s, o.json)
}

// writeDetached writes both files or none.
func writeDetached(path string, line, sig []byte) error {
	made, err := putNew(path+lineSuffix, line)
	if err != nil {
		return err
	}
	if _, err := putNew(path+signatureSuffix, sig); err != nil {
		if made {
			err = errors.Join(err, disk.FS{}.Remove(path+lineSuffix))
		}
		return err
	}
	return nil
}

// putNew writes a new file and reports whether it did: one with the same bytes is left alone.
func putNew(path string, data []byte) (made bool, err error) {
	err = disk.FS{}.CreateFile(path, data, 0o644)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	if old, readErr := disk.ReadFile(path, int64(len(data))); readErr == nil && bytes.Equal(old, data) {
		return false, nil
	}
	return false, status.WithHint(fmt.Errorf("%s: %w and says something else", path, fs.ErrExist),
		"it belongs to another archive or another key: look at it, and remove it if it is not wanted")
}

func newVerify(s cli.Streams) *cobra.Command {
	var keyFiles []string
	asJSON, sigFile := false, ""
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an update by the signature beside it",
		Long: `Verify the archive FILE, of any size, by FILE.sig and a public key. The name of FILE counts: the signature
is over digest and name. Exit code 1 says that it is not what the key signed.`,
		Example: `  boxsign verify --key release.pub opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(verify(cmd.Context(), s, args[0], sigFile, keyFiles, asJSON))
		},
	}
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "`FILE` with a public key that counts; one of several is enough")
	cmd.Flags().StringVar(&sigFile, "sig", "", "`FILE` with the signature (default FILE.sig)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func verify(ctx context.Context, s cli.Streams, path, sigFile string, keyFiles []string, asJSON bool) error {
	name, err := parseArchivePath(filepath.Base(path))
	if err != nil {
		return err
	}
	if len(keyFiles) == 0 {
		return status.WithHint(cli.Usagef("which key?"), "name the file with the public key of the release signer with --key release.pub")
	}
	var ks []keys.Public
	for _, file := range keyFiles {
		k, err := readPublic(file)
		if err != nil {
			return err
		}
		ks = append(ks, k)
	}
	if sigFile == "" {
		sigFile = path + signatureSuffix
	}
	raw, err := disk.ReadFile(sigFile, int64(len(signing.Signature{})))
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	sig, err := signing.ParseSignature(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", sigFile, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() // opened for reading
	v, err := signing.Verify(ctx, file, name, sig, ks...)
	if err != nil {
		return err
	}
	return detachedFacts{v.Name(), v.Digest(), v.Length(), v.Key().ID()}.show(s, asJSON)
}
