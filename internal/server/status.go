package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

const (
	// codeNotFresh says that a copy is not, or may not be, the newest.
	codeNotFresh = 3

	// codeNotInOrder says that a server is ready, or a copy fresh, but something else is urgent.
	codeNotInOrder = 4
)

// StatusReport is how the repository of a data directory is.
type StatusReport struct {
	status.Freshness
	Scrub    store.Scrubbed   `json:"scrub"`
	Warnings []status.Warning `json:"warnings"`
}

// Status returns how the repository of the data directory is, whether or not a server is using it.
func (p *Program) Status(ctx context.Context) (r StatusReport, err error) {
	s, err := p.data()
	if err != nil {
		return StatusReport{}, err
	}
	st, err := p.openReadOnly(ctx, s)
	if err != nil {
		return StatusReport{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r.Scrub = st.Scrubbed()
	f, warnings, err := readStanding(st, s, p.Built, p.Now())
	r.Freshness, r.Warnings = f, append([]status.Warning{}, warnings...)
	return r, err
}

// readStanding returns what a server with these settings would report on a store that is open for reading only.
func readStanding(st *store.Store, s settings.Server, built, at time.Time) (status.Freshness, []status.Warning, error) {
	f, warnings, err := mirror.ReadHealth(st, s.Interval, at)
	if err != nil {
		return status.Freshness{}, nil, err
	}
	if len(s.Upstream) == 0 && f.Synced {
		warnings = origin.ReadHealth(origin.Config{Store: st, Built: built, ClockChecked: s.ClockChecked}, at)
		warnings = append(warnings, newInspector(st, slog.New(slog.DiscardHandler)).warnings()...)
	}
	return f, warnings, nil
}

// openReadOnly opens a data directory for reading, whether or not a process writes to it.
func (p *Program) openReadOnly(ctx context.Context, s settings.Server) (*store.Store, error) {
	c, err := storeConfig(s, nil, p.Now)
	if err != nil {
		return nil, err
	}
	st, err := store.OpenReadOnly(ctx, c)
	if err != nil && !hasRepository(s.DataDir) {
		err = status.WithHint(err, "a mirror has a repository after its first complete sync, and its log says what prevents that; for an origin, boxsign init makes the repository")
	}
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	return st, nil
}

// Verdict returns nil for a repository that is fresh and in order.
func (r StatusReport) Verdict() error {
	if err := r.Freshness.Verdict(); err != nil {
		return status.WithCode(err, codeNotFresh)
	}
	if i := slices.IndexFunc(r.Warnings, func(w status.Warning) bool { return w.Urgent }); i >= 0 {
		return status.WithCode(errors.New(r.Warnings[i].String()), codeNotInOrder)
	}
	return nil
}
