package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// codeDamaged says that something is wrong with a data directory still.
const codeDamaged = 3

func fsckCommand(l *loader) *cobra.Command {
	var rate int64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "read every archive of a data directory again, and repair what is damaged",
		Long: "Reads every archive of --data-dir again and compares it with its digest. What is damaged goes to\n" +
			"quarantine, and a mirror fetches it anew: the damaged blocks alone. While a server holds the\n" +
			"directory, that server is asked through its admin listener; where it has none nothing is changed.\n\n" +
			"Exit codes: 0 all is well, or well again, 1 failed, 2 usage, 3 something is wrong still.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := l.data(cmd.Flags())
			if err != nil {
				return err
			}
			report, err := l.fsck(cmd.Context(), s, rate)
			if err != nil {
				return err
			}
			return l.showFsck(report, asJSON)
		},
	}
	cmd.Flags().Int64Var(&rate, "read-rate", 0, "read no more than so many `bytes` per second")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (l *loader) fsck(ctx context.Context, s settings, rate int64) (fsckReport, error) {
	if !hasRepository(s.DataDir) {
		return fsckReport{}, fmt.Errorf("data_dir: %s holds no repository", s.DataDir)
	}
	meter := newMeter(l.streams)
	defer meter.End()
	logger := newLogger(meter, s)
	st, err := openStore(ctx, s, nil, logger, l.streams.Now)
	if errors.Is(err, disk.ErrLocked) {
		return l.fsckBeside(ctx, s, rate, meter)
	}
	if err != nil {
		return fsckReport{}, err
	}
	var c *mirrored
	if len(s.Upstream) > 0 {
		if c, err = newMirrored(s, st, meter.sinks(), logger, l.streams.Now); err != nil {
			return fsckReport{}, errors.Join(err, st.Close())
		}
		defer c.client.Close()
	}
	report, err := check(ctx, st, c, meter.pieces(st, newPace(ctx, rate)))
	return report, errors.Join(err, st.Close())
}

// fsckBeside checks a directory that another process holds: that process does, or nothing is changed.
func (l *loader) fsckBeside(ctx context.Context, s settings, rate int64, m meter) (fsckReport, error) {
	if s.Admin != "" {
		path := "/fsck"
		if rate > 0 {
			path += "?" + url.Values{"read_rate": {strconv.FormatInt(rate, 10)}}.Encode()
		}
		return askFsck(ctx, s, path, m)
	}
	l.streams.Warn("box-update-server", "a server without an admin listener holds the data_dir: nothing is changed")
	c, err := storeConfig(s, nil, l.streams.Now)
	if err != nil {
		return fsckReport{}, err
	}
	st, err := store.OpenReadOnly(ctx, c)
	if err != nil {
		return fsckReport{}, err
	}
	out := fsckReport{}
	problems, err := st.Check(ctx, store.Check{
		Hash: true, Checked: func(trust.Release) { out.Checked++ }, Read: m.pieces(st, newPace(ctx, rate)),
	})
	out.Problems = describeProblems(problems)
	return out, errors.Join(err, out.count(st), st.Close())
}

// count counts the metadata that newer ones replaced.
func (r *fsckReport) count(st *store.Store) error {
	got, err := st.Superseded()
	r.SupersededFiles, r.SupersededBytes = got.Kept+len(got.Files), got.KeptBytes+got.Bytes
	return err
}

// check reads every archive, moves what is damaged out of the way, and has a mirror fetch it anew. c is
// nil where there is nobody to fetch it from. read is told of each piece that was read. What could not be repaired is no error, but told.
func check(ctx context.Context, st *store.Store, c *mirrored, read func(update.Digest, int)) (fsckReport, error) {
	out := fsckReport{}
	if err := out.count(st); err != nil {
		return out, err
	}
	look := store.Check{Hash: true, Quarantine: true, Checked: func(trust.Release) { out.Checked++ }, Read: read}
	if c == nil {
		problems, err := st.Check(ctx, look)
		out.Problems, out.Repaired = describeProblems(problems), false
		for _, p := range problems {
			if p.Name != (update.Name{}) {
				out.Error = "there is no upstream to fetch it from"
			}
		}
		return out, err
	}
	got, err := c.Repair(ctx, look)
	out.Problems, out.Archives, out.Bytes = describeProblems(got.Problems), got.Archives, got.Bytes
	if err == nil {
		out.Repaired = len(got.Problems) > 0
		return out, nil
	}
	if ctx.Err() != nil || len(got.Problems) == 0 {
		return fsckReport{}, err
	}
	out.Error = err.Error()
	return out, nil
}

// newPace returns what waits after each piece, so that no more than so many bytes per second are read; 0:
// no limit.
func newPace(ctx context.Context, perSecond int64) func(update.Digest, int) {
	limit := pace.NewCap(perSecond)
	return func(_ update.Digest, n int) { _ = limit.Wait(ctx, n) } // an end of ctx ends the check as well
}

func (l *loader) showFsck(r fsckReport, asJSON bool) error {
	if asJSON {
		if err := l.streams.JSON(r); err != nil {
			return err
		}
	} else {
		for _, p := range r.Problems {
			fmt.Fprintln(l.streams.Out, cli.Printable(p.Text))
		}
		fmt.Fprintf(l.streams.Out, "checked %d updates: %d problems, %d archives repaired with %d bytes\n", r.Checked, len(r.Problems), r.Archives, r.Bytes)
		fmt.Fprintf(l.streams.Out, "%d metadata files that newer ones replaced take %d bytes\n", r.SupersededFiles, r.SupersededBytes)
	}
	if len(r.Problems) == 0 || r.Repaired {
		return nil
	}
	text := "something is wrong still"
	if r.Error != "" {
		text += ": " + r.Error
	}
	return cli.WithCode(errors.New(text), codeDamaged)
}
