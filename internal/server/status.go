package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/store"
)

const (
	// codeNotFresh says that a copy is not, or may not be, what upstream has.
	codeNotFresh = 3

	// codeNotInOrder says that all is served and fresh, and that an urgent warning tells of something else. It is the
	// same of status and of health.
	codeNotInOrder = 4
)

func statusCommand(l *loader) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show how new the repository of a data directory is, and what is wrong with it",
		Long: "Shows how new the repository of --data-dir is and what is wrong with it, beside the server that holds\n" +
			"it or without one: [-] is wrong, [!] will want somebody some day.\n\n" +
			"Exit codes: 0 fresh and in order, 1 failed, 2 usage, 3 not synced, behind, expired, or the last sync\n" +
			"failed, 4 fresh, and something is wrong, such as an archive that is lost.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := l.readStatus(cmd)
			if err != nil {
				return err
			}
			return l.showStatus(r, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// statusReport is how the repository of a data directory is.
type statusReport struct {
	mirror.Freshness
	Scrub    store.Scrubbed  `json:"scrub"`
	Warnings []store.Warning `json:"warnings"`
}

func (l *loader) readStatus(cmd *cobra.Command) (r statusReport, err error) {
	s, err := l.data(cmd.Flags())
	if err != nil {
		return statusReport{}, err
	}
	st, err := l.openReadOnly(cmd, s)
	if err != nil {
		return statusReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r.Scrub = st.Scrubbed()
	f, warnings, err := readStanding(st, s, l.streams.Now())
	r.Freshness, r.Warnings = f, append([]store.Warning{}, warnings...)
	return r, err
}

// readStanding returns what a server of the settings says of a directory that is open for reading alone.
func readStanding(st *store.Store, s settings, at time.Time) (mirror.Freshness, []store.Warning, error) {
	f, warnings, err := mirror.ReadHealth(st, s.Interval, at)
	if err != nil {
		return mirror.Freshness{}, nil, err
	}
	if len(s.Upstream) == 0 && f.Synced {
		warnings = origin.ReadHealth(origin.Config{Store: st, Built: builtAt(), ClockChecked: s.ClockChecked}, at)
		warnings = append(warnings, newInspector(st, slog.New(slog.DiscardHandler)).warnings()...)
	}
	for _, damage := range st.Damage() {
		warnings = append(warnings, store.Warning{Subject: "metadata", Urgent: !f.Synced, Text: damage.Error()})
	}
	return f, warnings, nil
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

func (l *loader) showStatus(r statusReport, asJSON bool) error {
	if asJSON {
		if err := l.streams.JSON(r); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(l.streams.Out, describeFreshness(r.Freshness))
		if r.Error != "" {
			fmt.Fprintf(l.streams.Out, "last sync: %s\n", cli.Printable(r.Error))
		}
		fmt.Fprintln(l.streams.Out, describeScrub(r.Scrub))
		for _, u := range r.Upstreams {
			fmt.Fprintln(l.streams.Out, cli.Printable(describeUpstream(u)))
		}
		for _, w := range r.Warnings {
			mark := "[!] "
			if w.Urgent {
				mark = wrongMark
			}
			fmt.Fprintln(l.streams.Out, cli.Printable(mark+w.String()))
		}
	}
	return r.verdict()
}

// verdict returns nil for a repository that is fresh and in order.
func (r statusReport) verdict() error {
	var err error
	switch {
	case !r.Synced:
		err = errors.New("not synced")
	case r.Expired:
		err = fmt.Errorf("%s expired at %s", r.Expiring, r.Expires.Format(time.RFC3339))
	case r.Error != "":
		err = fmt.Errorf("no sync went well since %s", r.Since.Format(time.RFC3339))
	case r.Ring:
		err = mirror.ErrRing
	case r.SecondsBehind > 0 || r.UpdatesBehind > 0:
		err = errors.New("behind the upstream")
	}
	if err != nil {
		return cli.WithCode(err, codeNotFresh)
	}
	if i := slices.IndexFunc(r.Warnings, func(w store.Warning) bool { return w.Urgent }); i >= 0 {
		return cli.WithCode(errors.New(r.Warnings[i].String()), codeNotInOrder)
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

func gcCommand(l *loader) *cobra.Command {
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "remove archives that are not kept any more",
		Long: "Removes from --data-dir the archives that are not listed, or not kept, any more, the metadata that\n" +
			"newer ones replaced, and what has been in quarantine for a week. A server does so by itself once a day.\n" +
			"While one holds the directory, that server is asked through its admin listener.\n" +
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
	if errors.Is(err, disk.ErrLocked) && dryRun {
		return gcReport{}, cli.WithHint(err, "stop it meanwhile, or leave out --dry-run")
	}
	if errors.Is(err, disk.ErrLocked) {
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
