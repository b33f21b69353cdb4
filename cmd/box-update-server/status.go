package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/store/origin"
)

// codeNotFresh says that a copy is not, or may not be, what upstream has.
const codeNotFresh = 3

func statusCommand(l *loader) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show how new the repository of a data directory is",
		Long: "Shows how new the repository of --data-dir is, beside the server that holds it or without one.\n\n" +
			"Exit codes: 0 fresh, 1 failed, 2 usage, 3 not synced, behind, expired, or the last sync failed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, scrubbed, err := l.freshness(cmd)
			if err != nil {
				return err
			}
			return l.showStatus(f, scrubbed, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (l *loader) freshness(cmd *cobra.Command) (f mirror.Freshness, scrubbed store.Scrubbed, err error) {
	s, err := l.data(cmd.Flags())
	if err != nil {
		return mirror.Freshness{}, store.Scrubbed{}, err
	}
	st, err := l.openReadOnly(cmd, s)
	if err != nil {
		return mirror.Freshness{}, store.Scrubbed{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	f, err = mirror.ReadFreshness(st, l.streams.Now())
	return f, st.Scrubbed(), err
}

// describeScrub says in one line when all archives were read again.
func describeScrub(s store.Scrubbed) string {
	text := "archives: not all read again yet"
	if !s.Complete.IsZero() {
		text = "archives: all read again by " + s.Complete.Format(time.RFC3339)
	}
	return fmt.Sprintf("%s, %d were found damaged so far", text, s.Damaged)
}

// openReadOnly opens a data directory beside the process that writes to it, if there is one.
func (l *loader) openReadOnly(cmd *cobra.Command, s settings) (*store.Store, error) {
	c, err := storeConfig(s, nil, l.streams.Now)
	if err != nil {
		return nil, err
	}
	st, err := store.OpenReadOnly(cmd.Context(), c)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	return st, nil
}

func (l *loader) showStatus(f mirror.Freshness, scrubbed store.Scrubbed, asJSON bool) error {
	if asJSON {
		if err := l.streams.JSON(struct {
			mirror.Freshness
			Scrub store.Scrubbed `json:"scrub"`
		}{f, scrubbed}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(l.streams.Out, describeFreshness(f))
		if f.Error != "" {
			fmt.Fprintf(l.streams.Out, "last sync: %s\n", cli.Printable(f.Error))
		}
		fmt.Fprintln(l.streams.Out, describeScrub(scrubbed))
		for _, u := range f.Upstreams {
			fmt.Fprintln(l.streams.Out, cli.Printable(describeUpstream(u)))
		}
	}
	switch {
	case !f.Synced:
		return cli.WithCode(errors.New("not synced"), codeNotFresh)
	case f.Expired:
		return cli.WithCode(fmt.Errorf("%s expired at %s", f.Expiring, f.Expires.Format(time.RFC3339)), codeNotFresh)
	case f.Error != "":
		return cli.WithCode(fmt.Errorf("no sync went well since %s", f.Since.Format(time.RFC3339)), codeNotFresh)
	case f.Ring:
		return cli.WithCode(errors.New("no upstream leads to an origin: each has from this mirror what it is asked for"), codeNotFresh)
	case f.SecondsBehind > 0 || f.UpdatesBehind > 0:
		return cli.WithCode(errors.New("behind the upstream"), codeNotFresh)
	}
	return nil
}

func describeUpstream(u mirror.UpstreamFreshness) string {
	text := fmt.Sprintf("upstream %s: snapshot %d", u.URL, u.Versions.Snapshot)
	if !u.Checked.IsZero() {
		text += ", last heard of at " + u.Checked.Format(time.RFC3339)
	}
	if u.Behind {
		text += ", behind"
	}
	if u.Loop {
		text += ", has from this mirror what it is asked for"
	}
	if u.Slow {
		text += ", much slower than another one and asked last"
	}
	if u.Error != "" {
		text += ", not used: " + u.Error
	}
	return text
}

func gcCommand(l *loader) *cobra.Command {
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "remove archives that are not kept any more",
		Long: "Removes the archives of --data-dir that are not listed, or not kept, any more. A server does so by\n" +
			"itself once a day. While one holds the directory, that server is asked through its admin listener.\n" +
			"--dry-run only shows; beside the server of an origin it can't tell what waits for being published.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := l.data(cmd.Flags())
			if err != nil {
				return err
			}
			report, err := l.gc(cmd, s, dryRun)
			if err != nil {
				return err
			}
			return l.showGC(report, asJSON)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be removed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (l *loader) gc(cmd *cobra.Command, s settings, dryRun bool) (report gcReport, err error) {
	if !hasRepository(s.DataDir) {
		return gcReport{}, fmt.Errorf("data_dir: %s holds no repository", s.DataDir)
	}
	_, statErr := os.Stat(filepath.Join(s.DataDir, "staging", "publish"))
	isOrigin := statErr == nil // in which archives may wait for being published
	var st *store.Store
	if dryRun && !isOrigin {
		st, err = l.openReadOnly(cmd, s)
	} else {
		st, err = openStore(cmd.Context(), s, nil, newLogger(l.streams.Err, s), l.streams.Now)
	}
	if errors.Is(err, durable.ErrLocked) && dryRun {
		return gcReport{}, cli.WithHint(err, "stop it meanwhile, or leave out --dry-run")
	}
	if errors.Is(err, durable.ErrLocked) {
		return report, ask(cmd.Context(), s, "/gc", nil, &report)
	}
	if err != nil {
		return gcReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if isOrigin {
		o, err := origin.Open(cmd.Context(), origin.Config{Store: st, Now: l.streams.Now})
		if err != nil {
			return gcReport{}, err
		}
		defer func() { err = errors.Join(err, o.Close()) }()
		got, err := o.GC(cmd.Context(), dryRun)
		return describeGC(got, dryRun), err
	}
	got, err := st.GC(cmd.Context(), store.GC{DryRun: dryRun})
	return describeGC(got, dryRun), err
}

func (l *loader) showGC(r gcReport, asJSON bool) error {
	if asJSON {
		return l.streams.JSON(r)
	}
	for _, d := range r.Archives {
		fmt.Fprintln(l.streams.Out, d)
	}
	verb := "removed"
	if r.DryRun {
		verb = "would remove"
	}
	_, err := fmt.Fprintf(l.streams.Out, "%s %d archives and %d superseded metadata files, %d bytes\n", verb, len(r.Archives), len(r.Metadata), r.Bytes)
	return err
}
