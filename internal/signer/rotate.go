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

// rotation replaces a key of a part. What the repository says decides which step is next, so that it
// goes on after whatever interrupted it.
type rotation struct {
	*session
	part       part
	old, fresh keys.Public // old is zero where it is out already
	done       Changes
}

// RotateRelease replaces the release key by a new one, or by one that stays in the ssh-agent if agent names it.
func (s *Signer) RotateRelease(ctx context.Context, agent string) (Result, error) {
	return s.rotate(ctx, releasePart, agent)
}

// RotateOnline replaces the online key.
func (s *Signer) RotateOnline(ctx context.Context) (Result, error) {
	return s.rotate(ctx, onlinePart, "")
}

// rotate returns the steps that were done, which come with an error too, or a Replacement for a dry run.
func (s *Signer) rotate(ctx context.Context, p part, agent string) (Result, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Result, error) {
		r := rotation{session: x, part: p}
		if err := r.choose(ctx); err != nil {
			return nil, err
		}
		what := r.replacement()
		if x.DryRun {
			return what, nil
		}
		if err := x.confirm(ctx, what, "Replace it?"); err != nil {
			return nil, err
		}
		x.Confirm = nil // to all steps
		err := r.prepare(ctx, agent)
		if err == nil {
			err = r.run(ctx)
		}
		return r.done, err
	})
}

func (r *rotation) next() string { return string(r.part) + nextInfix }

// choose finds the key that goes.
func (r *rotation) choose(ctx context.Context) (err error) {
	present := r.base.Root().Keys(r.part.roles()[0])
	if r.old, err = r.public(ctx, string(r.part)); err != nil {
		return err
	}
	if r.fresh, err = r.public(ctx, r.next()); err != nil {
		return err
	}
	if r.old == r.fresh {
		r.old = keys.Public{} // it has the place already, but for the private file
	}
	if r.old.IsZero() && r.fresh.IsZero() && len(present) == 1 {
		r.old = present[0] // it is lost, or is somebody else's
	}
	if !slices.Contains(present, r.old) {
		if r.fresh.IsZero() || !slices.Contains(present, r.fresh) {
			return fmt.Errorf("%s: %w: root %d lets the keys %s sign", r.ring.path(string(r.part)+publicSuffix), trust.ErrKey, r.base.Root().Version(), fingerprints(ids(present)))
		}
		r.old = keys.Public{}
	}
	return nil
}

// public returns the public key with that base name, which is made where a crash left it out.
func (r *rotation) public(ctx context.Context, base string) (keys.Public, error) {
	if r.DryRun {
		return r.ring.public(base)
	}
	return r.ring.completed(ctx, base)
}

// Replacement is what a rotation is about to do.
type Replacement struct {
	Role  string   `json:"role"`
	Old   keys.ID  `json:"old"`
	New   keys.ID  `json:"new,omitempty"` // "" for one that is to be made
	Signs []Listed `json:"signs"`         // again, by the new key
	Notes []string `json:"notes,omitempty"`
	State string   `json:"state"`
}

// Text returns it for people.
func (r Replacement) Text() string {
	fresh := string(r.New)
	if fresh == "" {
		fresh = "a new key"
	}
	text := lines("replaces", fmt.Sprintf("%s key %s", r.Role, r.Old), "by", fresh)
	for _, n := range r.Notes {
		text += lines("note", n)
	}
	for _, u := range r.Signs {
		text += lines("signs again", fmt.Sprintf("%v digest %v, %d bytes", u.Name, u.Digest, u.Length))
	}
	return text
}

func (r *rotation) replacement() Replacement {
	what := Replacement{Role: string(r.part), Old: r.old.ID(), New: r.fresh.ID(), Signs: []Listed{}, Notes: r.clockNotes(), State: stateDryRun}
	if r.part == releasePart {
		what.Signs = append(what.Signs, releases(r.base.Releases(), r.at)...)
	}
	return what
}

// prepare makes the new key.
func (r *rotation) prepare(ctx context.Context, agent string) error {
	if !r.fresh.IsZero() {
		return nil
	}
	key, err := newKey(ctx, r.ring, agent)
	if err != nil {
		return err
	}
	if err := r.ring.create(ctx, r.next(), key, agent); err != nil {
		return err
	}
	r.fresh = key.Public()
	return nil
}

func (r *rotation) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{r.letIn, r.useFresh, r.takeOut, r.signAgain} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if len(r.done) == 0 {
		if err := r.followRoot(ctx); err != nil {
			return err
		}
	}
	return r.placeKeys(ctx)
}

