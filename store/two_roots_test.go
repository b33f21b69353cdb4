package store

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// onlineParts are the roles of the online key.
func onlineParts() []trust.Role { return []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp} }

// TestCrashBetweenTwoRootsAndTheirTimestamp has a mirror take both roots of a replaced online key in one
// commit, which crashes after each of its steps: what is served is the set before, or the new one.
func TestCrashBetweenTwoRootsAndTheirTimestamp(t *testing.T) {
	o := newOrigin(t)
	c := o.config(filepath.Join(testworld.TempDir(t), "R"))
	mustPublish(t, mustOpen(t, c), o.lists(small))
	root := func(change func(*trust.RootEdit, trust.Role) error) *trust.Proposal {
		e := o.repo.EditRoot(day)
		for _, role := range onlineParts() {
			if err := change(e, role); err != nil {
				t.Fatal(err)
			}
		}
		p, err := e.Sign(t.Context(), o.keys.Roots[0])
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	old, fresh := o.keys.Online, testworld.NewSigner("fresh online")
	both := root(func(e *trust.RootEdit, role trust.Role) error { return e.AddKey(role, fresh.Public()) })
	var err error
	if o.repo, err = o.repo.Next(t.Context(), day, trust.Change{Root: both}, old, fresh); err != nil {
		t.Fatal(err)
	}
	o.keys.Online = fresh
	o.next(trust.Change{})
	last := o.next(trust.Change{Root: root(func(e *trust.RootEdit, role trust.Role) error {
		return e.RemoveKey(role, old.Public().ID())
	})})
	steps := 0
	for ; ; steps++ {
		copied := c
		copied.Dir = copyDir(t, c.Dir)
		s := mustOpen(t, copied)
		s.c.FS = crashAfter(steps, false, func(disk.Op, string) {})
		mustReload(t, s)
		done := s.Commit(t.Context(), last) == nil
		if err := s.Close(); err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		s = mustOpen(t, copied)
		if s.Repository() == nil {
			t.Errorf("after %d steps: no repository is served", steps)
		}
		mustClose(t, s)
		if done {
			break
		}
	}
	if steps < 10 {
		t.Errorf("expected at least 10 steps, got %d", steps)
	}
}
