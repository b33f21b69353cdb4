package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// submit publishes a proposal that has enough signatures, and keeps one that hasn't waiting. With hold it keeps
// every proposal waiting. The returned Change has the resulting state.
func (x *session) submit(ctx context.Context, p *trust.Proposal, files publish.Files, hold bool) (Change, error) {
	c := x.describe(p.Plan())
	if hold || !p.Complete() {
		return x.keepWaiting(ctx, c, p, files)
	}
	next := trust.Change{Targets: p}
	if p.Role() == trust.RoleRoot {
		next = trust.Change{Root: p}
	}
	before := x.base
	if err := x.publish(ctx, next, files); err != nil {
		return Change{}, err
	}
	c.State, c.Notes = statePublished, conditionNotes(p.Plan(), before.Releases(), lastWithout(before, x.base), x.at)
	x.warnThreshold()
	return c, nil
}

// keepWaiting keeps a proposal waiting. If others have signed it meanwhile, the origin publishes it, and the state
// of c says so.
func (x *session) keepWaiting(ctx context.Context, c Change, p *trust.Proposal, files publish.Files) (Change, error) {
	if err := x.place.Propose(ctx, p, files); err != nil {
		return Change{}, err
	}
	if err := x.refresh(ctx); err != nil {
		return Change{}, err
	}
	if x.base.Version(p.Role()) < p.Version() {
		c.setWaiting(p)
		return c, nil
	}
	c.State = statePublished
	return c, x.trusted.Commit(x.base)
}

// errNotServed says that an origin accepted a change and still serves older metadata.
var errNotServed = errors.New("the origin published it, but serves an older version")

func (x *session) publish(ctx context.Context, c trust.Change, files publish.Files) error {
	if err := x.place.Publish(ctx, c, files); err != nil {
		return err
	}
	if err := x.refresh(ctx); err != nil {
		return err
	}
	for _, p := range []*trust.Proposal{c.Root, c.Targets} {
		if p != nil && x.base.Version(p.Role()) < p.Version() {
			return status.WithHint(fmt.Errorf("%s %d: %w: %d", p.Role(), p.Version(), errNotServed, x.base.Version(p.Role())),
				"check whether a cache before the origin delays timestamp.json or roots; then run the command again")
		}
	}
	return x.trusted.Commit(x.base)
}

// submitSigned submits a list or a root, and checks that the server serves what was signed.
func (x *session) submitSigned(ctx context.Context, p *trust.Proposal, files publish.Files, hold bool) (Change, error) {
	done, err := x.submit(ctx, p, files, hold)
	if err != nil {
		return Change{}, err
	}
	if err := x.removePublished(done); err != nil {
		return Change{}, err
	}
	if done.At, err = x.checkServed(ctx, p, files); err != nil {
		return Change{}, err
	}
	return done, nil
}

// checkServed checks that an origin serves the archives that a list added, or that are in files, as they were signed. It
// returns their URLs. For a directory, or a list that is not published yet, it does nothing.
func (x *session) checkServed(ctx context.Context, p *trust.Proposal, files publish.Files) ([]string, error) {
	if x.remote == nil || p.Role() != trust.RoleTargets || x.base.Version(trust.RoleTargets) != p.Version() {
		return nil, nil // in a directory, or waiting
	}
	added := names(trust.Plan{Added: p.Plan().Added})
	var out []string
	for _, r := range p.Releases() {
		if _, at := files[r.Digest()]; !at && !slices.Contains(added, r.Name()) {
			continue
		}
		if err := x.remote.Check(ctx, r, publish.Ends); err != nil {
			return nil, fmt.Errorf("the origin published it, but does not serve what was signed: %w", err)
		}
		out = append(out, x.remote.URL()+"update/"+r.Name().String())
	}
	return out, nil
}

