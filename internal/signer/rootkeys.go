package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// rootEdit makes the changes of a new root. It returns errAlready if the published root has them.
type rootEdit func(x *session, e *trust.RootEdit) error

// errAlready says that the published root has the change already: the command was run before, and may have been
// interrupted after it published the root.
var errAlready = errors.New("the published root has that change already")

// AddKey publishes a root that lets the public key in a file sign for a role: root, release or online. If the root needs
// more signatures, it waits for them instead; the same is true for the other methods that make a root.
func (s *Signer) AddKey(ctx context.Context, role, file string) (Change, error) {
	return s.changeRoot(ctx, func(x *session, e *trust.RootEdit) error {
		p, err := parsePart(role)
		if err != nil {
			return err
		}
		key, err := readPublic(file)
		if err != nil {
			return err
		}
		if slices.Contains(x.base.Root().Keys(p.role()), key) {
			return fmt.Errorf("%s key %s: %w", p, key.Fingerprint(), errAlready)
		}
		return p.addKey(e, key)
	})
}

// RemoveKey publishes a root that takes a role from a key. key is the ID, the fingerprint or the public key file.
func (s *Signer) RemoveKey(ctx context.Context, role, key string) (Change, error) {
	return s.changeRoot(ctx, func(x *session, e *trust.RootEdit) error {
		p, err := parsePart(role)
		if err != nil {
			return err
		}
		id, err := findKey(x.base.Root().Keys(p.role()), key)
		if err == nil {
			return p.removeKey(e, id)
		}
		for _, earlier := range x.trusted.Roots() {
			if id, err := findKey(earlier.Keys(p.role()), key); err == nil {
				return fmt.Errorf("%s key %s is removed: %w", p, id.Fingerprint(), errAlready)
			}
		}
		return fmt.Errorf("%s: %w", p, err)
	})
}

// RenewRoot publishes the root again without a change, valid for another year. The present one may be expired.
func (s *Signer) RenewRoot(ctx context.Context) (Change, error) {
	return s.changeRoot(ctx, func(*session, *trust.RootEdit) error { return nil })
}

// findKey returns the ID of the key that text names by its ID, its fingerprint or its public key file. A key that is
// not among the given ones is trust.ErrKey.
func findKey(among []keys.Public, text string) (keys.ID, error) {
	for _, k := range among {
		if string(k.ID()) == text || k.Fingerprint() == text {
			return k.ID(), nil
		}
	}
	k, err := readPublic(text)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err != nil || !slices.Contains(among, k) {
		return "", fmt.Errorf("%s: %w: the keys of the role are %s", text, trust.ErrKey, fingerprints(keyIDs(among)))
	}
	return k.ID(), nil
}

// Threshold publishes a root by which n keys of a role, root or release, must sign. If the published list has fewer than n
// signatures, the new root would invalidate it: then Threshold makes a new list instead, which waits for signatures, and
// has to be called again once that is published.
func (s *Signer) Threshold(ctx context.Context, role string, n int) (Change, error) {
	p, err := parsePart(role)
	if err != nil {
		return Change{}, err
	}
	if p == onlinePart {
		return Change{}, status.Usagef("online: the threshold stays 1, because the origin has one key")
	}
	c, err := s.changeRoot(ctx, func(x *session, e *trust.RootEdit) error {
		if x.base.Root().Threshold(p.role()) == n {
			return fmt.Errorf("%s threshold %d: %w", p, n, errAlready)
		}
		return e.SetThreshold(p.role(), n)
	})
	if p != releasePart || !errors.Is(err, trust.ErrStranded) {
		return c, err
	}
	s.Warn(fmt.Sprintf("the published list has fewer than %d signatures: boxsign makes a new one, which waits for boxsign cosign; then run this command again", n))
	return inSession(ctx, s, true, func(x *session) (Change, error) {
		if waiting := x.waiting(trust.RoleTargets); len(waiting) > 0 {
			return Change{}, status.WithHint(fmt.Errorf("targets %d: %w", waiting[0].Version(), errWaits), "they run boxsign cosign; then run this command again")
		}
		return x.signListAgain(ctx, true)
	})
}

