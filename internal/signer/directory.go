package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// directory is a repository on a disk of this computer. Publishing there needs the online key.
type directory struct {
	path   string
	disk   disk.FS
	store  *store.Store
	now    func() time.Time
	online func(context.Context) ([]signing.Signer, error)
	unfit  []error // which pending files can't be published, and why
	kept   string  // the directory of the trusted state of the keys, "" if no keys are at hand
}

const metadataDir = "metadata"

// openDirectory opens an existing repository. With write it locks the repository, and fails while another program
// holds that lock.
func openDirectory(ctx context.Context, d directory, write bool) (*directory, error) {
	if err := begun(d.path); err != nil {
		return nil, d.withLostHint(err)
	}
	open := store.OpenReadOnly
	if write {
		open = store.Open
	}
	s, err := open(ctx, store.Config{Dir: d.path, FS: d.disk, Now: d.now})
	if err != nil {
		return nil, d.withLostHint(withHint(err))
	}
	if damage := s.Damage(); s.Repository() == nil && len(damage) > 0 {
		return nil, errors.Join(d.withLostHint(damage[len(damage)-1]), s.Close())
	}
	d.store = s
	return &d, nil
}

// begun refuses a directory without a repository. A repository that lost its roots gets another error, without the
// hint to make a new one, which would replace it.
func begun(path string) error {
	err := store.Begun(path)
	if errors.Is(err, trust.ErrNone) {
		return status.WithHint(err, "name its directory with --repo DIR, or make one with boxsign init")
	}
	return err
}

// withLostHint adds how to get back a metadata file that is missing, or is damaged together with its copy.
func (d *directory) withLostHint(err error) error {
	var lost *fs.PathError
	if !errors.As(err, &lost) && errors.Is(err, store.ErrNoRoot) {
		return d.lostRoots(err)
	}
	if lost == nil || filepath.Dir(lost.Path) != filepath.Join(d.path, metadataDir) {
		return err
	}
	name := filepath.Base(lost.Path)
	brings := fmt.Sprintf("bring it back from a backup, or from a mirror that serves it: curl -o %s http://MIRROR/metadata/%s", lost.Path, name)
	kept := filepath.Join(d.kept, name)
	if _, missing := os.Stat(kept); d.kept != "" && missing == nil {
		if name == trust.TimestampName { // an origin may have signed later ones
			brings += fmt.Sprintf("; without a mirror: cp %s %s, then boxsign renew", kept, lost.Path)
		} else {
			brings = fmt.Sprintf("your keys keep this file too: cp %s %s", kept, lost.Path)
		}
	}
	return status.WithHint(err, brings)
}

// lostRoots is withLostHint for a directory that has no root at all.
func (d *directory) lostRoots(err error) error {
	pattern := "*." + string(trust.RoleRoot) + ".json"
	if kept, noMatch := disk.Glob(d.kept, pattern); d.kept == "" || noMatch != nil || len(kept) == 0 {
		return err
	}
	return status.WithHint(err, fmt.Sprintf("your keys keep the roots too: cp %s %s", filepath.Join(d.kept, pattern), filepath.Join(d.path, metadataDir)))
}

// lacksRoot refuses a directory that lost the newest root that the keys have seen. Its other metadata may still verify
// under an older root, whose keys may be revoked.
func (d *directory) lacksRoot(seen *trust.Root) error {
	next := d.store.Repository().Root().Version() + 1
	if seen.Version() < next {
		return nil
	}
	path := filepath.Join(d.path, metadataDir, trust.FileName(trust.RoleRoot, next))
	lost := &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	return d.withLostHint(fmt.Errorf("%s: the repository is damaged: your keys saw root %d: %w", d.path, seen.Version(), lost))
}

// Problems returns which metadata files are damaged and have an intact copy, and which proposals nobody can publish.
func (d *directory) Problems() []error {
	out := d.store.Damage()
	for _, err := range d.unfit {
		out = append(out, fmt.Errorf("%w; remove the file, and run the command again that made it", err))
	}
	return out
}

func (d *directory) Close() error { return d.store.Close() }

// Fetch returns the metadata that were verified when the directory was opened, even if the files changed since.
func (d *directory) Fetch(_ context.Context, name string, _ int64, _ update.Digest) ([]byte, error) {
	raw, err := d.store.Metadata(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, trust.ErrNotFound)
	}
	return raw, err
}

