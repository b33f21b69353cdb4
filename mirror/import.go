package mirror

import (
	"context"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// Config returns the configuration, with its defaults.
func (m *Mirror) Config() Config { return m.c }

// RunImport calls do, which makes the repository that it returns the current one, and records that the copy is complete.
// Nothing else changes the store meanwhile: a running sync ends, and begins again afterwards.
func (m *Mirror) RunImport(ctx context.Context, do func() (*trust.Repository, error)) error {
	return m.lock.runExclusive(ctx, func() error {
		repo, err := do()
		if err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.record.noteImport(repo, seconds(m.c.Now()))
		m.save()
		return nil
	})
}

// NoteImport records in the directory of a store, which no Mirror has, that the copy is complete.
func NoteImport(fs disk.FS, dir string, repo *trust.Repository, at time.Time) error {
	r, _, err := readRecord(dir)
	if err != nil {
		r = record{} // it has only the past
	}
	r.noteImport(repo, seconds(at))
	return r.write(fs, dir)
}

// noteImport records a repository that did not come from an upstream. The upstreams may be behind it.
func (r *record) noteImport(repo *trust.Repository, at time.Time) {
	r.clearProblem()
	r.Checked, r.Complete = at, at
	r.Newest, r.UpdatesBehind, r.BehindSince = repo.Versions(), 0, time.Time{}
}
