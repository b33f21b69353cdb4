package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

func newRotate(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace a key",
		Long: `Replace a key by a new one: a root adds the new key, something is published with it, and the next root
takes the old key out. At every instant boxes accept what is published. Where other signers are needed
in between it says so; then it goes on where it stopped when it is said again.`,
	}
	cmd.AddCommand(
		rotateCommand(s, releasePart, `Replace your release key. All updates that are listed are signed again by the new key: look at the list
first, if the old key was stolen. Boxes that check only .sig need the new release.pub.`),
		rotateCommand(s, onlinePart, `Replace the online key. Boxes forget the version numbers that the old key counted. A server on the
repository must get the new online.pem.`),
	)
	return cmd
}

func rotateCommand(s cli.Streams, p part, long string) *cobra.Command {
	var o options
	agent := ""
	cmd := &cobra.Command{
		Use:   string(p),
		Short: "Replace the " + string(p) + " key",
		Long:  long,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withHint(rotate(cmd.Context(), s, o, p, agent))
		},
	}
	o.repoFlags(cmd)
	if p == releasePart {
		cmd.Flags().StringVar(&agent, "agent", "", "the new key is `KEY` of the ssh-agent, ssh-agent:SHA256:…")
	}
	return cmd
}

// rotation replaces a key of a part. What the repository says decides which step is next, so that it
// goes on after whatever interrupted it.
type rotation struct {
	*session
	part       part
	old, fresh keys.Public // old is zero where it is out already
	done       []change
}

func rotate(ctx context.Context, s cli.Streams, o options, p part, agent string) error {
	return inSession(ctx, s, o, !o.dryRun, func(x *session) error {
		r := rotation{session: x, part: p}
		if err := r.choose(ctx); err != nil {
			return err
		}
		if o.dryRun {
			return r.announce(s, o.json)
		}
		if !o.yes {
			shown := s
			shown.Out = s.Err
			if err := r.announce(shown, false); err != nil {
				return err
			}
			if err := s.Confirm(ctx, "Replace it?"); err != nil {
				return err
			}
		}
		x.o.yes = true // for all steps
		err := r.prepare(ctx, agent)
		if err == nil {
			err = r.run(ctx)
		}
		return errors.Join(showAll(s, o.json, r.done), err)
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
	if r.o.dryRun {
		return r.ring.public(base)
	}
	return r.ring.completed(ctx, base)
}

// replacement is what rotate is about to do, as JSON.
type replacement struct {
	Role  part     `json:"role"`
	Old   keys.ID  `json:"old"`
	New   keys.ID  `json:"new,omitempty"` // "" for one that is to be made
	Signs []listed `json:"signs"`         // again, by the new key
	Notes []string `json:"notes,omitempty"`
	State string   `json:"state"`
}

func (r *rotation) announce(s cli.Streams, asJSON bool) error {
	what := replacement{Role: r.part, Old: r.old.ID(), New: r.fresh.ID(), Signs: []listed{}, Notes: r.clockNotes(), State: stateDryRun}
	if r.part == releasePart {
		what.Signs = append(what.Signs, releases(r.base.Releases(), r.at)...)
	}
	if asJSON {
		return s.JSON(what)
	}
	fresh := string(what.New)
	if fresh == "" {
		fresh = "a new key"
	}
	err := printAll(s, "replaces", fmt.Sprintf("%s key %s", r.part, what.Old), "by", fresh)
	for _, n := range what.Notes {
		err = errors.Join(err, printAll(s, "note", n))
	}
	for _, u := range what.Signs {
		err = errors.Join(err, printAll(s, "signs again", fmt.Sprintf("%v digest %v, %d bytes", u.Name, u.Digest, u.Length)))
	}
	return err
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
	return r.settle(ctx)
}

// errWaits says that others must sign before the rotation can go on.
var errWaits = errors.New("other signers are needed")

// record notes a step, errWaits where it waits for signatures.
func (r *rotation) record(c change, err error) error {
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
		return r.record(change{Role: trust.RoleTargets, To: r.reserved, State: stateWaiting}, nil)
	}
	if _, err := r.awaitOthers(ctx); err != nil {
		return err
	}
	e, err := r.editList(listOptions{}, nil)
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

// settle gives the new key the place of the old one, which stays under its fingerprint.
func (r *rotation) settle(ctx context.Context) error {
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
