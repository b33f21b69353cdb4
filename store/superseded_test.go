package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// superseded publishes several lists, and returns the names of the snapshots and lists that were replaced.
func superseded(t *testing.T) (o *origin, s *Store, names []string) {
	t.Helper()
	o, s = newStore(t, small)
	for _, list := range [][]string{{small, other}, {other}, {small}, {small, other}} {
		for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTargets} {
			names = append(names, trust.FileName(role, s.Repository().Version(role)))
		}
		mustPublish(t, s, o.lists(list...))
	}
	slices.Sort(names)
	return o, s, names
}

// wantServed fails the test unless all of the files are served, or none.
func wantServed(t *testing.T, s *Store, served bool, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := s.Metadata(name)
		if served {
			mustDo(t, err)
		} else {
			wantErr(t, err, fs.ErrNotExist)
		}
	}
}

// TestSupersededMetadata has what a client with an old timestamp asks for stay for an hour, over a restart, and
// go then.
func TestSupersededMetadata(t *testing.T) {
	o, s, names := superseded(t)
	wantServed(t, s, true, names...)
	mustClose(t, s)
	s = mustOpen(t, o.config(s.Dir()))
	later(s, time.Hour-time.Minute)
	if got, err := s.GC(t.Context(), GC{}); err != nil || len(got.Metadata) > 0 {
		t.Errorf("collected %v, %v, within the hour", got.Metadata, err)
	}
	wantServed(t, s, true, names...)
	later(s, time.Hour+time.Minute)
	for _, dry := range []bool{true, false} {
		got, err := s.GC(t.Context(), GC{DryRun: dry})
		slices.Sort(got.Metadata)
		if err != nil || !slices.Equal(got.Metadata, names) || got.Bytes == 0 {
			t.Errorf("collected %v with %d bytes, %v, want %v", got.Metadata, got.Bytes, err, names)
		}
		wantServed(t, s, dry, names...)
	}
	o.check(s)
}

// TestSupersededByAClockAhead writes files at a time that is years ahead: the hour begins when that is noticed.
func TestSupersededByAClockAhead(t *testing.T) {
	_, s, names := superseded(t)
	entries, err := os.ReadDir(s.path(metadataDir))
	mustDo(t, err)
	for _, e := range entries {
		mustDo(t, os.Chtimes(s.path(metadataDir, e.Name()), time.Time{}, time.Now().AddDate(10, 0, 0)))
	}
	collect(t, s, GC{})
	wantServed(t, s, true, names...)
	later(s, time.Hour+time.Minute)
	collect(t, s, GC{})
	wantServed(t, s, false, names...)
}

// TestSupersededAfterAFailedCommit commits again, hours later, a list whose timestamp a full disk did not take: the
// hour of those before begins with the commit.
func TestSupersededAfterAFailedCommit(t *testing.T) {
	o, s := newStore(t, small, other)
	old := s.Repository()
	next := o.lists(small)
	s.c.FS = disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
		if op == disk.OpWrite && filepath.Base(path) == trust.TimestampName {
			return false, unix.ENOSPC
		}
		return true, nil
	}}
	mustReload(t, s)
	wantErr(t, s.Commit(t.Context(), next), disk.ErrNoSpace)
	s.c.FS = disk.FS{}
	mustReload(t, s)
	for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTargets} {
		mustDo(t, os.Chtimes(s.path(metadataDir, trust.FileName(role, next.Version(role))), time.Time{}, time.Now().Add(-3*time.Hour)))
	}
	mustPublish(t, s, next)
	for _, role := range []trust.Role{trust.RoleSnapshot, trust.RoleTargets} {
		wantServed(t, s, true, trust.FileName(role, old.Version(role)))
	}
}
