package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/signer"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

func newBuild(s cli.Streams) *cobra.Command {
	var o options
	var b signer.BuildOptions
	cmd := &cobra.Command{
		Use:   "build DIR",
		Short: "Make an update from a directory",
		Long: `Make an update from a directory that holds install_update.sh and the files to install.

The update has one top directory with VERSION, which build writes, and all that lies in DIR. The same
DIR, version and ` + epochVariable + ` give the same archive on every machine. Without -o it is
called <product>-<version>.<format>, in the current directory. No file is ever replaced.`,
		Example: `  boxsign build DIR -o opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if b.Epoch, err = sourceDate(s); err != nil {
				return err
			}
			return run(s, &o, func(k *signer.Signer) (signer.Archive, error) { return k.Build(cmd.Context(), args[0], b) })
		},
	}
	cmd.Flags().StringVarP(&b.Out, "output", "o", "", "write the archive to `FILE`, whose name says version and format")
	cmd.Flags().StringVar(&b.Version, "version", "", "version `N` (default "+epochVariable+" or now, in Unix seconds)")
	cmd.Flags().StringVar(&b.Format, "format", "", "`FORMAT` tar.bz2, tar.gz or tar.zst (default tar.bz2)")
	cmd.Flags().StringVar(&b.Product, "product", "", "`PRODUCT` that is updated (default "+string(update.DefaultProduct)+")")
	o.jsonFlag(cmd)
	return cmd
}

func newBootstrap(s cli.Streams) *cobra.Command {
	var o options
	var b signer.BootstrapOptions
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make the update that moves old boxes over to boxup",
		Long: `Make an update in the shape that boxes know, which they install with the updater that they have: it puts
boxup, the root that it trusts, its configuration, its service and its timer in place, and changes nothing
else. From then on boxup keeps the box up to date; the old updater is taken away by an update of yours.

It is for one architecture: publish it where boxes of that one ask. On a box of another it changes nothing.`,
		Example: `  boxsign bootstrap --arch armv6 --root 1.root.json --url http://updates.example -o opq-box-update-1550190683.tar.bz2`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.Epoch, err = sourceDate(s); err != nil {
				return err
			}
			return run(s, &o, func(k *signer.Signer) (signer.Bootstrap, error) {
				result, err := k.Bootstrap(cmd.Context(), b)
				for i, u := range result.URLs {
					if result.URLs[i] = explain.MaskURLs(u); result.URLs[i] != u {
						k.Warn("everybody who gets the update can read the password of " + result.URLs[i])
					}
				}
				return result, err
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&b.Arch, "arch", "", "`ARCH` of the boxes: "+signer.ArchNames())
	flags.StringVar(&b.Root, "root", "", "`FILE` with the root that the boxes will trust")
	flags.StringArrayVar(&b.URLs, "url", nil, "`URL` of a mirror or of the origin; several are better than one")
	flags.StringVar(&b.Boxup, "boxup", "", "`FILE` with boxup for that architecture (default boxup-linux-ARCH, beside boxsign)")
	flags.StringVarP(&b.Out, "output", "o", "", "write the archive to `FILE`, whose name says version and product (default: version now)")
	o.jsonFlag(cmd)
	return cmd
}

func newInspect(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "List an update and say whether it is a proper one",
		Long:  `List the contents of an archive and say whether it is a proper update. Exit code 1 says that it is not.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(s.Out)
			list := entries{Contents: []entry{}}
			result, err := signer.Inspect(cmd.Context(), args[0], func(e archive.Entry) error {
				if o.json {
					list.Contents = append(list.Contents, entry{e.Name, modeText(e.Mode), e.Size, e.Time.UTC(), e.Link, e.Problem})
					return nil
				}
				_, err := fmt.Fprintln(out, line(e))
				return err
			})
			if err != nil {
				return errors.Join(err, out.Flush())
			}
			if err := out.Flush(); err != nil {
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
	return cli.Printable(fmt.Sprintf("%s %9d %s %s%s", modeText(e.Mode), e.Size, e.Time.UTC().Format("2006-01-02 15:04"), e.Name, target))
}

// modeText returns a mode as ls writes it. Go's text differs only in the letter of a symbolic link.
func modeText(m fs.FileMode) string { return strings.Replace(m.String(), "L", "l", 1) }
