package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// verifiedFile is a file and what vouches for it.
type verifiedFile struct {
	Name   update.Name   `json:"name"`
	Digest update.Digest `json:"sha256"`
	Length int64         `json:"length"`
	By     string        `json:"by"`
}

func describe(v signing.Verified, by string) verifiedFile {
	return verifiedFile{v.Name(), v.Digest(), v.Length(), by}
}

func (p *program) verifyCommand() *cobra.Command {
	var w wishes
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an archive without installing it",
		Long: `Verifies that a file is the update of its name: by the signed list that this box trusts or, with --key,
by a detached signature. The checksum line that was signed is made from the file at hand and its name; a
line that came with it is not looked at.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := p.verifyFile(cmd.Context(), w, args[0])
			if err != nil {
				return err
			}
			if p.asJSON {
				return p.streams.JSON(v)
			}
			p.facts("verified", v.Name.String(), "sha256", v.Digest.String(), "length", fmt.Sprint(v.Length), "by", v.By)
			return nil
		},
	}
	w.keyFlag(cmd)
	w.sigFlag(cmd)
	return p.jsonFlag(cmd)
}

func (p *program) verifyFile(ctx context.Context, w wishes, path string) (verifiedFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return verifiedFile{}, err
	}
	defer f.Close() // opened for reading
	if w.key == "" {
		return p.verifyTrusted(ctx, f, path)
	}
	k, err := readKey(w.key)
	if err != nil {
		return verifiedFile{}, err
	}
	v, err := openPlain(ctx, k, f, path, w.sig)
	if err != nil {
		return verifiedFile{}, err
	}
	return describe(v, "key "+k.Fingerprint()), nil
}

// verifyTrusted verifies a file by the metadata that are trusted. It works beside another boxup.
func (p *program) verifyTrusted(ctx context.Context, f *os.File, path string) (verifiedFile, error) {
	b, err := p.look()
	if err != nil {
		return verifiedFile{}, err
	}
	rel, err := b.named(filepath.Base(path))
	if err != nil {
		return verifiedFile{}, err
	}
	if err := compare(ctx, rel, f); err != nil {
		return verifiedFile{}, err
	}
	repo, err := b.state.Current()
	if err != nil {
		return verifiedFile{}, err
	}
	return describe(rel.Verified(), fmt.Sprintf("list %d of the trusted repository", repo.Version(trust.RoleTargets))), nil
}

// compare refuses a file that is not the archive of a trusted update, and leaves it at its beginning.
func compare(ctx context.Context, rel trust.Release, f *os.File) error {
	err := trust.VerifyArchive(ctx, rel, f)
	if errors.Is(err, trust.ErrMismatch) {
		err = refused(cli.WithHint(err, "this is not the file that was signed: get it again"))
	}
	if err != nil {
		return explain.At(f.Name(), err)
	}
	return rewind(f)
}
