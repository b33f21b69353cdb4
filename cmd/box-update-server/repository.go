package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/mirror"
)

func mirrorCommand(p *server.Program) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "mirror [URL…]",
		Short: "keep a verified copy of another server, and serve it",
		Long: "Keeps a verified copy of the repository of other servers, each a URL, and serves it.\n" +
			"Nobody has to trust a mirror: it serves the bytes that were signed. --root is needed before\n" +
			"the first sync alone. With \"upstream\" in the settings, serve does the same. A URL with a password\n" +
			"may come from a file or from the environment: @FILE stands for the URLs in it, one on a line,\n" +
			"env:NAME for those in that variable.\n\n" +
			"Exit codes of --once: 0 complete and fresh, 1 failed, 2 usage, 3 no upstream could be reached,\n" +
			"4 what an upstream sent was refused, 5 too little room, 6 complete, but what upstream has is\n" +
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
				return syncOnce(cmd.Context(), p)
			}
			return p.Serve(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "sync once, don't listen")
	return cmd
}

func syncOnce(ctx context.Context, p *server.Program) error {
	done, err := p.SyncOnce(ctx)
	if done != nil {
		fmt.Fprintf(p.Out, "fetched %d archives, %d bytes\n%s\n", done.Archives, done.Bytes, done.Freshness)
	}
	return err
}

func fsckCommand(p *server.Program) *cobra.Command {
	var rate int64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "read every archive of a data directory again, and repair what is damaged",
		Long: "Reads every archive of --data-dir again and compares it with its digest. What is damaged goes to\n" +
			"quarantine, and a mirror fetches it anew: the damaged blocks alone. While a server holds the\n" +
			"directory, that server is asked to; where it can't be asked nothing is changed.\n\n" +
			"Exit codes: 0 all is well, or well again, 1 failed, 2 usage, 3 something is wrong still.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := p.Fsck(cmd.Context(), rate)
			if err != nil {
				return err
			}
			return printFsck(p, report, asJSON)
		},
	}
	cmd.Flags().Int64Var(&rate, "read-rate", 0, "read no more than so many `bytes` per second")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func gcCommand(p *server.Program) *cobra.Command {
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "remove archives that are not kept any more",
		Long: "Removes from --data-dir the archives that are not listed, or not kept, any more, the metadata that\n" +
			"newer ones replaced, and what has been in quarantine for a week. A server does so by itself once a day.\n" +
			"While one holds the directory, that server is asked to.\n" +
			"--dry-run only shows; beside the server of an origin it can't tell what waits for being published.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := p.GC(cmd.Context(), dryRun)
			if err != nil {
				return err
			}
			return printGC(p, report, asJSON)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be removed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func exportCommand(p *server.Program) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "export FILE|-",
		Short: "write the repository of a data directory to one file, or a pipe",
		Long: "Writes the repository of --data-dir to one file, or with - to a pipe, to be carried to where no\n" +
			"network leads. With --since archives are left out that the other side has. It may run beside the\n" +
			"server that holds the directory.",
		Example: "  box-update-server export --data-dir R --since 1550190683 - | ssh box box-update-server import --data-dir M --root 1.root.json -",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := server.ParseSince(since)
			if err != nil {
				return err
			}
			result, err := p.Export(cmd.Context(), from, args[0])
			if err != nil || args[0] == "-" {
				return err
			}
			_, err = fmt.Fprintf(p.Out, "exported %d archives, %d bytes\n", result.Archives, result.Bytes)
			return err
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "leave out archives up to this version, or published before this day: `VERSION|YYYY-MM-DD`")
	return cmd
}

func importCommand(p *server.Program) *cobra.Command {
	var unsigned bool
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "take an export into a data directory, or the archives of an unsigned server into a plain one",
		Long: "Takes an export from a file, or with - from a pipe, into --data-dir, verified as if it came from an\n" +
			"upstream. --root is needed the first time alone. While a server holds the directory, the export goes\n" +
			"to that server.\n\n" +
			"With --unsigned it takes what a server that signs nothing lists into --updates-dir, one archive at a\n" +
			"time. What is there with its length is not fetched again, and nothing is replaced. Nobody has\n" +
			"vouched for what came until somebody signs it.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 the server could not be reached, or does not have all that\n" +
			"it lists, 4 the export is cut, damaged, older than what is there, or expired, or an answer was\n" +
			"refused, 5 too little room. After all but 0 the repository is what it was before; archives that\n" +
			"arrived are kept for another try.",
		Example: "  box-update-server import --data-dir M --root 1.root.json FILE\n" +
			"  box-update-server import --unsigned http://old-server --updates-dir U",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if unsigned {
				return importUnsigned(cmd.Context(), p, args[0])
			}
			report, err := p.Import(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.Out, "imported %d archives, %d bytes\n", report.Archives, report.Bytes)
			return err
		},
	}
	cmd.Flags().BoolVar(&unsigned, "unsigned", false, "take the archives of the server at this URL into --updates-dir")
	return cmd
}

// importUnsigned takes the archives of a server that signs nothing, and prints the checksum line of each.
func importUnsigned(ctx context.Context, p *server.Program, url string) error {
	p.Flags["upstream"] = []string{url}
	report, err := p.ImportUnsigned(ctx, func(meter io.Writer, a mirror.Archive) {
		for _, problem := range a.Problems {
			fmt.Fprintf(meter, "box-update-server: warning: %v: %s\n", a.Name, cli.Printable(problem))
		}
		fmt.Fprintf(p.Out, "%v  %v\n", a.Digest, a.Name)
	})
	if report == nil {
		return err
	}
	for _, name := range report.Odd {
		p.Warn("box-update-server", "left out: "+cli.Printable(name))
	}
	fmt.Fprintf(p.Out, "imported %d archives, %d bytes; %d were there already\n", report.Archives, report.Bytes, report.There)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.Out, "unsigned: nobody has vouched for what came; sign it with boxsign publish, or boxsign sign")
	return err
}