// changeRoot makes, signs and submits the next root.
func (s *Signer) changeRoot(ctx context.Context, edit rootEdit) (Change, error) {
	return inSession(ctx, s, !s.DryRun, func(x *session) (Change, error) {
		c, err := x.nextRoot(ctx, edit)
		if errors.Is(err, errAlready) {
			return x.reportUnchanged(ctx, trust.RoleRoot, err.Error())
		}
		return c, err
	})
}

// reportUnchanged reports that a role needs no change. An earlier run may have been interrupted after it published, so
// reportUnchanged completes that first.
func (x *session) reportUnchanged(ctx context.Context, role trust.Role, notes ...string) (Change, error) {
	if !x.DryRun {
		if err := x.completePublished(ctx, role); err != nil {
			return Change{}, err
		}
	}
	version := x.base.Version(role)
	return Change{Role: role, From: version, To: version, Expires: x.base.Expires(role).UTC(), State: stateUnchanged, Notes: notes}, nil
}

// completePublished completes a run that may have been interrupted after it published a root or a list.
func (x *session) completePublished(ctx context.Context, role trust.Role) error {
	if role == trust.RoleRoot {
		return x.announceRoot(ctx)
	}
	if x.loadSigned() == nil {
		if err := x.removeSigned(); err != nil {
			return err
		}
	}
	return x.trusted.Commit(x.base)
}

// announceRoot publishes a new timestamp after a root was published into a directory: many clients look for a new
// root only when the timestamp is new. An origin does that by itself.
func (x *session) announceRoot(ctx context.Context) error {
	if x.remote != nil {
		return x.trusted.Commit(x.base)
	}
	return x.publish(ctx, trust.Change{}, nil)
}

// nextRoot makes the next root, shows it, asks, signs it and submits it.
func (x *session) nextRoot(ctx context.Context, edit rootEdit) (Change, error) {
	// An origin keeps one waiting root for each key. A root signed by a thief, below the threshold, must not prevent
	// the root that revokes his key.
	waiting := x.waiting(trust.RoleRoot)
	if len(waiting) > 0 && x.remote == nil {
		return Change{}, status.WithHint(fmt.Errorf("root %d waits for signatures", waiting[0].Version()),
			"complete it first with boxsign root sign, or drop it with boxsign abort")
	}
	e := x.base.EditRoot(x.at)
	if err := edit(x, e); err != nil {
		return Change{}, err
	}
	plan, err := e.Plan()
	if err != nil {
		return Change{}, status.WithHint(explain.At(fmt.Sprintf("root %d", x.base.Root().Version()+1), err), "a role needs at least as many keys as its threshold")
	}
	c := x.describe(plan)
	c.Notes = x.clockNotes()
	for _, w := range waiting {
		x.Warn(fmt.Sprintf("another root %d waits for signatures: the new one replaces it if you signed it; otherwise both wait", w.Version()))
	}
	if ok, err := x.approve(ctx, &c); !ok || err != nil {
		return c, err
	}
	by, err := x.signers(ctx, rootPart)
	if err != nil {
		return Change{}, err
	}
	p, err := e.Sign(ctx, by...)
	if err != nil {
		return Change{}, err
	}
	done, err := x.submit(ctx, p, nil, false)
	done.Notes = append(c.Notes, done.Notes...)
	return done, err
}

// clockNotes returns warnings for a signer whose clock is behind or far ahead of what is published. They are no
// errors, because a new root is the way to end a wrong time that was signed by mistake or by a thief.
func (x *session) clockNotes() []string {
	if err := x.base.CheckClock(x.at); err != nil {
		return []string{err.Error(), status.SignerHint(err)}
	}
	if err := x.base.CheckJump(x.at, trust.Change{}); err != nil {
		return []string{err.Error(), status.SignerHint(err)}
	}
	return nil
}
