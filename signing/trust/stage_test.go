package trust_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// directory is a repository without archives, in which proposals wait as boxsign once left them: package origin takes them
// over.
//
//	metadata/…               the files of a State
//	staging/<N>.<role>.json  proposals that wait for more signatures
type directory struct {
	FS   disk.FS
	Path string
}

// Fetch reads a metadata file of the directory, as a Fetcher does.
func (d directory) Fetch(_ context.Context, name string, limit int64, _ update.Digest) ([]byte, error) {
	raw, err := disk.ReadRegular(filepath.Join(d.Path, "metadata", filepath.Base(name)), limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", trust.ErrNotFound, err)
	case errors.Is(err, disk.ErrTooLong):
		return nil, fmt.Errorf("%w: %w", trust.ErrMalformed, err)
	}
	return raw, err
}

func (d directory) savePending(p *trust.Proposal) error {
	path := filepath.Join(d.Path, "staging", trust.FileName(p.Role(), p.Version()))
	return cmp.Or(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, p.Raw(), 0o644))
}

// staged returns what waits in the directory, ascending by version.
func (d directory) staged(role trust.Role) (out []int64, err error) {
	entries, err := os.ReadDir(filepath.Join(d.Path, "staging"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if r, version, ok := trust.ParseFileName(e.Name()); ok && r == role {
			out = append(out, version)
		}
	}
	slices.Sort(out)
	return out, nil
}

// pending returns the proposals that wait and that follow r, lists before roots.
func (d directory) pending(r *trust.Repository, known *trust.Ledger, at time.Time) (out []*trust.Proposal, err error) {
	for _, role := range []trust.Role{trust.RoleTargets, trust.RoleRoot} {
		versions, err := d.staged(role)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			raw, err := os.ReadFile(filepath.Join(d.Path, "staging", trust.FileName(role, v)))
			if err != nil {
				return nil, err
			}
			var p *trust.Proposal
			if role == trust.RoleRoot {
				p, err = r.CheckRoot(raw, at)
			} else {
				p, err = r.CheckTargets(known, v, raw, at)
			}
			if errors.Is(err, trust.ErrConflict) {
				continue // it was just published
			}
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// reserved returns the highest version of a list that waits for signatures, 0 for none.
func (d directory) reserved() (int64, error) {
	versions, err := d.staged(trust.RoleTargets)
	if len(versions) == 0 {
		return 0, err
	}
	return versions[len(versions)-1], err
}
