package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// Waiting is what waits in a directory.
type Waiting struct {
	Proposals []*trust.Proposal // lists before roots, the oldest first
	Reserved  int64             // the highest version of a list that waits, 0 for none; unfit files count
	Unfit     []error           // the files that can't be published, because they are damaged or have expired
}

// Read returns what waits in the directory of a store, which may be open only for reading. It changes nothing.
func Read(ctx context.Context, c Config) (Waiting, error) {
	o, err := newOrigin(c)
	if err != nil {
		return Waiting{}, err
	}
	found, err := o.scan(ctx)
	if err != nil {
		return Waiting{}, err
	}
	var w Waiting
	for _, f := range found {
		switch {
		case f.unread():
			return Waiting{}, f.err
		case f.err == nil:
			o.kept[f.p.id] = f.p
		case !f.gone(o.repository()):
			w.Unfit = append(w.Unfit, fmt.Errorf("%s: %w", f.path, f.err))
			o.unfit[filepath.Base(f.path)] = f
		}
	}
	all := o.proposals()
	for _, p := range all {
		if o.whySuperfluous(p, all) == "" {
			w.Proposals = append(w.Proposals, p.Proposal)
		}
	}
	w.Reserved = o.reserved()
	return w, nil
}

// Drop removes a proposal. Anyone who has a copy with enough signatures can still publish it, until a higher version is
// published.
func (o *Origin) Drop(ctx context.Context, p *trust.Proposal) error {
	if err := o.changing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer o.changing.Release(1)
	kept, err := o.find(update.Sum(p.Raw()))
	if err != nil {
		return err
	}
	o.forget(kept)
	return o.c.FS.Remove(filepath.Join(o.dir, kept.fileName()))
}

// stagedFile is a file of staging that should hold a proposal.
type stagedFile struct {
	path    string
	role    trust.Role
	version int64
	old     bool // it has the name that an earlier boxsign used: <dir>/staging/<N>.<role>.json
	local   bool // the signer of the directory keeps it; old ones too
	p       *proposal
	err     error // why p is nil
}

// gone reports whether the proposal is published, or can't be any more because another one is.
func (f stagedFile) gone(repo *trust.Repository) bool {
	return f.version <= repo.Version(f.role) || errors.Is(f.err, trust.ErrConflict) || errors.Is(f.err, fs.ErrNotExist)
}

// unread reports whether the system could not read the file, so that its content is unknown.
func (f stagedFile) unread() bool {
	return errors.As(f.err, new(*fs.PathError)) && !errors.Is(f.err, fs.ErrNotExist) && !status.Unreadable(f.err)
}

// scan reads the files of proposals, and checks them against what is published.
func (o *Origin) scan(ctx context.Context) ([]stagedFile, error) {
	var out []stagedFile
	for _, dir := range []string{o.dir, filepath.Dir(o.dir)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			f := stagedFile{path: filepath.Join(dir, e.Name()), old: dir != o.dir}
			n, err := parseFileName(e.Name())
			f.role, f.version, f.local = n.role, n.version, n.local || f.old
			if f.old {
				var ok bool
				if f.role, f.version, ok = trust.ParseFileName(e.Name()); !ok || f.role != trust.RoleRoot && f.role != trust.RoleTargets {
					continue
				}
			} else if err != nil {
				continue // a block list, or a foreign file
			}
			f.p, f.err = o.read(f, n)
			out = append(out, f)
		}
	}
	return out, nil
}

// read reads a file of a proposal; n is its name, unless it is an old one.
func (o *Origin) read(f stagedFile, n fileName) (*proposal, error) {
	since := n.since
	if f.old {
		info, err := os.Lstat(f.path)
		if err != nil {
			return nil, err
		}
		since = info.ModTime()
	}
	raw, err := readUpTo(f.path, trust.MaxLength(f.role))
	if err != nil {
		return nil, err
	}
	if got := update.Sum(raw); !f.old && got != n.id {
		return nil, fmt.Errorf("%w: expected digest %v, got %v", store.ErrCorrupt, n.id, got)
	}
	p, err := o.check(f.role, f.version, raw, o.notBefore(since))
	if err != nil {
		return nil, err
	}
	if p.Version() != f.version {
		return nil, fmt.Errorf("%w: expected version %d, got %d", store.ErrCorrupt, f.version, p.Version())
	}
	return newProposal(p, since, f.local), nil
}

// load reads the proposals on the disk.
func (o *Origin) load(ctx context.Context) error {
	if err := o.c.FS.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if err := o.c.FS.RemoveTemps(o.dir); err != nil {
		return err
	}
	found, err := o.scan(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.local && !o.c.Local {
			err = o.adopt(f)
		} else {
			err = o.loadFile(f)
		}
		if err != nil {
			return err
		}
	}
	o.tidy()
	return nil
}

// loadFile loads a file that this origin, or one before it, keeps.
func (o *Origin) loadFile(f stagedFile) error {
	name := filepath.Base(f.path)
	switch {
	case f.err == nil && (f.old || o.c.Local && !f.local && !f.p.complete):
		// What lacks signatures waits for the signer, without a time limit. A complete list stays in the server's queue.
		if err := o.write(newProposal(f.p.Proposal, f.p.since, true)); err != nil {
			return err
		}
		return o.c.FS.Remove(f.path)
	case f.err == nil:
		o.kept[f.p.id] = f.p
	case f.unread() && o.c.Local:
		return f.err
	case f.gone(o.repository()) || !o.c.Local && !f.unread():
		o.c.Logger.Warn("proposal dropped", "file", name, "err", f.err)
		if err := o.c.FS.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			o.c.Logger.Warn("file not removed", "file", name, "err", err)
		}
	default:
		o.c.Logger.Warn("proposal not read, and its file is left", "file", name, "err", f.err)
		o.unfit[name] = f
	}
	return nil
}

// adopt has a server take over a file that the signer of the directory left, so that others can add signatures. It
// leaves alone a complete one, because its signer held it back, and one that it can't read.
func (o *Origin) adopt(f stagedFile) error {
	if f.err != nil {
		if !f.gone(o.repository()) {
			o.c.Logger.Warn("proposal of a signer not read", "file", filepath.Base(f.path), "err", f.err)
		}
		return nil
	}
	if f.p.complete {
		o.held = append(o.held, f.p)
		return nil
	}
	// The signer may have waited for long, so Keep begins now.
	if err := o.write(newProposal(f.p.Proposal, o.notBefore(f.p.since), false)); err != nil {
		return err
	}
	if o.c.Now().Before(f.p.since) {
		return nil // the clock is wrong, and the copy may be too old by the right one: another start adopts it again
	}
	return o.c.FS.Remove(f.path)
}

// removeUnused removes the files and closes the arrivals that belong to no proposal.
func (o *Origin) removeUnused() {
	files, archives := o.used()
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		o.c.Logger.Warn("staging not read", "err", err)
		return
	}
	for _, e := range entries {
		// A server removes nothing that a signer keeps.
		if strings.HasSuffix(e.Name(), localSuffix) && !o.c.Local {
			continue
		}
		// An unfit file stays until somebody removes it, or another one is published.
		if f, unfit := o.unfit[e.Name()]; unfit && !f.gone(o.repository()) {
			continue
		}
		if !files[e.Name()] && !e.IsDir() && !strings.HasPrefix(e.Name(), disk.TempPrefix) {
			o.removeFile(e.Name())
		}
	}
	unused := func(d update.Digest) bool { return !archives[d] }
	o.closeArrivals(unused)
	o.dropBegun(unused)
}

// forever is longer than a proposal waits for anything.
const forever = 100 * 365 * 24 * time.Hour
