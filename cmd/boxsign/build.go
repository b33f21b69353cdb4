package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

func newBuild(s cli.Streams) *cobra.Command {
	var b signer.BuildOptions
	cmd := newCommand(s, &cobra.Command{
		Use:   "build DIR",
		Short: "Make an update from a directory",
		Long: `Make an update from a directory that holds install_update.sh and the files to install.

The update has one top directory with everything in DIR and VERSION, which build writes. The same DIR, version
and ` + epochVariable + ` give the same archive on every machine. Without -o, the archive gets the name
<product>-<version>.<format> in the current directory. build never replaces a file.`,
		Example: `  boxsign build DIR -o opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
	}, (*options).jsonFlag, func(ctx context.Context, k *signer.Signer, args []string) (_ signer.Result, err error) {
		if b.Epoch, err = sourceDate(s); err != nil {
			return nil, err
		}
		return k.Build(ctx, args[0], b)
	})
	f := cmd.Flags()
	f.StringVarP(&b.Out, "output", "o", "", "write the archive to `FILE`, whose name gives version and format")
	f.StringVar(&b.Version, "version", "", "version `N` (default "+epochVariable+" or now, in Unix seconds)")
	f.StringVar(&b.Format, "format", "", "`FORMAT` tar.bz2, tar.gz or tar.zst (default tar.bz2)")
	f.StringVar(&b.Product, "product", "", "`PRODUCT` that the update is for (default "+string(update.DefaultProduct)+")")
	return cmd
}

func newBootstrap(s cli.Streams) *cobra.Command {
	var b signer.BootstrapOptions
	cmd := newCommand(s, &cobra.Command{
		Use:   "bootstrap",
		Short: "Make the update that moves old boxes over to boxup",
		Long: `Make an update that old boxes install with the updater that they have. It installs boxup, the root that boxup
trusts, its configuration, its service and its timer, and changes nothing else. From then on boxup keeps the box
up to date. A later update of yours removes the old updater.

The update is for one architecture: publish it where only boxes of that architecture ask. On other boxes it changes
nothing.`,
		Example: "  boxsign bootstrap --arch armv6 --root 1.root.json \\\n    --url http://updates.example -o opq-box-update-1550190683.tar.bz2",
		Args:    cobra.NoArgs,
	}, (*options).jsonFlag, func(ctx context.Context, k *signer.Signer, _ []string) (_ signer.Result, err error) {
		if b.Epoch, err = sourceDate(s); err != nil {
			return nil, err
		}
		result, err := k.Bootstrap(ctx, b)
		for i, u := range result.URLs {
			if result.URLs[i] = explain.MaskURLs(u); result.URLs[i] != u {
				k.Warn("everybody who gets the update can read the password of " + result.URLs[i])
			}
		}
		return result, err
	})
	f := cmd.Flags()
	f.StringVar(&b.Arch, "arch", "", "`ARCH` of the boxes: "+signer.ArchNames())
	f.StringVar(&b.Root, "root", "", "`FILE` with the root that the boxes will trust")
	f.StringArrayVar(&b.URLs, "url", nil, "`URL` of a mirror or of the origin; several are better than one")
	f.StringVar(&b.Boxup, "boxup", "", "`FILE` with boxup for that architecture (default boxup-linux-ARCH beside boxsign)")
	f.StringVarP(&b.Out, "output", "o", "", "write the archive to `FILE`, whose name gives version and product (default: version now)")
	return cmd
}

func newInspect(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "inspect FILE",
		Short:   "List the contents of an update and check it",
		Long:    `List the contents of an archive and check whether it is a proper update. The exit code is 1 if it is not.`,
		Example: `  boxsign inspect opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(s.Out)
			list := entries{Contents: []entry{}}
			result, err := signer.Inspect(cmd.Context(), args[0], func(e archive.Entry) error {
				if o.json {
					list.Contents = append(list.Contents, entry{e.Name, signer.ModeText(e.Mode), e.Size, e.Time.UTC(), e.Link, e.Problem})
					return nil
				}
				_, err := fmt.Fprintln(out, line(e))
				return err
			})
			if err := errors.Join(err, out.Flush()); err != nil {
				return err
			}
			list.Inspection = result
			if err := o.print(s, list); err != nil {
				return err
			}
			if !result.Proper {
				return fmt.Errorf("%v is not a proper update", result.Name)
			}
			return nil
		},
	}
	o.jsonFlag(cmd)
	return cmd
}

// entries is the JSON result of inspect: the inspection and the entries of the archive. As text, the entries are printed
// one by one before the inspection.
type entries struct {
	signer.Inspection
	Contents []entry `json:"contents"`
}

// entry is an entry of an archive as JSON.
type entry struct {
	Name    string    `json:"name"`
	Mode    string    `json:"mode"` // as ls writes it
	Size    int64     `json:"size"`
	Time    time.Time `json:"time"`
	Link    string    `json:"link,omitempty"`
	Problem string    `json:"problem,omitempty"`
}

// line describes an entry as tar -tv does, with its time in UTC and without control characters.
func line(e archive.Entry) string {
	target := ""
	switch {
	case e.Link == "":
	case e.Mode&fs.ModeSymlink != 0:
		target = " -> " + e.Link
	default:
		target = " link to " + e.Link
	}
	return cli.Printable(fmt.Sprintf("%s %9d %s %s%s", signer.ModeText(e.Mode), e.Size, e.Time.UTC().Format("2006-01-02 15:04"), e.Name, target))
}

func newDiff(s cli.Streams) *cobra.Command {
	return newCommand(s, &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show which files of two updates differ",
		Long: `Show which files of the archive NEW differ from those of the archive OLD: added,
removed, or changed in content, mode or link target. What differs by version
does not count: the name of the top directory, VERSION and the times of files.

The exit code is 0 whether they differ or not.`,
		Example: `  boxsign diff opq-box-update-1547861057.tar.bz2 \
    opq-box-update-1550190683.tar.bz2`,
		Args: cobra.ExactArgs(2),
	}, (*options).jsonFlag, func(ctx context.Context, _ *signer.Signer, args []string) (signer.Result, error) {
		return signer.Diff(ctx, args[0], args[1])
	})
}

func newSign(s cli.Streams) *cobra.Command {
	force := false
	cmd := newCommand(s, &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign an update beside itself, without a repository",
		Long: `Sign an update: write its checksum line to FILE.sha256, and the detached signature of that line to FILE.sig.
sign never replaces a file that has another content.`,
		Example: `  boxsign sign --keys K opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
	}, (*options).signFlags, func(ctx context.Context, k *signer.Signer, args []string) (signer.Result, error) {
		return k.SignFile(ctx, args[0], force)
	})
	forceFlag(cmd, &force)
	return cmd
}

func newVerify(s cli.Streams) *cobra.Command {
	var keyFiles []string
	sigFile := ""
	cmd := newCommand(s, &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an update by the signature beside it",
		Long: `Verify the archive FILE, of any size, by FILE.sig and a public key. The signature is over digest and name, so the
name of FILE must be right. The exit code is 1 if FILE is not what the key signed.`,
		Example: `  boxsign verify --key release.pub opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
	}, (*options).jsonFlag, func(ctx context.Context, _ *signer.Signer, args []string) (signer.Result, error) {
		return signer.Verify(ctx, args[0], sigFile, keyFiles...)
	})
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "`FILE` with a public key; the signature of one of several keys is enough")
	cmd.Flags().StringVar(&sigFile, "sig", "", "`FILE` with the signature (default FILE.sig)")
	return cmd
}