// findLost returns the listed updates whose archives are at hand, in files, but missing in the repository: a disk was
// replaced there, or a damaged archive was put away.
func (x *session) findLost(ctx context.Context, files publish.Files) ([]trust.Release, error) {
	var out []trust.Release
	asked := map[update.Digest]bool{}
	for _, r := range x.base.Releases() {
		if _, at := files[r.Digest()]; !at || asked[r.Digest()] {
			continue
		}
		asked[r.Digest()] = true
		there, err := x.hasArchive(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("check for %v: %w", r.Name(), err)
		}
		if !there {
			out = append(out, r)
		}
	}
	return out, nil
}

// hasArchive reports whether the repository has the archive of an update. It doesn't read the archive.
func (x *session) hasArchive(ctx context.Context, r trust.Release) (bool, error) {
	f, err := x.place.Archive(ctx, r)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// lostNotes returns a note for each lost archive: why a list without a change is signed.
func lostNotes(lost []trust.Release) []string {
	var out []string
	for _, r := range lost {
		out = append(out, fmt.Sprintf("%v is listed, but the repository has lost its archive: signing the same list again restores it", r.Name()))
	}
	return out
}

// signedFile holds the list that was signed last, until it is published. When an interrupted command is run again,
// it continues with this list rather than sign another one with the same version; what it sent already counts.
const signedFile = "signed.targets.json"

// signedList returns the edited list, signed. It reuses the list of signedFile if that makes the same change, else
// it signs a new one and writes it to signedFile. Without same, a list without a change is always signed anew.
func (x *session) signedList(ctx context.Context, e *trust.TargetsEdit, same bool) (*trust.Proposal, error) {
	// In a directory, the copy that waits may have more signatures by now than the one in signedFile.
	if p := x.loadSigned(); p != nil && (p.Complete() || x.remote != nil) && sameChange(p.Plan(), e.Plan()) && (same || !e.Plan().Empty()) {
		return p, nil
	}
	by, err := x.signers(ctx, releasePart)
	if err != nil {
		return nil, err
	}
	p, err := e.Sign(ctx, by...)
	if err != nil {
		return nil, err
	}
	return p, x.storeSigned(p)
}

func (x *session) storeSigned(p *trust.Proposal) error {
	return x.ring.disk.WriteFile(x.ring.path(signedFile), p.Raw(), 0o600)
}

// removePublished removes signedFile once its list is published. It keeps a list that waits for signatures or
// archives, because the same command, run again, sends the archives.
func (x *session) removePublished(c Change) error {
	if c.State == stateWaiting || c.State == stateArchives {
		return nil
	}
	return x.removeSigned()
}

// loadSigned returns the list of signedFile, nil if there is none or it doesn't follow what is published now.
func (x *session) loadSigned() *trust.Proposal {
	raw, err := disk.ReadFile(x.ring.path(signedFile), trust.MaxLength(trust.RoleTargets))
	if err != nil {
		return nil
	}
	p, err := x.base.CheckTargets(x.trusted.Ledger(), x.reserved, raw, x.at)
	if err != nil {
		return nil
	}
	return p
}

// sameChange reports whether two lists on one base make the same change. It returns false for every change of
// conditions.
func sameChange(a, b trust.Plan) bool {
	return len(a.Changed)+len(b.Changed) == 0 && a.From == b.From &&
		slices.EqualFunc(a.Added, b.Added, sameRelease) && slices.EqualFunc(a.Withdrawn, b.Withdrawn, sameRelease)
}

// sameRelease reports whether two entries for an update differ at most in the time of publishing.
func sameRelease(a, b trust.Release) bool {
	return a.Name() == b.Name() && a.Digest() == b.Digest() && a.Length() == b.Length() && a.Unpacked() == b.Unpacked() &&
		a.Conditions().Equal(b.Conditions())
}

// removeSigned removes signedFile, if it exists: its list is published, or another list was published first.
func (x *session) removeSigned() error {
	err := x.ring.disk.Remove(x.ring.path(signedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
