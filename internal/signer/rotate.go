package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// rotation replaces a key of a part. Each step looks at the repository and does only what is missing, so that an
// interrupted rotation is continued by running the command again.
type rotation struct {
	*session
	part       part
	old, fresh keys.Public // old is zero if no root names it any more
	done       Changes
}

// RotateRelease replaces the release key by a new one. If agent is not "", it names the new key, which stays in the
// ssh-agent.
func (s *Signer) RotateRelease(ctx context.Context, agent string) (Result, error) {
	return s.rotate(ctx, releasePart, agent)
}

// RotateOnline replaces the online key by a new one.
func (s *Signer) RotateOnline(ctx context.Context) (Result, error) {
	return s.rotate(ctx, onlinePart, "")
}

// rotate returns the steps that were done, beside an error too. For a dry run it returns a Replacement.
func (s *Signer) rotate(ctx context.Context, p part, agent string) (Result, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Result, error) {
		r := rotation{session: x, part: p}
		if err := r.chooseKeys(ctx); err != nil {
			return nil, err
		}
		what := r.replacement()
		if x.DryRun {
			return what, nil
		}
		if err := x.confirm(ctx, what, "Replace it?"); err != nil {
			return nil, err
		}
		x.Confirm = nil // the answer holds for all steps
		err := r.makeFresh(ctx, agent)
		if err == nil {
			err = r.run(ctx)
		}
		return r.done, err
	})
}

func (r *rotation) nextBase() string { return string(r.part) + nextInfix }

// chooseKeys finds the key to replace, and the new key if an earlier run made it.
func (r *rotation) chooseKeys(ctx context.Context) (err error) {
	present := r.base.Root().Keys(r.part.role())
	if r.old, err = r.public(ctx, string(r.part)); err != nil {
		return err
	}
	if r.fresh, err = r.public(ctx, r.nextBase()); err != nil {
		return err
	}
	if r.old == r.fresh {
		r.old = keys.Public{} // renameKeys was interrupted: the new key has its place, except the private file
	}
	if r.old.IsZero() && r.fresh.IsZero() && len(present) == 1 {
		r.old = present[0] // the key files are lost, or another person has them
	}
	if !slices.Contains(present, r.old) {
		if r.fresh.IsZero() || !slices.Contains(present, r.fresh) {
			return fmt.Errorf("%s: %w: root %d names the keys %s", r.ring.path(string(r.part)+publicSuffix), trust.ErrKey, r.base.Root().Version(), fingerprints(keyIDs(present)))
		}
		r.old = keys.Public{}
	}
	return nil
}

// public returns the public key with that base name. It writes the file if a crash left it out, unless this is a dry
// run.
func (r *rotation) public(ctx context.Context, base string) (keys.Public, error) {
	if r.DryRun {
		return r.ring.public(base)
	}
	return r.ring.completeKey(ctx, base)
}

// Replacement describes what a rotation is about to do.
type Replacement struct {
	Role  string   `json:"role"`
	Old   keys.ID  `json:"old"`
	New   keys.ID  `json:"new,omitempty"` // "" for a key that is still to be made
	Signs []Listed `json:"signs"`         // the updates that the new key signs again
	Notes []string `json:"notes,omitempty"`
	State string   `json:"state"`
}

// Text returns the replacement for people.
func (r Replacement) Text() string {
	fresh := r.New.Fingerprint()
	if fresh == "" {
		fresh = "a new key"
	}
	text := lines("replaces", fmt.Sprintf("%s key %s", r.Role, r.Old.Fingerprint()), "by", fresh)
	text += each("note", r.Notes)
	for _, u := range r.Signs {
		text += lines("signs again", fmt.Sprintf("%v digest %v, %d bytes", u.Name, u.Digest, u.Length))
	}
	return text
}

func (r *rotation) replacement() Replacement {
	what := Replacement{Role: string(r.part), Old: r.old.ID(), New: r.fresh.ID(), Signs: []Listed{}, Notes: r.clockNotes(), State: stateDryRun}
	if r.part == releasePart {
		what.Signs = append(what.Signs, describeReleases(r.base.Releases(), r.at)...)
	}
	return what
}

// makeFresh makes the new key, unless an earlier run did.
func (r *rotation) makeFresh(ctx context.Context, agent string) error {
	if !r.fresh.IsZero() {
		return nil
	}
	key, err := newKey(ctx, r.ring, r.part, agent)
	if err != nil {
		return err
	}
	if err := r.ring.create(ctx, r.nextBase(), key, agent); err != nil {
		return err
	}
	r.fresh = key.Public()
	return nil
}

func (r *rotation) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{r.addFresh, r.signWithFresh, r.removeOld, r.signAgain} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if len(r.done) == 0 {
		if err := r.announceRoot(ctx); err != nil {
			return err
		}
	}
	return r.renameKeys(ctx)
}

// errWaits says that others must sign before the rotation can go on.
var errWaits = errors.New("other signers are needed")

// addStep adds a change to the steps that were done. It returns errWaits if the change waits for signatures, because
// the later steps need it published.
func (r *rotation) addStep(c Change, err error) error {
	if err != nil {
		return err
	}
	r.done = append(r.done, c)
	if c.State == stateWaiting {
		command := "boxsign cosign"
		if c.Role == trust.RoleRoot {
			command = "boxsign root sign"
		}
		return status.WithHint(fmt.Errorf("%s %d: %w", c.Role, c.To, errWaits), "they run "+command+"; then run boxsign rotate "+string(r.part)+" again")
	}
	return nil
}

