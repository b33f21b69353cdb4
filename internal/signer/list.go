package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ListOptions apply to every command that makes a new list.
type ListOptions struct {
	Keep int  // how many of the newest versions of each product stay listed, 0 for all
	Hold bool // keep the list waiting for more signatures, even if it has enough
}

// AddOptions say how Add adds updates.
type AddOptions struct {
	ListOptions
	Force      bool             // sign archives that are not proper updates too
	Conditions trust.Conditions // of all updates that are added
}

// listEdit makes the changes of a new list. A nil listEdit makes none.
type listEdit func(*session, *trust.TargetsEdit) error

// Add signs the archives at paths and publishes a list with them.
func (s *Signer) Add(ctx context.Context, o AddOptions, paths ...string) (Change, error) {
	local, additions, err := s.readAll(ctx, paths, o.Force)
	if err != nil {
		return Change{}, withHint(err)
	}
	return s.changeList(ctx, o.ListOptions, local, func(x *session, e *trust.TargetsEdit) error {
		for _, a := range additions {
			a.Conditions = o.Conditions
			if err := x.addUpdate(e, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// addUpdate adds an update to a list. An update that is listed already stays as it is, and is refused if other conditions
// are given for it.
func (x *session) addUpdate(e *trust.TargetsEdit, a trust.Addition) error {
	if err := checkMinVersion(a); err != nil {
		return err
	}
	had, listed := x.base.Release(a.Name)
	if given := a.Conditions; listed && had.Digest() == a.Digest && !given.Equal(trust.Conditions{}) && !given.Equal(had.Conditions()) {
		return status.WithHint(fmt.Errorf("%v is listed already, with other conditions", a.Name),
			"let all boxes take it with boxsign rollout finish, or stop it with boxsign rollout pause; for other hardware or another lowest version, build it again with another version")
	}
	return e.Add(a)
}

// readAll inspects and hashes the archives at paths. It refuses those that are not proper updates, unless force is
// set.
func (s *Signer) readAll(ctx context.Context, paths []string, force bool) (localArchives, []trust.Addition, error) {
	read, err := s.readProper(ctx, force, paths...)
	if err != nil {
		return localArchives{}, nil, err
	}
	local := localArchives{publish.Files{}, map[update.Digest]contents{}}
	var out []trust.Addition
	for i, what := range read {
		local.files[what.Digest] = publish.File{Path: paths[i], Blocks: what.blocks}
		if what.contents != nil {
			local.contents[what.Digest] = what.contents
		}
		out = append(out, trust.Addition{
			Name: what.Name, Digest: what.Digest, Length: what.Length,
			Blocks: update.Sum(what.blocks.Bytes()), Unpacked: what.Unpacked,
		})
	}
	return local, out, nil
}

// Withdraw publishes a list without the updates of these names. It ignores a name that was withdrawn before, and
// refuses one that was never listed.
func (s *Signer) Withdraw(ctx context.Context, o ListOptions, updates ...string) (Change, error) {
	var names []update.Name
	for _, u := range updates {
		n, err := parseArchivePath(u)
		if err != nil {
			return Change{}, err
		}
		names = append(names, n)
	}
	return s.changeList(ctx, o, localArchives{}, func(x *session, e *trust.TargetsEdit) error {
		for _, n := range names {
			_, listed := x.base.Release(n)
			if _, was := x.trusted.Ledger().Digest(n); was && !listed {
				continue // withdrawn before
			}
			if err := e.Withdraw(n); err != nil {
				return status.WithHint(err, "boxsign ls shows what is published")
			}
		}
		return nil
	})
}

// changeList makes, signs and submits the next list.
func (s *Signer) changeList(ctx context.Context, o ListOptions, local localArchives, edit listEdit) (Change, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Change, error) {
		return x.changeList(ctx, o, local, edit)
	})
}

// changeList makes, signs and submits the next list. When another signer publishes first, it makes the list anew on
// the new base.
func (x *session) changeList(ctx context.Context, o ListOptions, local localArchives, edit listEdit) (Change, error) {
	if !x.DryRun {
		if err := x.awaitAndShowOthers(ctx, o, edit); err != nil {
			return Change{}, err
		}
	}
	for {
		e, err := x.editList(o, edit)
		if err != nil {
			return Change{}, err
		}
		var lost []trust.Release
		if e.Plan().Empty() {
			if lost, err = x.findLost(ctx, local.files); err != nil {
				return Change{}, err
			}
			if len(lost) == 0 {
				return x.reportUnchanged(ctx, trust.RoleTargets, x.waitingNotes("")...)
			}
		}
		c, err := x.signList(ctx, e, listing{localArchives: local, hold: o.Hold, lost: lost})
		if !errors.Is(err, trust.ErrConflict) {
			return c, err
		}
		if err := x.afterConflict(ctx, e.Plan(), err); err != nil {
			return Change{}, err
		}
	}
}

// awaitAndShowOthers waits for the list that another signer is sending, if there is one, and shows what it changed.
func (x *session) awaitAndShowOthers(ctx context.Context, o ListOptions, edit listEdit) error {
	before := x.base
	if x.othersList() == 0 {
		return nil
	}
	mine, err := x.editList(o, edit)
	if err != nil {
		return err
	}
	if _, err := x.awaitOthers(ctx); err != nil {
		return err
	}
	return x.checkOverlap(before, names(mine.Plan()))
}

func (x *session) editList(o ListOptions, edit listEdit) (*trust.TargetsEdit, error) {
	if err := x.checkRootExpiry(); err != nil {
		return nil, err
	}
	if o.Keep < 0 {
		return nil, status.Usagef("--keep %d: expected 1 or more", o.Keep)
	}
	e, err := x.base.EditTargets(x.trusted.Ledger(), x.reserved, x.at)
	if err != nil {
		return nil, err
	}
	if edit != nil {
		if err := edit(x, e); err != nil {
			return nil, err
		}
	}
	if o.Keep > 0 {
		e.Keep(o.Keep)
	}
	return e, nil
}

var errNothingWaits = errors.New("nothing waits for signatures")

// Abort replaces a waiting list by one with a higher number and no change or, if no list waits, drops the roots that
// wait. Beside an error it returns what it did before that.
func (s *Signer) Abort(ctx context.Context) ([]Change, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) ([]Change, error) {
		lists, roots := x.reserved > x.base.Version(trust.RoleTargets), x.waiting(trust.RoleRoot)
		if !lists && len(roots) == 0 {
			if !x.DryRun {
				if err := x.completePublished(ctx, trust.RoleTargets); err != nil {
					return nil, err
				}
			}
			return nil, status.WithHint(errNothingWaits, "to withdraw what is published, run boxsign withdraw")
		}
		if !lists {
			return x.dropRoots(ctx, roots)
		}
		c, err := x.signListAgain(ctx, false)
		if err != nil {
			return nil, err
		}
		return []Change{c}, nil
	})
}

func (x *session) dropRoots(ctx context.Context, roots []*trust.Proposal) (done []Change, err error) {
	for _, p := range roots {
		c := x.describe(p.Plan())
		ok, err := x.approve(ctx, &c)
		if err != nil {
			return done, err
		}
		if ok {
			if err := x.place.Drop(ctx, p); errors.Is(err, publish.ErrOrigin) {
				return done, status.WithHint(err, "make the root that you want: it replaces the one that you signed; boxsign root sign --id chooses among those of several signers")
			} else if err != nil {
				return done, err
			}
			c.State = "put away"
		}
		done = append(done, c)
	}
	return done, nil
}

// listing is what signList needs beside the list itself.
type listing struct {
	localArchives
	hold bool            // keep the list waiting, even if it has enough signatures
	lost []trust.Release // listed updates whose archives were lost, and are sent again with a list without a change
}

// signList shows the next list, asks, signs it and submits it.
func (x *session) signList(ctx context.Context, e *trust.TargetsEdit, l listing) (Change, error) {
	if err := x.checkHold(l.hold); err != nil {
		return Change{}, err
	}
	c := x.describe(e.Plan())
	notes := slices.Concat(lostNotes(l.lost), x.waitingNotes("; the new list replaces it and lacks its changes"), x.clockNotes())
	c.Notes = append(c.Notes, notes...)
	if err := x.showContents(ctx, &c, e.Plan(), l.localArchives); err != nil {
		return Change{}, err
	}
	if ok, err := x.approve(ctx, &c); !ok || err != nil {
		return c, err
	}
	p, err := x.signedList(ctx, e, len(l.lost) > 0)
	if err != nil {
		return Change{}, err
	}
	done, err := x.submitSigned(ctx, p, l.files, l.hold)
	if err != nil {
		return Change{}, err
	}
	done.Notes = append(done.Notes, notes...)
	return done, nil
}

// waitingNotes returns a note for each list that waits for signatures, with what follows from that.
func (x *session) waitingNotes(follows string) []string {
	var out []string
	for _, p := range x.waiting(trust.RoleTargets) {
		out = append(out, fmt.Sprintf("targets %d waits for signatures%s", p.Version(), follows))
	}
	return out
}

// checkHold refuses hold if the origin would publish the list with one signature. It runs before anything is signed.
func (x *session) checkHold(hold bool) error {
	if x.remote == nil || !hold || x.base.Root().Threshold(trust.RoleTargets) > 1 {
		return nil
	}
	return status.WithHint(fmt.Errorf("targets %d can't wait there: %w: the list needs only one signature, so the origin publishes it at once", x.base.Version(trust.RoleTargets)+1, publish.ErrOrigin),
		"if a list needs a second signature before the root requires it, sign with both keys on one computer: boxsign renew --list --release-key FILE --release-key FILE")
}

// signListAgain signs and submits the published list without a change.
func (x *session) signListAgain(ctx context.Context, hold bool) (Change, error) {
	e, err := x.editList(ListOptions{}, nil)
	if err != nil {
		return Change{}, err
	}
	return x.signList(ctx, e, listing{hold: hold})
}

// Renewal is what Renew did.
type Renewal struct {
	Snapshot  int64     `json:"snapshot"`
	Timestamp int64     `json:"timestamp"`
	Expires   time.Time `json:"expires"` // of the timestamp
}

// Text returns the renewal for people.
func (r Renewal) Text() string {
	return lines("snapshot", r.Snapshot, "timestamp", r.Timestamp, "expires", stamp(r.Expires))
}

// Renew signs a new timestamp with the online key and, when half of its time is over, a new snapshot.
func (s *Signer) Renew(ctx context.Context) (Renewal, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Renewal, error) {
		if err := x.checkRootExpiry(); err != nil {
			return Renewal{}, err
		}
		if !x.DryRun {
			if err := x.publish(ctx, trust.Change{}, nil); err != nil {
				return Renewal{}, err
			}
		}
		return Renewal{x.base.Version(trust.RoleSnapshot), x.base.Version(trust.RoleTimestamp), x.base.Expires(trust.RoleTimestamp).UTC()}, nil
	})
}

// RenewList publishes the list again without a change, valid for another year.
func (s *Signer) RenewList(ctx context.Context) (Change, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Change, error) {
		return x.signListAgain(ctx, false)
	})
}
