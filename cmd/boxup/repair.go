package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// A disk may lose what was on it. Of the trusted metadata, timestamp, snapshot and list come anew with the
// next check. The rest is repaired here, because nobody stands beside a box:
//
//	N.root.json  come from the mirrors again, and are believed as they were at first: each by the one
//	             before it, the first by the pinned root. Their names tell which was the newest: with
//	             less than that no mirror is believed, so that it can't bring a revoked key back
//	ledger       comes from its copy; where that is lost too, it begins anew with what the trusted list has
const repairDir = "metadata.repair" // where roots are collected, beside metadataDir

// torn reports whether trusted metadata can't be opened because a file is missing or is not what it was.
func torn(err error) bool {
	for _, lost := range []error{trust.ErrMalformed, trust.ErrThreshold, trust.ErrNotFound} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

func (b *box) metadata(name string) string { return filepath.Join(b.dir, metadataDir, name) }

// repair makes what the disk lost of the trusted metadata anew.
func (b *box) repair(ctx context.Context, cause error) error {
	b.warn("the disk lost something of the trusted metadata: it is repaired from the mirrors: %v", cause)
	newest, err := b.newestRoot()
	if err != nil || newest == 0 {
		return err
	}
	return b.collectRoots(ctx, filepath.Join(b.dir, repairDir), newest)
}

// newestRoot returns the version of the newest root that there was, 0 for none.
func (b *box) newestRoot() (newest int64, err error) {
	entries, err := os.ReadDir(b.metadata(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if role, v, ok := trust.ParseFileName(e.Name()); ok && role == trust.RoleRoot {
			newest = max(newest, v)
		}
	}
	return newest, nil
}

// collectRoots brings the roots up to the newest from the mirrors, verified, and puts them in place.
func (b *box) collectRoots(ctx context.Context, dir string, newest int64) error {
	if err := errors.Join(os.RemoveAll(dir), b.connect()); err != nil {
		return err
	}
	defer b.noteMirrors()
	err := b.client.Ask(ctx, func(ctx context.Context, u *fetch.Upstream) error {
		s, err := trust.Open(trust.Config{Dir: dir, Pinned: b.pinned})
		if err != nil {
			return err
		}
		_, err = s.Refresh(ctx, u, b.clock())
		if s.Root().Version() >= newest {
			return nil // whatever was wrong with the rest
		}
		if err == nil {
			err = fmt.Errorf("%v: %w: root %d is the newest there, and there was root %d", u, trust.ErrRollback, s.Root().Version(), newest)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("repair of the roots: %w", err)
	}
	return b.placeRoots(dir)
}

// placeRoots makes the roots in dir those of the trusted metadata.
func (b *box) placeRoots(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		role, _, ok := trust.ParseFileName(e.Name())
		if !ok || role != trust.RoleRoot {
			continue
		}
		raw, err := cli.ReadFile(filepath.Join(dir, e.Name()), trust.MaxLength(trust.RoleRoot))
		if err != nil {
			return err
		}
		had, err := cli.ReadFile(b.metadata(e.Name()), trust.MaxLength(trust.RoleRoot))
		if err == nil && bytes.Equal(had, raw) {
			continue
		}
		if err := b.fs.WriteFile(b.metadata(e.Name()), raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}