// Archive opens the archive of an update. It refuses one for which TUF clients would get another file.
func (d *directory) Archive(_ context.Context, r trust.Release) (io.ReadCloser, error) {
	f, err := d.store.Open(r.Update())
	if err != nil {
		return nil, err
	}
	if err := d.linked(r, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// linked checks that an archive of this directory lies where TUF clients look for it.
func (d *directory) linked(r trust.Release, f *os.File) error {
	digest := r.Digest().String()
	if filepath.Clean(f.Name()) != filepath.Join(d.path, "sha256", digest[:2], digest) {
		return nil // it lies elsewhere, and a server serves it from there
	}
	have, err := f.Stat()
	if err != nil {
		return err
	}
	link := filepath.Join(d.path, "targets", digest+"."+r.Name().String())
	got, err := os.Lstat(link)
	if err != nil {
		return err
	}
	if !os.SameFile(have, got) {
		return fmt.Errorf("%s is another file than %s", link, f.Name())
	}
	return nil
}

// Pending returns the proposals that wait. It checks each against base and the ledger of the keys; those that fail
// are kept for Problems.
func (d *directory) Pending(ctx context.Context, base *trust.Repository, known *trust.Ledger, at time.Time) ([]*trust.Proposal, int64, error) {
	w, err := origin.Read(ctx, d.config(func() time.Time { return at }))
	if err != nil {
		return nil, 0, err
	}
	d.unfit = w.Unfit
	var out []*trust.Proposal
	for _, p := range w.Proposals {
		p, err := base.Check(p.Role(), known, w.Reserved, p.Raw(), at)
		switch {
		case err == nil:
			out = append(out, p)
		case !errors.Is(err, trust.ErrConflict): // else it was just published
			d.unfit = append(d.unfit, err)
		}
	}
	return out, w.Reserved, nil
}

func (d *directory) config(now func() time.Time, online ...signing.Signer) origin.Config {
	return origin.Config{Store: d.store, FS: d.disk, Now: now, Online: online, Local: true}
}

// inOrigin opens the directory as an origin, as a server would, and calls run with it.
func (d *directory) inOrigin(ctx context.Context, run func(*origin.Origin) error, online ...signing.Signer) error {
	o, err := origin.Open(ctx, d.config(d.now, online...))
	if err != nil {
		return err
	}
	return errors.Join(run(o), o.Close())
}

func (d *directory) Hold(ctx context.Context, p *trust.Proposal, files publish.Files) error {
	return d.inOrigin(ctx, func(o *origin.Origin) error {
		if err := d.check(o, p); err != nil {
			return err
		}
		if err := d.ingest(ctx, p.Releases(), files); err != nil {
			return err
		}
		_, err := o.Propose(ctx, p.Role(), p.Raw())
		return err
	})
}

// check refuses a proposal that the origin would refuse. It runs before any archive is copied.
func (d *directory) check(o *origin.Origin, p *trust.Proposal) error {
	_, err := d.store.Repository().Check(p.Role(), d.store.Ledger(), o.State().Reserved, p.Raw(), d.now())
	return err
}

func (d *directory) Drop(ctx context.Context, p *trust.Proposal) error {
	return d.inOrigin(ctx, func(o *origin.Origin) error { return o.Drop(ctx, p) })
}

func (d *directory) Publish(ctx context.Context, c trust.Change, files publish.Files) error {
	online, err := d.online(ctx)
	if err != nil {
		return err
	}
	return d.inOrigin(ctx, func(o *origin.Origin) error {
		if c.Targets == nil {
			return o.Publish(ctx, c)
		}
		if err := d.check(o, c.Targets); err != nil {
			return err
		}
		here, at := d.store.Repository(), d.now()
		if err := here.CheckJump(at, c); err != nil {
			return err
		}
		if _, err := here.Next(ctx, at, c, online...); err != nil {
			return err
		}
		for _, r := range c.Targets.Releases() {
			if _, given := files[r.Digest()]; !given && !d.store.Has(r) {
				return fmt.Errorf("%v: %w: it is not in %s", r.Name(), publish.ErrNoFile, d.path)
			}
		}
		if err := d.ingest(ctx, c.Targets.Releases(), files); err != nil {
			return err
		}
		return o.Publish(ctx, c)
	}, online...)
}

// ingest copies those archives of a list that are not here yet.
func (d *directory) ingest(ctx context.Context, list []trust.Release, files publish.Files) error {
	for _, r := range list {
		if file, ok := files[r.Digest()]; ok && !d.store.Has(r) {
			if err := d.ingestFile(ctx, r, file); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *directory) ingestFile(ctx context.Context, r trust.Release, file publish.File) error {
	f, err := os.Open(file.Path)
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	return d.store.IngestFile(ctx, r, file.Blocks, f)
}

// createDirectory writes a new repository into a directory.
func createDirectory(ctx context.Context, fsys disk.FS, path string, r *trust.Repository, now func() time.Time) (err error) {
	s, err := store.Open(ctx, store.Config{Dir: path, FS: fsys, Root: r.Raw(trust.RoleRoot), Now: now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Commit(ctx, r)
}

// vacant refuses a directory that has a repository. Metadata of version 1 without a timestamp don't count: an
// interrupted init leaves them, and nobody can have read them.
func vacant(path string) error {
	versions, err := beginnings(path)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v != 1 {
			return status.WithHint(fmt.Errorf("%s: has a repository already: %w", path, fs.ErrExist), "choose another directory with --repo")
		}
	}
	return nil
}

// beginnings returns the version of each metadata file, keyed by its path. A missing directory has none.
func beginnings(path string) (map[string]int64, error) {
	dir := filepath.Join(path, metadataDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := map[string]int64{}
	for _, e := range entries {
		// Copies count too: a copy may outlive its file, and an init that was killed wrote the copies first.
		if _, version, ok := trust.ParseFileName(strings.TrimSuffix(e.Name(), disk.CopyPath(""))); ok {
			out[filepath.Join(dir, e.Name())] = version
		}
	}
	return out, nil
}

// clearBeginnings makes a directory ready for a new repository: it makes the directory if it is missing, and
// removes what an interrupted init left. The error is disk.ErrLocked if another program works there.
func clearBeginnings(fsys disk.FS, path string) (err error) {
	if err := fsys.MkdirAll(path, 0o755); err != nil {
		return err
	}
	lock, err := disk.TryLock(filepath.Join(path, lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return err
	}
	if err != nil {
		return errors.Join(err, fsys.Remove(filepath.Join(path, lockFile)))
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := vacant(path); err != nil {
		return err
	}
	found, err := beginnings(path)
	if err != nil {
		return err
	}
	for file := range found {
		if err := fsys.Remove(file); err != nil {
			return err
		}
	}
	return nil
}
