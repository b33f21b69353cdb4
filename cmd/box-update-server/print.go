package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// A report is what a command found or did. Its verdict, nil for a good one, is the error of the command.
type report interface{ Verdict() error }

// printReport makes a command that prints a report, with --json as JSON, and ends with its verdict.
func printReport[R report](p *server.Program, cmd *cobra.Command, find func(context.Context) (R, error), printText func(io.Writer, R)) *cobra.Command {
	asJSON := false
	command.AddJSON(cmd, &asJSON)
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := find(cmd.Context())
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if printText(&text, r); asJSON {
			err = p.JSON(r)
		} else {
			to := p.Out
			if p.Silenced() && r.Verdict() != nil {
				to = p.Err // it says what is wrong
			}
			_, err = to.Write(text.Bytes())
		}
		if err != nil {
			return err
		}
		return r.Verdict()
	}
	return cmd
}

// printResult prints the result of a command, as JSON or as a line of text.
func printResult(p *server.Program, asJSON bool, result any, format string, args ...any) error {
	if asJSON {
		return p.JSON(result)
	}
	_, err := fmt.Fprintf(p.Out, format+"\n", args...)
	return err
}

func printFindings(w io.Writer, found server.Findings) {
	for _, f := range found {
		fmt.Fprintf(w, "%s %s: %s\n", f.Mark(), f.Subject, cli.Printable(f.Text))
		if f.Advice != "" {
			fmt.Fprintf(w, "    to do: %s\n", cli.Printable(f.Advice))
		}
	}
}

func printFsck(w io.Writer, r server.FsckReport) {
	for _, problem := range r.Problems {
		fmt.Fprintln(w, cli.Printable(problem.Text))
	}
	fmt.Fprintf(w, "checked %d updates: %d problems, %d archives repaired with %d bytes\n", r.Checked, len(r.Problems), r.Archives, r.Bytes)
	fmt.Fprintf(w, "%d metadata files that newer ones replaced take %d bytes\n", r.SupersededFiles, r.SupersededBytes)
}

func printStatus(w io.Writer, r server.StatusReport) {
	fmt.Fprintln(w, server.DescribeFreshness(r.Freshness))
	if r.Error != "" {
		fmt.Fprintf(w, "last sync: %s\n", cli.Printable(r.Error))
	}
	fmt.Fprintln(w, describeScrub(r.Scrub))
	for _, u := range r.Upstreams {
		fmt.Fprintln(w, cli.Printable(describeUpstream(u)))
	}
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, warning.Mark(), cli.Printable(warning.String()))
	}
}

// describeUpstream says in one line how an upstream stands.
func describeUpstream(u status.Upstream) string {
	text := fmt.Sprintf("upstream %s: snapshot %d", u.URL, u.Versions.Snapshot)
	if !u.Checked.IsZero() {
		text += ", last heard of at " + u.Checked.Format(time.RFC3339)
	}
	if u.Behind {
		text += ", behind"
	}
	if u.Loop {
		text += ", copies from this mirror"
	}
	if u.Slow {
		text += ", much slower than another one and asked last"
	}
	if u.Error != "" {
		text += ", not used: " + u.Error
	}
	return text
}

// describeScrub says in one line when all archives were read again.
func describeScrub(s store.Scrubbed) string {
	text := "archives: not all read again yet"
	if !s.Complete.IsZero() {
		text = "archives: all read again by " + s.Complete.Format(time.RFC3339)
	}
	return fmt.Sprintf("%s, %d were found damaged so far", text, s.Damaged)
}

func printGC(w io.Writer, r server.GCReport) {
	for _, d := range r.Archives {
		fmt.Fprintln(w, d)
	}
	verb := "removed"
	if r.DryRun {
		verb = "would remove"
	}
	fmt.Fprintf(w, "%s %d archives and %d superseded metadata files, %d bytes\n", verb, len(r.Archives), len(r.Metadata), r.Bytes)
}
