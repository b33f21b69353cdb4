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
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// place is where a repository is: a directory or an origin. Its answers are untrusted; callers verify them.
type place interface {
	// Fetch reads published metadata.
	trust.Fetcher

	// Archive opens the archive of an update. The error is fs.ErrNotExist if the repository lacks it. The caller
	// closes it.
	Archive(ctx context.Context, r trust.Release) (io.ReadCloser, error)

	// Pending returns the proposals that wait for more signatures and follow base, lists before roots. It also
	// returns the highest reserved version of the list, 0 for none.
	Pending(ctx context.Context, base *trust.Repository, known *trust.Ledger, at time.Time) ([]*trust.Proposal, int64, error)

	// Propose stores a proposal, which waits until more keys sign it. Drop removes one.
	Propose(ctx context.Context, p *trust.Proposal, files publish.Files) error
	Drop(ctx context.Context, p *trust.Proposal) error

	// Publish makes a repository with that change the current one, and stores those of the files that it
	// lists. After an error the old repository is current or, if only the last step failed, the new one.
	Publish(ctx context.Context, c trust.Change, files publish.Files) error

	Close() error
}

// openPlace opens the repository of a signer, at its URL or in its directory. Publishing into a directory takes the online
// key from ring; at a URL, the origin has that key. ring may be nil for reading only.
func openPlace(ctx context.Context, s *Signer, write bool, ring *keyring) (place, error) {
	if IsURL(s.Repository) {
		return s.openRemote()
	}
	d := directory{path: s.Repository, disk: s.Disk, now: s.Now}
	if ring != nil {
		d.online = func(ctx context.Context) ([]signing.Signer, error) { return ring.signers(ctx, onlinePart) }
		d.kept = ring.path(trustedDir)
	}
	opened, err := openDirectory(ctx, d, write)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (s *Signer) openRemote() (place, error) {
	r, err := publish.New(publish.Config{
		URL:       s.Repository,
		UserAgent: s.UserAgent,
		Progress:  s.Sending,
		Waiting: func(err error, pause time.Duration) {
			s.Warn(fmt.Sprintf("%v; trying again in %v", err, pause.Round(time.Second/10)))
		},
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// checkPlace refuses an empty repository, a URL that is neither http nor https, and a host with a port that stands where
// neither a URL nor a directory is.
func checkPlace(where string) error {
	switch {
	case where == "":
		return status.WithHint(status.Usagef("no repository"), "name its directory or URL as the last argument, with --repo, or in $BOXSIGN_REPO")
	case strings.Contains(where, "://") && !IsURL(where):
		return status.Usagef("%s: expected a directory, or a URL with http:// or https://", where)
	}
	if _, err := os.Stat(where); err != nil {
		if fetch.AddScheme(where) != "" {
			return status.Usagef("no such directory, and no URL: %w", fetch.CheckURL(where))
		}
	}
	return nil
}

// IsURL reports whether a repository is at a URL rather than in a directory.
func IsURL(where string) bool {
	scheme, _, found := strings.Cut(where, "://")
	return found && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")) // RFC 3986, section 3.1
}

// IsPlace reports whether an argument is the place of a repository, a directory or a URL, rather than a file. A host with a
// port counts: checkPlace then says what is missing.
func IsPlace(arg string) bool {
	info, err := os.Stat(arg)
	return IsURL(arg) || err == nil && info.IsDir() || err != nil && fetch.AddScheme(arg) != ""
}

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
	if err := checkBegun(d.path); err != nil {
		return nil, d.withLostHint(err)
	}
	open := store.OpenReadOnly
	if write {
		open = store.Open
	}
	s, err := open(ctx, store.Config{Dir: d.path, FS: d.disk, Now: d.now})
	if err != nil {
		return nil, d.withLostHint(err)
	}
	if damage := s.Damage(); s.Repository() == nil && len(damage) > 0 {
		return nil, errors.Join(d.withLostHint(damage[len(damage)-1]), s.Close())
	}
	d.store = s
	return &d, nil
}

// checkBegun refuses a directory without a repository. A repository that lost its roots gets another error, without the
// hint to make a new one, which would replace it.
func checkBegun(path string) error {
	err := store.Begun(path)
	if errors.Is(err, trust.ErrNone) {
		return status.WithHint(err, "name its directory with --repo DIR, or make one with boxsign init")
	}
	return err
}

// withLostHint adds how to restore a metadata file that is missing, or is damaged together with its copy, or all roots.
func (d *directory) withLostHint(err error) error {
	name, to := "*."+string(trust.RoleRoot)+".json", filepath.Join(d.path, metadataDir)
	var lost *fs.PathError
	switch {
	case errors.As(err, &lost) && filepath.Dir(lost.Path) == to:
		name, to = filepath.Base(lost.Path), lost.Path
	case lost != nil || !errors.Is(err, store.ErrNoRoot):
		return err
	}
	var copies []string
	if d.kept != "" {
		copies, _ = disk.Glob(d.kept, name)
	}
	mirror := fmt.Sprintf("restore it from a backup, or from a mirror that serves it: curl -o %s http://MIRROR/metadata/%s", to, name)
	command := fmt.Sprintf("cp %s %s", filepath.Join(d.kept, name), to)
	switch {
	case len(copies) > 0 && name == trust.TimestampName: // an origin may have signed later ones
		return status.WithHint(err, mirror+"; without a mirror: "+command+", then boxsign renew")
	case len(copies) > 0:
		return status.WithHint(err, "your keys have a copy: "+command)
	case lost == nil:
		return err // it has a hint
	}
	return status.WithHint(err, mirror)
}

// checkNewestRoot refuses a directory that lost the newest root that the keys have seen. Its other metadata may still verify
// under an older root, whose keys may be revoked.
func (d *directory) checkNewestRoot(seen *trust.Root) error {
	next := d.store.Repository().Root().Version() + 1
	if seen.Version() < next {
		return nil
	}
	path := filepath.Join(d.path, metadataDir, trust.FileName(trust.RoleRoot, next))
	lost := &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	return d.withLostHint(fmt.Errorf("%s: the repository is damaged: your keys have seen root %d: %w", d.path, seen.Version(), lost))
}

// Problems returns which metadata files are damaged and have an intact copy, and which proposals nobody can publish.
func (d *directory) Problems() []error {
	out := d.store.Damage()
	for _, err := range d.unfit {
		out = append(out, fmt.Errorf("%w; remove the file, and run the command that made it again", err))
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
	if err := d.checkLink(r, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkLink checks that an archive of this directory lies where TUF clients look for it.
func (d *directory) checkLink(r trust.Release, f *os.File) error {
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
		return fmt.Errorf("%s and %s are different files", link, f.Name())
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

func (d *directory) Propose(ctx context.Context, p *trust.Proposal, files publish.Files) error {
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