// addFresh publishes a root that adds the new key.
func (r *rotation) addFresh(ctx context.Context) error {
	if slices.Contains(r.base.Root().Keys(r.part.role()), r.fresh) {
		return nil
	}
	return r.addStep(r.nextRoot(ctx, func(_ *session, e *trust.RootEdit) error { return r.part.addKey(e, r.fresh) }))
}

// signWithFresh publishes a list or a timestamp that the new key signed, unless the published metadata are valid
// without the old key already.
func (r *rotation) signWithFresh(ctx context.Context) error {
	if r.old.IsZero() {
		return nil
	}
	err := r.checkRemoval(ctx)
	if !errors.Is(err, trust.ErrStranded) {
		return err
	}
	if r.part == onlinePart {
		err := r.publish(ctx, trust.Change{}, nil)
		if errors.Is(err, publish.ErrOrigin) {
			old, fresh := r.ring.path(string(onlinePart)+privateSuffix), r.ring.path(r.nextBase()+privateSuffix)
			return status.WithHint(fmt.Errorf("the origin does not sign with the new online key %s yet", r.fresh.Fingerprint()),
				"give both keys to the origin: copy "+fresh+" there and restart the server with --online-key "+old+":"+fresh+"; then run boxsign rotate online again")
		}
		return err
	}
	return r.publishList(ctx)
}

// checkRemoval makes the root without the old key, and discards it. The error is trust.ErrStranded if that root would
// invalidate what is published.
func (r *rotation) checkRemoval(ctx context.Context) error {
	e := r.base.EditRoot(r.at)
	if err := r.part.removeKey(e, r.old.ID()); err != nil {
		return err
	}
	by, err := r.signers(ctx, rootPart)
	if err != nil {
		return err
	}
	_, err = e.Sign(ctx, by...)
	return err
}

// publishList publishes the list again without a change, signed by the new key.
func (r *rotation) publishList(ctx context.Context) error {
	if len(r.waiting(trust.RoleTargets)) > 0 {
		return r.addStep(Change{Role: trust.RoleTargets, To: r.reserved, State: stateWaiting}, nil)
	}
	if _, err := r.awaitOthers(ctx); err != nil {
		return err
	}
	e, err := r.editList(ListOptions{}, nil)
	if err != nil {
		return err
	}
	by, err := r.freshSigner(ctx)
	if err != nil {
		return err
	}
	p, err := e.Sign(ctx, by)
	if err != nil {
		return err
	}
	return r.addStep(r.submit(ctx, p, nil, false))
}

func (r *rotation) freshSigner(ctx context.Context) (signing.Signer, error) {
	for _, base := range []string{r.nextBase(), string(r.part)} {
		name, err := r.ring.name(base)
		if err != nil {
			return nil, err
		}
		if public, err := r.ring.public(base); err != nil || public != r.fresh || name == "" {
			continue
		}
		return r.ring.load(ctx, r.part, name)
	}
	return nil, fmt.Errorf("%s: %w", r.ring.path(r.nextBase()+privateSuffix), fs.ErrNotExist)
}

// removeOld publishes a root that removes the old key.
func (r *rotation) removeOld(ctx context.Context) error {
	if r.old.IsZero() {
		return nil
	}
	old := r.old.ID()
	return r.addStep(r.nextRoot(ctx, func(_ *session, e *trust.RootEdit) error { return r.part.removeKey(e, old) }))
}

// signAgain publishes the list again if an update lacks a detached signature by a present key.
func (r *rotation) signAgain(ctx context.Context) error {
	if r.part != releasePart {
		return nil
	}
	present := keyIDs(r.base.Root().Keys(trust.RoleTargets))
	for _, rel := range r.base.Releases() {
		if !slices.ContainsFunc(rel.Signatures(), func(s trust.KeySignature) bool { return slices.Contains(present, s.Key) }) {
			return r.publishList(ctx)
		}
	}
	return nil
}

// renameKeys gives the files of the new key the names of the old ones. The old key stays, with its fingerprint in
// the names of its files.
func (r *rotation) renameKeys(ctx context.Context) error {
	had, err := r.ring.completeKey(ctx, string(r.part))
	if err != nil {
		return err
	}
	waits, err := r.ring.name(r.nextBase())
	if err != nil {
		return err
	}
	placed, err := r.ring.name(string(r.part))
	if err != nil {
		return err
	}
	switch {
	case had == r.fresh && waits != "" && placed != "":
		// An interrupted run left the public file of the new key beside the private file of the old one, so that
		// the fingerprint of the old one has to come from its private file.
		key, err := r.ring.load(ctx, r.part, placed)
		if err != nil {
			return err
		}
		if err := r.ring.renamePrivate(string(r.part), string(r.part)+"."+key.Public().Fingerprint()); err != nil {
			return err
		}
	case !had.IsZero() && had != r.fresh:
		if err := r.ring.rename(string(r.part), string(r.part)+"."+had.Fingerprint()); err != nil {
			return err
		}
	}
	return r.ring.rename(r.nextBase(), string(r.part))
}
