package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/box"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

func (p *program) initCommand() *cobra.Command {
	in := box.Initiation{Confirm: p.confirmRoot}
	cmd := &cobra.Command{
		Use:   "init --root FILE URL…",
		Short: "Set the root that this box trusts and the mirrors that it asks",
		Long: `Set the root that this box trusts and the mirrors that it asks. The root decides about everything that the
box will ever install. boxup shows its fingerprint, which is the SHA-256 of the file: compare it with the
fingerprint that the signers of the updates give you.

Run it again to change the mirrors; the rest of the configuration stays. To trust another root, add
--replace-root: the box forgets everything that it trusted by the old root, and keeps what is installed.

Other users can see the arguments of a program, so a URL with a password may come from a file or from the
environment: @FILE stands for the URLs in that file, one per line, and env:NAME for those in that variable.`,
		Example: "  boxup init --root 1.root.json https://updates.example.org \\\n    https://mirror.example.net/updates",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if in.Mirrors, err = p.streams.URLs(args); err != nil {
				return status.Usagef("%w", err)
			}
			if in.Root == "" {
				return status.Usagef("--root is needed: the file with the root that the signers of the updates gave you")
			}
			out, err := p.box.Init(cmd.Context(), in)
			if err != nil {
				return err
			}
			return p.showInitiated(out)
		},
	}
	cmd.Flags().StringVar(&in.Root, "root", "", "Root `FILE`, such as 1.root.json (required)")
	cmd.Flags().StringVar(&in.Fingerprint, "root-fingerprint", "", "SHA-256 of the root file in `HEX`, instead of asking")
	cmd.Flags().BoolVar(&in.Replace, "replace-root", false, "Trust this root instead of the present one")
	cmd.Flags().StringVar(&in.Product, "product", "", "`PRODUCT` whose updates the box installs")
	cmd.Flags().StringVar(&in.Hardware, "hardware", "", "`NAME` of its hardware, for updates for some hardware only")
	return p.jsonFlag(cmd)
}

// confirmRoot shows a root and asks whether it is the right one. Without a terminal to ask on, it refuses.
func (p *program) confirmRoot(ctx context.Context, root *trust.Root) error {
	if !p.streams.Interactive() {
		return status.WithHint(fmt.Errorf("%w: root %d has fingerprint %v, and there is no terminal to ask on", cli.ErrNotConfirmed, root.Version(), root.Digest()),
			"compare it with the fingerprint that the signers of the updates give you, then add --root-fingerprint HEX")
	}
	fmt.Fprintf(p.streams.Err, "root:             version %d, expires %s\nroot fingerprint: %v\n", root.Version(), stamp(root.Expires()), root.Digest())
	return p.streams.Confirm(ctx, "Is this the fingerprint that the signers of the updates gave you?")
}

func (p *program) checkCommand() *cobra.Command {
	var splay time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Ask the mirrors whether there is an update for this box",
		Long: "Ask the mirrors whether there is an update for this box, and say why a newer one is not for it yet.\n" +
			"If nothing is new, this takes one small request.\n\nExit codes:\n   0  up to date\n  10  an update is available\n" +
			"   …  see boxup --help",
		Example: "  boxup check\n  boxup check --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.delay(cmd.Context(), splay); err != nil {
				return err
			}
			o, err := p.box.Check(cmd.Context())
			if err != nil {
				return err
			}
			if err := p.showOffer(o); err != nil {
				return err
			}
			if o.Update != nil {
				return cli.Exit(status.ExitAvailable)
			}
			return nil
		},
	}
	splayFlag(cmd, &splay)
	return p.jsonFlag(cmd)
}

func (p *program) fetchCommand() *cobra.Command {
	var splay time.Duration
	cmd := &cobra.Command{
		Use:   "fetch [NAME]",
		Short: "Download the update for this box, without installing it",
		Long: "Ask the mirrors and download the update that check names, or the one of that name. After a power cut,\n" +
			"the download continues where it stopped. boxup keeps verified bytes only, and one update at a time.",
		Example: "  boxup fetch\n  boxup fetch opq-box-update-1550190683.tar.bz2",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneArgument(args)
			if err != nil {
				return err
			}
			if err := p.delay(cmd.Context(), splay); err != nil {
				return err
			}
			f, err := p.box.Fetch(cmd.Context(), name)
			if err != nil {
				return err
			}
			return p.showFetched(f)
		},
	}
	splayFlag(cmd, &splay)
	return p.jsonFlag(cmd)
}

func (p *program) verifyCommand() *cobra.Command {
	var o box.Options
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an archive without installing it",
		Long: `Verify that a file is the update of its name: by the signed list that this box trusts or, with --key,
by a detached signature. boxup makes the signed checksum line from the file and its name, and ignores a
checksum line that came with it.`,
		Example: "  boxup verify opq-box-update-1550190683.tar.bz2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := p.box.Verify(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			if p.asJSON {
				return p.streams.JSON(v)
			}
			p.facts("verified", v.Name.String(), "digest", v.Digest.String(), "length", fmt.Sprint(v.Length), "by", v.By)
			return nil
		},
	}
	keyFlag(cmd, &o)
	sigFlag(cmd, &o)
	return p.jsonFlag(cmd)
}

