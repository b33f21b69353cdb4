package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// Directory is what a signer reads and writes by itself in the directory of a package store's Store:
//
//	metadata/…               the files of a State, which the Store commits
//	staging/<N>.<role>.json  proposals that wait for more signatures
//
// Archives are the Store's alone. Whoever writes here holds the Store's lock.
type Directory struct {
	FS   disk.FS
	Path string
}

// Fetch reads a metadata file of the directory, as a Fetcher does.
func (d Directory) Fetch(_ context.Context, name string, limit int64, _ update.Digest) ([]byte, error) {
	return readFile(filepath.Join(d.Path, "metadata", filepath.Base(name)), limit)
}

func (d Directory) staging() string { return filepath.Join(d.Path, "staging") }

// SavePending keeps a proposal until more keys have signed it.
func (d Directory) SavePending(p *Proposal) error {
	if err := d.FS.MkdirAll(d.staging(), 0o755); err != nil {
		return err
	}
	return d.FS.WriteFile(filepath.Join(d.staging(), FileName(p.role, p.Version())), p.Raw(), 0o644)
}

// DropPending removes a proposal. Whoever has a copy of it with enough signatures can still publish it
// until a higher version is out.
func (d Directory) DropPending(p *Proposal) error {
	return d.FS.Remove(filepath.Join(d.staging(), FileName(p.role, p.Version())))
}

// Pending returns the proposals that wait and that follow r, lists before roots and the lowest version
// first. What doesn't follow r is left out. unfit says of each other file why nobody can publish it: the disk
// damaged it, or it expired.
func (d Directory) Pending(r *Repository, known *Ledger, at time.Time) (waiting []*Proposal, unfit []error, err error) {
	reserved, err := d.Reserved()
	if err != nil {
		return nil, nil, err
	}
	for _, role := range []Role{RoleTargets, RoleRoot} {
		versions, err := storedVersions(d.staging(), role)
		if err != nil {
			return nil, nil, err
		}
		for _, v := range versions {
			path := filepath.Join(d.staging(), FileName(role, v))
			p, err := r.readPending(path, role, v, known, reserved, at)
			switch {
			case err == nil:
				waiting = append(waiting, p)
			case errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound): // old, or just published
			case errors.As(err, new(*fs.PathError)) && !errors.Is(err, ErrMalformed):
				return nil, nil, err
			default:
				unfit = append(unfit, fmt.Errorf("%s: %w", path, err))
			}
		}
	}
	return waiting, unfit, nil
}

func (r *Repository) readPending(path string, role Role, version int64, known *Ledger, reserved int64, at time.Time) (*Proposal, error) {
	raw, err := readFile(path, MaxLength(role))
	if err != nil {
		return nil, err
	}
	p, err := r.check(role, known, reserved, raw, at)
	if err == nil && p.Version() != version {
		err = fmt.Errorf("%w: it has version %d", ErrMalformed, p.Version())
	}
	return p, err
}

func (r *Repository) check(role Role, known *Ledger, reserved int64, raw []byte, at time.Time) (*Proposal, error) {
	if role == RoleRoot {
		return r.CheckRoot(raw, at)
	}
	return r.CheckTargets(known, reserved, raw, at)
}

// Reserved returns the highest version of a list that waits for signatures, 0 for none.
func (d Directory) Reserved() (int64, error) {
	versions, err := storedVersions(d.staging(), RoleTargets)
	if err != nil || len(versions) == 0 {
		return 0, err
	}
	return versions[len(versions)-1], nil
}

// DropOld removes the proposals that can't follow r.
func (d Directory) DropOld(r *Repository) error {
	names, err := os.ReadDir(d.staging())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range names {
		role, version, ok := ParseFileName(e.Name())
		if !ok || version > r.Version(role) {
			continue
		}
		if err := d.FS.Remove(filepath.Join(d.staging(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}
