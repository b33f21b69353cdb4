package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror"
)

func mirrorCommand(p *server.Program) *cobra.Command {
	var once, asJSON bool
	cmd := &cobra.Command{
		Use:   "mirror [URL…]",
		Short: "Keep a verified copy of another server, and serve it",
		Long: "Keep a verified copy of the repository of other servers, and serve it. Nobody has to trust a mirror: it serves the bytes " +
			"that were signed. --root is needed only before the first sync. A URL with a password can come from a file, as @FILE, " +
			"or from a variable, as env:NAME. With \"upstream\" in the settings, serve does the same.",
		Example: "  box-update-server mirror http://127.0.0.1:8151 --root 1.root.json \\\n    --data-dir M --listen 127.0.0.1:8152\n" +
			"  box-update-server mirror --once --config /etc/box-update-server/mirror.json",
		Annotations: map[string]string{command.ManualKey: "Exit codes:\n  0  stopped by a signal; with --once: complete and fresh\n  1  failed\n  2  usage\n" +
			"  3  with --once: no upstream could be reached\n  4  with --once: what an upstream sent was refused\n" +
			"  5  with --once: too little room\n  6  with --once: complete, but what the upstream has is expired\n  130  with --once: interrupted by Ctrl-C\n\n" +
			"After 3 or 4 a newer list may be served without the archives that no upstream has whole; the next run asks for them " +
			"again. After 1, 2 and 5 the old copy is served unchanged."},
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Mirrors = true
			if len(args) > 0 {
				p.Flags["upstream"] = args
			}
			if once {
				return syncOnce(cmd.Context(), p, asJSON)
			}
			return p.Serve(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "Sync once, and do not serve")
	command.ShowFlags(cmd, "config", "data-dir", "listen", "root", "upstream", "redirects", "ca-file", "interval", "patience", "keep-newest",
		"keep-since", "on-demand", "accept-stale", "max-bytes", "bandwidth", "keep-superseded", "scrub-every")
	command.AddJSON(cmd, &asJSON)
	return cmd
}

func syncOnce(ctx context.Context, p *server.Program, asJSON bool) error {
	done, err := p.SyncOnce(ctx)
	if done == nil {
		return err
	}
	return errors.Join(printResult(p, asJSON, done, "fetched %d archives, %d bytes\n%s", done.Archives, done.Bytes, server.DescribeFreshness(done.Freshness)), err)
}

func fsckCommand(p *server.Program) *cobra.Command {
	var rate byteCount
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Read all archives again, and repair what is damaged",
		Long: "Read every archive in --data-dir again and compare it with its digest. Damaged archives go to quarantine. A mirror " +
			"fetches their damaged blocks again. While a server holds the directory, the server does this; if it can't be asked, " +
			"fsck only checks and changes nothing.\n\n" +
			"Exit codes:\n  0  everything is in order, or was repaired\n  1  failed\n  2  usage\n  3  something is still wrong",
		Example: "  box-update-server fsck --data-dir M --read-rate 50M",
	}
	cmd.Flags().Var(&rate, "read-rate", "Read at most `BYTES` per second, such as 50M")
	command.ShowFlags(cmd, "config", "data-dir")
	return printReport(p, cmd, func(ctx context.Context) (server.FsckReport, error) { return p.Fsck(ctx, int64(rate)) }, printFsck)
}

// byteCount is the value of a flag that takes a number of bytes, also with a suffix.
type byteCount int64

func (n byteCount) String() string { return strconv.FormatInt(int64(n), 10) }
func (n byteCount) Type() string   { return "bytes" }

func (n *byteCount) Set(text string) error {
	size, err := settings.ParseSize(text)
	*n = byteCount(size)
	return err
}

func gcCommand(p *server.Program) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove archives that are no longer kept",
		Long: "Remove from --data-dir the archives that are no longer listed or kept, metadata that was replaced by newer files, and " +
			"what has been in quarantine for a week. A server does this once a day. While a server holds the directory, that server does it.",
		Example: "  box-update-server gc --dry-run --data-dir M",
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "Only show what would be removed, except of an origin that a server holds")
	command.ShowFlags(cmd, "config", "data-dir")
	return printReport(p, cmd, func(ctx context.Context) (server.GCReport, error) { return p.GC(ctx, dryRun) }, printGC)
}

