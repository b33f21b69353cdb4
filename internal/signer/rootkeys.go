package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

func newRootCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Say which keys count, and how many",
		Long: `Say which keys count for a repository, and how many must sign. Each command makes the next root. It must
be signed by the thresholds of the present root and of itself; until then it waits for boxsign root sign.`,
	}
	cmd.AddCommand(
		rootCommand(s, "add-key ROLE FILE", "Let a key in", `Let the public key in FILE sign for ROLE: root, release or online.`, cobra.ExactArgs(2), editAddKey),
		rootCommand(s, "remove-key ROLE KEY", "Take the right to sign from a key", `Take ROLE from KEY: its ID, its fingerprint or its public key file.`, cobra.ExactArgs(2), editRemoveKey),
		newThreshold(s),
		rootCommand(s, "renew", "Make the root valid for another year", `Make the next root without a change, valid for another year. It works on an expired root too.`, cobra.NoArgs, editNothing),
		newRootSign(s),
	)
	return cmd
}

// rootEdit makes the changes of a new root, errAlready where the published one has them.
type rootEdit func(x *session, e *trust.RootEdit) error

// errAlready says that a root says already what it is to say: the command was run before, and cut
// maybe.
var errAlready = errors.New("the root says so already")

func rootCommand(s cli.Streams, use, short, long string, args cobra.PositionalArgs, edit func(x *session, e *trust.RootEdit, args []string) error) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(changeRoot(cmd.Context(), s, o, func(x *session, e *trust.RootEdit) error { return edit(x, e, args) }))
		},
	}
	o.repoFlags(cmd)
	return cmd
}

// editNothing makes a root without a change, which is valid for longer.
func editNothing(*session, *trust.RootEdit, []string) error { return nil }

func editAddKey(x *session, e *trust.RootEdit, args []string) error {
	p, err := parsePart(args[0])
	if err != nil {
		return err
	}
	key, err := readPublic(args[1])
	if err != nil {
		return err
	}
	if slices.Contains(x.base.Root().Keys(p.roles()[0]), key) {
		return fmt.Errorf("%s key %s: %w", p, key.Fingerprint(), errAlready)
	}
	return p.addKey(e, key)
}

func (p part) addKey(e *trust.RootEdit, key keys.Public) error {
	for _, role := range p.roles() {
		if err := e.AddKey(role, key); err != nil {
			return err
		}
	}
	return nil
}

func (p part) removeKey(e *trust.RootEdit, id keys.ID) error {
	for _, role := range p.roles() {
		if err := e.RemoveKey(role, id); err != nil {
			return err
		}
	}
	return nil
}

func editRemoveKey(x *session, e *trust.RootEdit, args []string) error {
	p, err := parsePart(args[0])
	if err != nil {
		return err
	}
	id, err := findKey(x.base.Root().Keys(p.roles()[0]), args[1])
	if err == nil {
		return p.removeKey(e, id)
	}
	for _, earlier := range x.trusted.Roots() {
		if id, err := findKey(earlier.Keys(p.roles()[0]), args[1]); err == nil {
			return fmt.Errorf("%s key %s is out: %w", p, id.Fingerprint(), errAlready)
		}
	}
	return fmt.Errorf("%s: %w", p, err)
}

// findKey returns the key that a person means: by ID, by fingerprint or by public key file.
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
		return "", fmt.Errorf("%s: %w: its keys are %s", text, trust.ErrKey, fingerprints(ids(among)))
	}
	return k.ID(), nil
}

func newThreshold(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "threshold ROLE N",
		Short: "Say how many keys must sign",
		Long: `Say how many keys of ROLE, root or release, must sign. Before lists can ask for N signatures, the list
that is published must have N: where it has fewer, a new one is made without a change, which waits for
boxsign cosign; with three signers and more, all but the last say --hold. Then say this again.`,
		Example: `  boxsign root threshold release 2`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(threshold(cmd.Context(), s, o, args[0], args[1]))
		},
	}
	o.repoFlags(cmd)
	return cmd
}

func threshold(ctx context.Context, s cli.Streams, o options, role, number string) error {
	p, err := parsePart(role)
	if err != nil {
		return err
	}
	if p == onlinePart {
		return cli.Usagef("online: its threshold stays 1, since the origin has one key")
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return cli.Usagef("threshold %q: expected a number from 1", number)
	}
	err = changeRoot(ctx, s, o, func(x *session, e *trust.RootEdit) error {
		if x.base.Root().Threshold(p.roles()[0]) == n {
			return fmt.Errorf("%s threshold %d: %w", p, n, errAlready)
		}
		return e.SetThreshold(p.roles()[0], n)
	})
	if p == releasePart && errors.Is(err, trust.ErrStranded) {
		s.Warn("boxsign", fmt.Sprintf("the list that is published has fewer than %d signatures: a new one is made, which waits for boxsign cosign; then say this again", n))
		held := listOptions{options: o, hold: true}
		return inSession(ctx, s, o, true, func(x *session) error {
			if waiting := x.waiting(trust.RoleTargets); len(waiting) > 0 {
				return status.WithHint(fmt.Errorf("targets %d: %w", waiting[0].Version(), errWaits), "they say boxsign cosign; then say this again")
			}
			e, err := x.editList(held, nil)
			if err != nil {
				return err
			}
			return x.signList(ctx, e, listing{hold: true})
		})
	}
	return err
}

