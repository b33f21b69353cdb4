package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// GCReport is what was removed, or would be.
type GCReport struct {
	DryRun   bool            `json:"dry_run"`
	Archives []update.Digest `json:"archives"`
	Metadata []string        `json:"metadata"` // superseded files
	Bytes    int64           `json:"bytes"`    // of all
}

// Verdict returns nil: whatever was removed, all is well.
func (GCReport) Verdict() error { return nil }

func describeGC(got store.Collected, dryRun bool) GCReport {
	return GCReport{dryRun, append([]update.Digest{}, got.Digests...), append([]string{}, got.Metadata...), got.Bytes}
}

// repositoryData is data for a directory that must hold a repository.
func (p *Program) repositoryData() (settings.Server, error) {
	s, err := p.data()
	if err == nil && !hasRepository(s.DataDir) {
		err = fmt.Errorf("data_dir: %s holds no repository", s.DataDir)
	}
	return s, err
}

// GC removes from the data directory what is no longer kept, or with dryRun only reports that. While a server holds the
// directory, that server does.
func (p *Program) GC(ctx context.Context, dryRun bool) (report GCReport, err error) {
	s, err := p.repositoryData()
	if err != nil {
		return GCReport{}, err
	}
	meter := newMeter(p.Streams)
	defer meter.End()
	ctx = pace.ObserveWaits(ctx, meter.Wait)
	_, statErr := os.Stat(filepath.Join(s.DataDir, "staging", "publish"))
	isOrigin := statErr == nil // archives of proposals may wait there
	var st *store.Store
	if dryRun && !isOrigin {
		st, err = p.openReadOnly(ctx, s)
	} else {
		st, err = openStore(ctx, s, nil, p.newLogger(meter, s), p.Now)
	}
	if errors.Is(err, disk.ErrLocked) && dryRun {
		return GCReport{}, status.WithHint(err, "stop the server first, or leave out --dry-run")
	}
	if errors.Is(err, disk.ErrLocked) {
		return report, ask(ctx, s.DataDir, "/gc", nil, &report)
	}
	if err != nil {
		return GCReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if isOrigin {
		o, err := origin.Open(ctx, origin.Config{Store: st, Now: p.Now})
		if err != nil {
			return GCReport{}, err
		}
		defer func() { err = errors.Join(err, o.Close()) }()
		got, err := o.GC(ctx, dryRun)
		return describeGC(got, dryRun), err
	}
	got, err := st.GC(ctx, store.GC{DryRun: dryRun})
	return describeGC(got, dryRun), err
}

func (a *admin) gc(r *http.Request) (any, error) {
	var got store.Collected
	var err error
	if o := a.repository.origin; o != nil {
		got, err = o.GC(r.Context(), false)
	} else {
		got, err = a.repository.store.GC(r.Context(), store.GC{})
	}
	if err != nil {
		return nil, err
	}
	return describeGC(got, false), nil
}
