package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// codeDamaged says that something is wrong with a data directory still.
const codeDamaged = 3

// Fsck reads every archive of the data directory again, no more than rate bytes per second (0: any number), and
// repairs what is damaged. While a server holds the directory, that server does.
func (p *Program) Fsck(ctx context.Context, rate int64) (FsckReport, error) {
	s, err := p.data()
	if err != nil {
		return FsckReport{}, err
	}
	if !hasRepository(s.DataDir) {
		return FsckReport{}, fmt.Errorf("data_dir: %s holds no repository", s.DataDir)
	}
	meter := newMeter(p.Streams)
	defer meter.End()
	logger := newLogger(meter, s)
	st, err := openStore(ctx, s, nil, logger, p.Now)
	if errors.Is(err, disk.ErrLocked) {
		return p.fsckBeside(ctx, s, rate, meter)
	}
	if err != nil {
		return FsckReport{}, err
	}
	var c *mirrored
	if len(s.Upstream) > 0 {
		if c, err = p.newMirrored(s, st, meter.sinks(), logger); err != nil {
			return FsckReport{}, errors.Join(err, st.Close())
		}
		defer c.client.Close()
	}
	report, err := check(ctx, st, c, meter.pieces(st, newPace(ctx, rate)))
	return report, errors.Join(err, st.Close())
}

// fsckBeside checks a directory that another process holds: that process does, or nothing is changed.
func (p *Program) fsckBeside(ctx context.Context, s settings.Server, rate int64, m meter) (FsckReport, error) {
	path := "/fsck"
	if rate > 0 {
		path += "?" + url.Values{"read_rate": {strconv.FormatInt(rate, 10)}}.Encode()
	}
	report, err := askFsck(ctx, s.DataDir, path, m)
	if !errors.Is(err, errNotAsked) {
		return report, err
	}
	p.Warn("box-update-server", err.Error()+": nothing is changed")
	c, err := storeConfig(s, nil, p.Now)
	if err != nil {
		return FsckReport{}, err
	}
	st, err := store.OpenReadOnly(ctx, c)
	if err != nil {
		return FsckReport{}, err
	}
	out := FsckReport{}
	problems, err := st.Check(ctx, store.Check{
		Hash: true, Checked: func(trust.Release) { out.Checked++ }, Read: m.pieces(st, newPace(ctx, rate)),
	})
	out.Problems = describeProblems(problems)
	return out, errors.Join(err, out.count(st), st.Close())
}

// count counts the metadata that newer ones replaced.
func (r *FsckReport) count(st *store.Store) error {
	got, err := st.Superseded()
	r.SupersededFiles, r.SupersededBytes = got.Kept+len(got.Files), got.KeptBytes+got.Bytes
	return err
}

// check reads every archive, moves what is damaged out of the way, and has a mirror fetch it anew. c is
// nil where there is nobody to fetch it from. read is told of each piece that was read. What could not be repaired is no error, but told.
func check(ctx context.Context, st *store.Store, c *mirrored, read func(update.Digest, int)) (FsckReport, error) {
	out := FsckReport{}
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
		return FsckReport{}, err
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

// Verdict returns nil where all is well, or well again.
func (r FsckReport) Verdict() error {
	if len(r.Problems) == 0 || r.Repaired {
		return nil
	}
	text := "something is wrong still"
	if r.Error != "" {
		text += ": " + r.Error
	}
	return status.WithCode(errors.New(text), codeDamaged)
}
