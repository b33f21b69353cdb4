package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/mirror"
)

func mirrorCommand(p *server.Program) *cobra.Command {
	var once, asJSON bool
	cmd := &cobra.Command{
		Use:   "mirror [URL…]",
		Short: "keep a verified copy of another server, and serve it",
		Long: "Keeps a verified copy of the repository of other servers, given by their URLs, and serves it.\n" +
			"Nobody has to trust a mirror: it serves the bytes that were signed. --root is needed only before\n" +
			"the first sync. With \"upstream\" in the settings, serve does the same. A URL with a password\n" +
			"can come from a file or from the environment: @FILE stands for the URLs in that file, one per line,\n" +
			"and env:NAME for those in that variable.\n\n" +
			"Exit codes of --once: 0 complete and fresh, 1 failed, 2 usage, 3 no upstream could be reached,\n" +
			"4 what an upstream sent was refused, 5 too little room, 6 complete, but what the upstream has is\n" +
			"expired. After 3 or 4 a newer list may be served without the archives that no upstream has whole;\n" +
			"the next run asks for them again. After 1, 2 and 5 the old copy is served unchanged.",
		Example: "  box-update-server mirror http://127.0.0.1:8151 --root 1.root.json --data-dir M --listen 127.0.0.1:8152\n" +
			"  box-update-server mirror http://127.0.0.1:8151 --root 1.root.json --data-dir M --once",
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
	cmd.Flags().BoolVar(&once, "once", false, "sync once, and do not serve")
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
	var rate int64
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "read every archive of a data directory again, and repair what is damaged",
		Long: "Reads every archive in --data-dir again and compares it with its digest. Damaged archives go to\n" +
			"quarantine. A mirror fetches their damaged blocks again. While a server holds the directory, the server\n" +
			"does this; if it can't be asked, fsck only checks and changes nothing.\n\n" +
			"Exit codes: 0 everything is in order, or was repaired, 1 failed, 2 usage, 3 something is still wrong.",
	}
	cmd.Flags().Int64Var(&rate, "read-rate", 0, "read at most so many `bytes` per second")
	return printReport(p, cmd, func(ctx context.Context) (server.FsckReport, error) { return p.Fsck(ctx, rate) }, printFsck)
}

func gcCommand(p *server.Program) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "remove archives that are no longer kept",
		Long: "Removes from --data-dir the archives that are no longer listed or kept, metadata that was replaced by\n" +
			"newer files, and what has been in quarantine for a week. A server does this once a day. While a server\n" +
			"holds the directory, that server does it.\n" +
			"--dry-run only shows what would be removed. It can't look into an origin while its server runs.",
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be removed")
	return printReport(p, cmd, func(ctx context.Context) (server.GCReport, error) { return p.GC(ctx, dryRun) }, printGC)
}

func exportCommand(p *server.Program) *cobra.Command {
	var since string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export FILE|-",
		Short: "write the repository of a data directory to one file, or a pipe",
		Long: "Writes the repository in --data-dir to one file, or with - to standard output, so that it can be carried\n" +
			"to a place without a network. --since leaves out archives that the other side already has. The command\n" +
			"can run while a server is using the directory.",
		Example: "  box-update-server export --data-dir R --since 1550190683 - | ssh box box-update-server import --data-dir M --root 1.root.json -",
		Args:    cobra.ExactArgs(1),
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
	cmd.Flags().StringVar(&since, "since", "", "leave out archives up to this version, or published before this day: `VERSION|YYYY-MM-DD`")
	command.AddJSON(cmd, &asJSON)
	return cmd
}

func importCommand(p *server.Program) *cobra.Command {
	var unsigned, asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "import an export into a data directory, or the archives of an unsigned server into a plain one",
		Long: "Reads an export from a file, or with - from standard input, into --data-dir, and verifies it as if it came\n" +
			"from an upstream. --root is needed only the first time. While a server holds the directory, the export\n" +
			"goes to that server.\n\n" +
			"With --unsigned it fetches the archives that a server without signatures lists into --updates-dir, one at\n" +
			"a time. An archive that is already there with its length is not fetched again, and nothing is replaced.\n" +
			"Until you sign the archives, nobody has vouched for them.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 the server could not be reached, or does not have all that\n" +
			"it lists, 4 the export is cut, damaged, older than what is there, or expired, or an answer was\n" +
			"refused, 5 too little room. After any code but 0 the repository is unchanged; archives that arrived\n" +
			"are kept for the next try.",
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
	cmd.Flags().BoolVar(&unsigned, "unsigned", false, "fetch the archives of the server at this URL into --updates-dir")
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
	for _, name := range report.Odd {
		p.Warn("box-update-server", "left out: "+cli.Printable(name))
	}
	err = errors.Join(printResult(p, asJSON, report, "imported %d archives, %d bytes; %d were there already", report.Archives, report.Bytes, report.There), err)
	if err != nil || asJSON {
		return err
	}
	_, err = fmt.Fprintln(p.Out, "unsigned: nobody has vouched for these archives; sign them with boxsign publish or boxsign sign")
	return err
}