func (p *program) installCommand() *cobra.Command {
	o := box.Options{Report: p.showOutcome}
	cmd := &cobra.Command{
		Use:   "install [NAME|FILE]",
		Short: "Install an update that was fetched, or a file",
		Long: `Install the update that was fetched for this box, the one of that name, or a file under its signed
name. It asks no mirror. The list that this box trusts must not be expired, and must have the file, with
this name and this digest.

An update that you name is installed even if its rollout has not reached this box; its conditions on
hardware and version still apply. --force also installs an update that is installed already, that was set
aside, or that waits because it filled the disk.`,
		Example: "  boxup install\n  boxup install /media/usb/opq-box-update-1550190683.tar.bz2",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			what, err := oneArgument(args)
			if err != nil {
				return err
			}
			return p.box.Install(cmd.Context(), what, o)
		},
	}
	downgradeFlag(cmd, &o)
	keyFlag(cmd, &o)
	sigFlag(cmd, &o)
	cmd.Flags().BoolVar(&o.Force, "force", false, "Install even what is installed already, or was set aside")
	return p.jsonFlag(cmd)
}

func (p *program) updateCommand() *cobra.Command {
	var o box.Options
	var splay time.Duration
	cmd := &cobra.Command{
		Use:   "update [--key FILE URL]",
		Short: "Check, fetch, verify and install",
		Long: `Ask the mirrors, download the update for this box, verify it and install it. If the newest update
needs another one first, boxup installs both in order.

With "window" in the configuration, such as "02:00-04:00", boxup downloads updates at any time and
installs them only within that window. With "max_bytes_per_day", it downloads a longer update in parts, day by day.

With --key and the URL of a server, release.pub is all that a box needs: boxup downloads the newest update
of that server and verifies its detached signature. Such a box can't notice that a server withholds newer
updates, but it never installs a version lower than the installed one.`,
		Example: "  boxup update\n  boxup update --key release.pub http://127.0.0.1:8151",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (o.Key != "") != (len(args) == 1) {
				return status.Usagef("a URL and --key belong together; without them, boxup asks the configured mirrors")
			}
			var server string
			if o.Key != "" {
				urls, err := p.streams.URLs(args)
				if err != nil {
					return status.Usagef("%w", err)
				}
				if len(urls) != 1 {
					return status.Usagef("%s: expected one URL, got %d", args[0], len(urls))
				}
				server = urls[0]
			}
			if p.box.Interrupted() {
				splay = min(splay, 0) // finish an interrupted installation at once: services may be stopped
			}
			if err := p.delay(cmd.Context(), splay); err != nil {
				return err
			}
			waiting := false
			o.Report = func(out box.Outcome) error {
				waiting = out.Waiting()
				return p.showOutcome(out)
			}
			err := p.box.Update(cmd.Context(), server, o)
			if err == nil && waiting {
				return cli.Exit(status.ExitHeld)
			}
			return err
		},
	}
	downgradeFlag(cmd, &o)
	keyFlag(cmd, &o)
	cmd.Flags().BoolVar(&o.AnyTime, "any-time", false, "Install outside of the maintenance window, too")
	splayFlag(cmd, &splay)
	return p.jsonFlag(cmd)
}

func (p *program) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show what is installed and what is known about updates",
		Long:    "Show what is installed, what failed, and what is known about updates. This asks no mirror, and also works\nwhile another boxup is running.",
		Example: "  boxup status\n  boxup status --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := p.box.Status()
			if err != nil {
				return err
			}
			if p.asJSON {
				return p.streams.JSON(r)
			}
			p.showReport(r)
			return nil
		},
	}
	return p.jsonFlag(cmd)
}

func downgradeFlag(cmd *cobra.Command, o *box.Options) {
	cmd.Flags().BoolVar(&o.AllowDowngrade, "allow-downgrade", false, "Install a lower version than the installed one, this time")
}

func keyFlag(cmd *cobra.Command, o *box.Options) {
	cmd.Flags().StringVar(&o.Key, "key", "", "Trust a detached signature by the public key in `FILE`, such as release.pub, instead of signed metadata")
}

func sigFlag(cmd *cobra.Command, o *box.Options) {
	cmd.Flags().StringVar(&o.Sig, "sig", "", "Signature `FILE`, with --key (default FILE.sig)")
}

// oneArgument returns the argument of a command that takes at most one, "" if there is none. It refuses an empty
// argument.
func oneArgument(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if args[0] == "" {
		return "", status.Usagef("expected the name of an update or an existing file, got nothing")
	}
	return args[0], nil
}
