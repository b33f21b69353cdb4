package mirror

import (
	"context"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// Config returns what a mirror works on, with the values that stand for zero ones.
func (m *Mirror) Config() Config { return m.c }

// RunImport calls do, which makes the repository that it returns the current one, while nothing else changes the store, and
// notes that the copy is complete. A sync that is under way makes way for it, and begins anew afterwards.
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

// NoteImport notes in the directory of a store, which no Mirror has, that the copy is complete.
func NoteImport(fs disk.FS, dir string, repo *trust.Repository, at time.Time) error {
	r, _, err := readRecord(dir)
	if err != nil {
		r = record{} // it tells the past
	}
	r.noteImport(repo, seconds(at))
	return r.write(fs, dir)
}

// noteImport notes that a repository came from elsewhere than an upstream, which may be behind it.
func (r *record) noteImport(repo *trust.Repository, at time.Time) {
	r.clearProblem()
	r.Checked, r.Complete = at, at
	r.Newest, r.UpdatesBehind, r.BehindSince = repo.Versions(), 0, time.Time{}
}
