package store

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

func TestZZ(t *testing.T) {
	o := newOrigin(t)
	dir := filepath.Join(tempDir(t), "R")
	c := o.config(dir)
	s := mustOpen(t, c)
	mustPublish(t, s, o.lists(small))
	old := o.online
	fresh := newSigner(t, "fresh online")
	root := func(ch func(e *trust.RootEdit) error) *trust.Proposal {
		e, err := o.repo.EditRoot(day)
		if err == nil { err = ch(e) }
		if err != nil { t.Fatal(err) }
		p, err := e.Sign(context.Background(), o.root)
		if err != nil { t.Fatal(err) }
		return p
	}
	p := root(func(e *trust.RootEdit) error {
		if err := e.AddKey(trust.RoleSnapshot, fresh.public); err != nil { return err }
		return e.AddKey(trust.RoleTimestamp, fresh.public)
	})
	var err error
	o.repo, err = o.repo.Next(context.Background(), day, trust.Change{Root: p}, old, fresh)
	if err != nil { t.Fatal(err) }
	o.online = fresh
	o.next(trust.Change{})
	p = root(func(e *trust.RootEdit) error {
		if err := e.RemoveKey(trust.RoleSnapshot, old.public.ID()); err != nil { return err }
		return e.RemoveKey(trust.RoleTimestamp, old.public.ID())
	})
	last := o.next(trust.Change{Root: p})
	none := 0
	for i := 0; i < 60; i++ {
		d2 := copyDir(t, dir)
		c2 := c
		c2.Dir = d2
		m := mustOpen(t, c2)
		m.c.FS = crashAfter(i, false, func(durable.Op, string) {})
		mustReload(t, m)
		if m.Commit(context.Background(), last) == nil { break }
		m.Close()
		m2 := mustOpen(t, c2)
		if m2.Repository() == nil { none++ ; t.Log(i, m2.current.Load().problem) }
		mustClose(t, m2)
	}
	t.Log("none:", none)
}
