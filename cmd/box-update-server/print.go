package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

func countWrong(found []server.Finding) (n int) {
	for _, f := range found {
		if f.Urgent {
			n++
		}
	}
	return n
}

func printFindings(p *server.Program, found []server.Finding, asJSON bool) error {
	if asJSON {
		return p.JSON(found)
	}
	for _, f := range found {
		_, err := fmt.Fprintf(p.Out, "%s %s\n", f.Mark(), cli.Printable(status.Warning{Subject: f.Subject, Text: f.Text}.String()))
		if f.Advice != "" {
			_, e := fmt.Fprintf(p.Out, "    to do: %s\n", cli.Printable(f.Advice))
			err = errors.Join(err, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func printFsck(p *server.Program, r server.FsckReport, asJSON bool) error {
	if asJSON {
		if err := p.JSON(r); err != nil {
			return err
		}
	} else {
		for _, problem := range r.Problems {
			fmt.Fprintln(p.Out, cli.Printable(problem.Text))
		}
		fmt.Fprintf(p.Out, "checked %d updates: %d problems, %d archives repaired with %d bytes\n", r.Checked, len(r.Problems), r.Archives, r.Bytes)
		fmt.Fprintf(p.Out, "%d metadata files that newer ones replaced take %d bytes\n", r.SupersededFiles, r.SupersededBytes)
	}
	return r.Verdict()
}

func printStatus(p *server.Program, r server.StatusReport, asJSON bool) error {
	if asJSON {
		if err := p.JSON(r); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(p.Out, server.DescribeFreshness(r.Freshness))
		if r.Error != "" {
			fmt.Fprintf(p.Out, "last sync: %s\n", cli.Printable(r.Error))
		}
		fmt.Fprintln(p.Out, describeScrub(r.Scrub))
		for _, u := range r.Upstreams {
			fmt.Fprintln(p.Out, cli.Printable(describeUpstream(u)))
		}
		for _, w := range r.Warnings {
			fmt.Fprintln(p.Out, w.Mark(), cli.Printable(w.String()))
		}
	}
	return r.Verdict()
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

func printGC(p *server.Program, r server.GCReport, asJSON bool) error {
	if asJSON {
		return p.JSON(r)
	}
	for _, d := range r.Archives {
		fmt.Fprintln(p.Out, d)
	}
	verb := "removed"
	if r.DryRun {
		verb = "would remove"
	}
	_, err := fmt.Fprintf(p.Out, "%s %d archives and %d superseded metadata files, %d bytes\n", verb, len(r.Archives), len(r.Metadata), r.Bytes)
	return err
}