// errWaits says that others must sign before the rotation can go on.
var errWaits = errors.New("other signers are needed")

// record notes a step, errWaits where it waits for signatures.
func (r *rotation) record(c Change, err error) error {
	if err != nil {
		return err
	}
	r.done = append(r.done, c)
	if c.State == stateWaiting {
		command := "boxsign cosign"
		if c.Role == trust.RoleRoot {
			command = "boxsign root sign"
		}
		return status.WithHint(fmt.Errorf("%s %d: %w", c.Role, c.To, errWaits), "they say "+command+"; then say boxsign rotate "+string(r.part)+" again")
	}
	return nil
}

func (r *rotation) has(k keys.Public) bool {
	return slices.Contains(r.base.Root().Keys(r.part.roles()[0]), k)
}

// letIn publishes a root with the new key.
func (r *rotation) letIn(ctx context.Context) error {
	if r.has(r.fresh) {
		return nil
	}
	return r.record(r.nextRoot(ctx, func(_ *session, e *trust.RootEdit) error { return r.part.addKey(e, r.fresh) }))
}

// useFresh publishes something that the new key signed, unless what is published can do without the
// old one already.
func (r *rotation) useFresh(ctx context.Context) error {
	if r.old.IsZero() {
		return nil
	}
	err := r.tryOut(ctx)
	if !errors.Is(err, trust.ErrStranded) {
		return err
	}
	if r.part == onlinePart {
		err := r.publish(ctx, trust.Change{}, nil)
		if errors.Is(err, publish.ErrOrigin) {
			old, fresh := r.ring.path(string(onlinePart)+privateSuffix), r.ring.path(r.next()+privateSuffix)
			return status.WithHint(fmt.Errorf("the origin does not sign with the new online key %s yet", r.fresh.Fingerprint()),
				"give it both keys: copy "+fresh+" there and restart the server with --online-key "+old+":"+fresh+"; then say boxsign rotate online again")
		}
		return err
	}
	return r.list(ctx)
}

// tryOut makes the root without the old key and gives it up again.
func (r *rotation) tryOut(ctx context.Context) error {
	e, err := r.base.EditRoot(r.at)
	if err != nil {
		return err
	}
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

// list publishes a list without a change that the new key signed.
func (r *rotation) list(ctx context.Context) error {
	if len(r.waiting(trust.RoleTargets)) > 0 {
		return r.record(Change{Role: trust.RoleTargets, To: r.reserved, State: stateWaiting}, nil)
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
	return r.record(r.submit(ctx, p, nil, false))
}

func (r *rotation) freshSigner(ctx context.Context) (signing.Signer, error) {
	for _, base := range []string{r.next(), string(r.part)} {
		name, err := r.ring.name(base)
		if err != nil {
			return nil, err
		}
		if public, err := r.ring.public(base); err != nil || public != r.fresh || name == "" {
			continue
		}
		return r.ring.load(ctx, name)
	}
	return nil, fmt.Errorf("%s: %w", r.ring.path(r.next()+privateSuffix), fs.ErrNotExist)
}

// takeOut publishes a root without the old key.
func (r *rotation) takeOut(ctx context.Context) error {
	if r.old.IsZero() {
		return nil
	}
	old := r.old.ID()
	return r.record(r.nextRoot(ctx, func(_ *session, e *trust.RootEdit) error { return r.part.removeKey(e, old) }))
}

// signAgain gives each update a detached signature by a present key.
func (r *rotation) signAgain(ctx context.Context) error {
	if r.part != releasePart {
		return nil
	}
	present := ids(r.base.Root().Keys(trust.RoleTargets))
	for _, rel := range r.base.Releases() {
		if !slices.ContainsFunc(rel.Signatures(), func(s trust.KeySignature) bool { return slices.Contains(present, s.Key) }) {
			return r.list(ctx)
		}
	}
	return nil
}

// placeKeys gives the new key the place of the old one, which stays under its fingerprint.
func (r *rotation) placeKeys(ctx context.Context) error {
	had, err := r.ring.completed(ctx, string(r.part))
	if err != nil {
		return err
	}
	waits, err := r.ring.name(r.next())
	if err != nil {
		return err
	}
	placed, err := r.ring.name(string(r.part))
	if err != nil {
		return err
	}
	switch {
	case had == r.fresh && waits != "" && placed != "":
		// The public file went ahead of the private one, so that it doesn't say whose the other is.
		key, err := r.ring.load(ctx, placed)
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
	return r.ring.rename(r.next(), string(r.part))
}