func newRootSign(s cli.Streams) *cobra.Command {
	var o cosignOptions
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Add your signature to the root that waits for it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withHint(cosign(cmd.Context(), s, o, trust.RoleRoot, nil))
		},
	}
	o.repoFlags(cmd)
	o.idFlag(cmd)
	return cmd
}

// changeRoot makes, signs and submits the next root.
func changeRoot(ctx context.Context, s cli.Streams, o options, edit rootEdit) error {
	return inSession(ctx, s, o, !o.dryRun, func(x *session) error {
		c, err := x.nextRoot(ctx, edit)
		if errors.Is(err, errAlready) {
			return x.unchanged(ctx, trust.RoleRoot, err.Error())
		}
		if err != nil {
			return err
		}
		return show(s, o.json, c)
	})
}

// unchanged says that nothing was left to sign in a role, and finishes what a run before may have left
// open.
func (x *session) unchanged(ctx context.Context, role trust.Role, notes ...string) error {
	if !x.o.dryRun {
		if err := x.settle(ctx, role); err != nil {
			return err
		}
	}
	version := x.base.Version(role)
	return show(x.s, x.o.json, change{
		Role: role, From: version, To: version, Expires: x.base.Expires(role).UTC(), State: stateUnchanged, Notes: notes,
	})
}

// settle finishes a publish that may have been cut after what it published was there.
func (x *session) settle(ctx context.Context, role trust.Role) error {
	if role == trust.RoleRoot {
		return x.followRoot(ctx)
	}
	if x.unpublished() == nil {
		if err := x.forgetSigned(); err != nil {
			return err
		}
	}
	return x.trusted.Commit(x.base)
}

// followRoot has a timestamp follow the root of a directory, without which many clients don't look for a
// root. An origin does that by itself.
func (x *session) followRoot(ctx context.Context) error {
	if _, remote := x.place.(shown); remote {
		return x.trusted.Commit(x.base)
	}
	return x.publish(ctx, trust.Change{}, nil)
}

// nextRoot shows the next root, asks, signs it and submits it.
func (x *session) nextRoot(ctx context.Context, edit rootEdit) (change, error) {
	// An origin keeps one of each key: that of a thief, below the threshold, must not keep him in.
	_, remote := x.place.(shown)
	waiting := x.waiting(trust.RoleRoot)
	if len(waiting) > 0 && !remote {
		return change{}, status.WithHint(fmt.Errorf("root %d waits for signatures", waiting[0].Version()),
			"complete it first with boxsign root sign, or give it up with boxsign abort")
	}
	e, err := x.base.EditRoot(x.at)
	if err != nil {
		return change{}, err
	}
	if err := edit(x, e); err != nil {
		return change{}, err
	}
	plan, err := e.Plan()
	if err != nil {
		return change{}, status.WithHint(explain.At(fmt.Sprintf("root %d", x.base.Root().Version()+1), err), "each role needs at least as many keys as its threshold")
	}
	c := x.describe(plan)
	c.Notes = x.clockNotes()
	for _, w := range waiting {
		x.s.Warn("boxsign", fmt.Sprintf("another root %d waits for signatures: this one takes its place if you signed that, else it stands beside it", w.Version()))
	}
	if x.o.dryRun {
		c.State = stateDryRun
		return c, nil
	}
	if err := x.confirm(ctx, c); err != nil {
		return change{}, err
	}
	by, err := x.signers(ctx, rootPart)
	if err != nil {
		return change{}, err
	}
	p, err := e.Sign(ctx, by...)
	if err != nil {
		return change{}, err
	}
	done, err := x.submit(ctx, p, nil, false)
	done.Notes = append(c.Notes, done.Notes...)
	return done, err
}

// clockNotes returns warnings for a signer whose clock is behind or far ahead of what is published. A root must go
// ahead: it is how a time that was signed by mistake, or by a thief, ends.
func (x *session) clockNotes() []string {
	if err := x.base.CheckClock(x.at); err != nil {
		return []string{err.Error(), status.SignerHint(err)}
	}
	if err := x.base.CheckJump(x.at, trust.Change{}); err != nil {
		return []string{err.Error(), status.SignerHint(err)}
	}
	return nil
}