func exportCommand(p *server.Program) *cobra.Command {
	var since string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export FILE|-",
		Short: "Write the repository to one file, or a pipe",
		Long: "Write the repository in --data-dir to one file, or with - to standard output, so that it can be carried to a place " +
			"without a network. --since leaves out archives that the other side already has. The command can run while a server is using the directory.",
		Example: "  box-update-server export --data-dir R /media/usb/updates.export\n" +
			"  box-update-server export --data-dir R --since 1550190683 - |\n    ssh box box-update-server import --data-dir M --root 1.root.json -",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := server.ParseSince(since)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				if err := command.RefuseQuiet(cmd, "the export"); err != nil {
					return err
				}
			}
			result, err := p.Export(cmd.Context(), from, args[0])
			if err != nil || args[0] == "-" {
				return err
			}
			return printResult(p, asJSON, result, "exported %d archives, %d bytes", result.Archives, result.Bytes)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "Leave out archives up to this version, or published before this day: `VERSION|YYYY-MM-DD`")
	command.ShowFlags(cmd, "config", "data-dir")
	command.AddJSON(cmd, &asJSON)
	return cmd
}

func importCommand(p *server.Program) *cobra.Command {
	var unsigned, asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE|-|--unsigned URL",
		Short: "Read an export, or the archives of an unsigned server",
		Long: "Read an export from a file, or with - from standard input, into --data-dir, and verify it as if it came from an upstream. " +
			"--root is needed only the first time. While a server holds the directory, the export goes to that server.\n\n" +
			"With --unsigned, fetch the archives that a server without signatures lists into --updates-dir. What is there already is " +
			"not fetched again, and nothing is replaced. Until you sign the archives, nobody has vouched for them.\n\n" +
			"Exit codes:\n  0  done\n  1  failed\n  2  usage\n  3  the server could not be reached, or does not have all that it lists\n" +
			"  4  the export is cut, damaged, older than what is there, or expired, or an answer was refused\n  5  too little room",
		Annotations: map[string]string{command.ManualKey: "After any exit code but 0 the repository is unchanged; archives that arrived are kept for the next try."},
		Example: "  box-update-server import --data-dir M --root 1.root.json FILE\n" +
			"  box-update-server import --unsigned http://old-server --updates-dir U",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if unsigned {
				return importUnsigned(cmd.Context(), p, args[0], asJSON)
			}
			report, err := p.Import(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printResult(p, asJSON, report, "imported %d archives, %d bytes", report.Archives, report.Bytes)
		},
	}
	cmd.Flags().BoolVar(&unsigned, "unsigned", false, "Fetch the archives of the server at this URL into --updates-dir")
	command.ShowFlags(cmd, "config", "data-dir", "root", "updates-dir")
	command.AddJSON(cmd, &asJSON)
	return cmd
}

// importUnsigned fetches the archives of a server without signatures, and prints the checksum line of each.
func importUnsigned(ctx context.Context, p *server.Program, url string, asJSON bool) error {
	p.Flags["upstream"] = []string{url}
	report, err := p.ImportUnsigned(ctx, func(meter io.Writer, a mirror.Archive) {
		for _, problem := range a.Problems {
			fmt.Fprintf(meter, "box-update-server: warning: %v: %s\n", a.Name, cli.Printable(problem))
		}
		if !asJSON {
			fmt.Fprintf(p.Out, "%v  %v\n", a.Digest, a.Name)
		}
	})
	if report == nil {
		return err
	}
	for _, name := range report.LeftOut {
		p.Warn("box-update-server", "left out: "+cli.Printable(name))
	}
	err = errors.Join(printResult(p, asJSON, report, "imported %d archives, %d bytes; %d were there already", report.Archives, report.Bytes, report.There), err)
	if err != nil || asJSON {
		return err
	}
	_, err = fmt.Fprintln(p.Out, "unsigned: nobody has vouched for these archives; sign them with boxsign publish or boxsign sign")
	return err
}
