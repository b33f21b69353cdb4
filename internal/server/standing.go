package server

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/store/dropdir"
	"github.com/openpowerquality/box-update-server/update"
)

// measureEvery is the time between two measurements of the room that the store takes and has.
const measureEvery = 30 * time.Second

// stats has the numbers of directory and repository for status page and metrics. One of the two may be missing.
type stats struct {
	dir         *dropdir.Dir
	repository  *repository
	credentials credentials // nil: there is no TLS
	now         func() time.Time
	logger      *slog.Logger
	room        atomic.Pointer[store.Room] // nil: not known yet, or there is no store
}

// run measures the store until ctx ends.
func (s *stats) run(ctx context.Context) {
	if s.repository == nil {
		return
	}
	for failed := false; ; {
		room, err := s.repository.store.Room(ctx, nil)
		if err == nil {
			s.room.Store(&room)
		} else if ctx.Err() == nil && !failed {
			s.logger.Warn("store not measured", "err", err)
		}
		failed = err != nil
		if pace.Sleep(ctx, measureEvery) != nil {
			return
		}
	}
}

// standing returns how the server stands now.
func (s *stats) standing() (out status.Standing) {
	if s.dir != nil {
		out.Unhashed = s.dir.Health().Pending
	}
	if s.credentials != nil {
		out.CertificateExpires = firstExpiry(s.credentials.Standing(s.now()))
	}
	if s.repository == nil {
		return out
	}
	scrubbed := s.repository.store.Scrubbed()
	out.Scrubbed, out.Damaged = scrubbed.Complete, scrubbed.Damaged
	if room := s.room.Load(); room != nil {
		out.StoreBytes, out.FreeBytes = room.Used, room.Free
	}
	if repo := s.repository.store.Repository(); repo != nil {
		for _, role := range trust.Roles() {
			out.Files = append(out.Files, status.File{
				Role: string(role), Version: repo.Version(role), Issued: repo.Issued(role), Expires: repo.Expires(role)})
		}
	}
	if o := s.repository.origin; o != nil {
		out.ClockOff = slices.ContainsFunc(o.Health(s.now()), func(w status.Warning) bool { return w.Subject == origin.SubjectClock })
	}
	if m := s.repository.copy; m != nil {
		out.Copy, out.Refusals = m.Freshness(), m.wrong.now()
	}
	return out
}

// firstExpiry returns when the first certificate expires, without those that were not obtained yet.
func firstExpiry(all []standing) (first time.Time) {
	for _, c := range all {
		if first.IsZero() || !c.expires.IsZero() && c.expires.Before(first) {
			first = c.expires
		}
	}
	return first
}

// conditions returns which boxes an update of the catalog is for.
func (s *stats) conditions(u update.Update) trust.Conditions {
	if s.repository != nil {
		if rel, ok := s.repository.release(u); ok {
			return rel.Conditions()
		}
	}
	return trust.Conditions{}
}
