package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

func newRolloutCommands(s cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Pause, resume or finish the rollout of an update",
		Long: `Change which share of the boxes takes an update that was published with --rollout: a new list is signed
and published. A box decides by itself, from its machine ID and the name of the update, and what it has
installed it keeps.`,
	}
	cmd.AddCommand(
		newRolloutChange(s, "pause", "Keep the share of the boxes as it is now", `Keep the share of the boxes as it is now. Boxes that take the update already can still install it;
boxsign withdraw takes it from all that have not. A box learns of it with the next list that it sees, at the
latest when the timestamp that it trusts expires: the command says when that is.`, pauseRollout),
		newRolloutChange(s, "resume", "Go on where the rollout was paused", `Go on where the rollout was paused: the steps that were still to come are later by as long as the pause
was. Every box that takes the update keeps it.`, resumeRollout),
		newRolloutChange(s, "finish", "Have all boxes take the update now", `Have all boxes take the update now. Conditions on hardware and version stay.`, finishRollout),
		newRolloutShow(s),
	)
	return cmd
}

// A rolloutEdit returns what follows a rollout at that time since it began; nil stands for all boxes at
// once. It doesn't change what r points to.
type rolloutEdit func(r *trust.Rollout, elapsed time.Duration) (*trust.Rollout, error)

func newRolloutChange(s cli.Streams, verb, short, long string, edit rolloutEdit) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:     verb + " NAME [DIR|URL]",
		Short:   short,
		Long:    long,
		Example: `  boxsign rollout ` + verb + ` --keys K opq-box-update-1550190683.tar.bz2 http://127.0.0.1:8151`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(changeRollout(cmd.Context(), s, o, args, edit))
		},
	}
	o.repoFlags(cmd)
	cmd.Flags().BoolVar(&o.hold, "hold", false, "keep it waiting for more signatures, even where there are enough")
	return cmd
}

func changeRollout(ctx context.Context, s cli.Streams, o listOptions, args []string, edit rolloutEdit) error {
	name, err := o.nameIn(args)
	if err != nil {
		return err
	}
	return changeList(ctx, s, o, nil, func(x *session, e *trust.TargetsEdit) error {
		r, err := x.listed(name)
		if err != nil {
			return err
		}
		c := r.Conditions()
		if c.Rollout, err = edit(c.Rollout, sinceStart(r, x.at)); err != nil {
			return fmt.Errorf("%v: %w", name, err)
		}
		return e.Condition(name, c)
	})
}

// nameIn parses the arguments NAME [DIR|URL].
func (o *options) nameIn(args []string) (update.Name, error) {
	if len(args) == 2 {
		o.repo = args[1]
	}
	return parseArchivePath(args[0])
}

// sinceStart returns for how long a rollout has been going on, in whole seconds.
func sinceStart(r trust.Release, at time.Time) time.Duration {
	return max(0, at.Sub(r.Published())).Truncate(time.Second)
}

func (x *session) listed(name update.Name) (trust.Release, error) {
	r, ok := x.base.Release(name)
	if !ok {
		return trust.Release{}, status.WithHint(fmt.Errorf("%v is not listed", name), "boxsign status lists what is published")
	}
	return r, nil
}

var errEveryBox = errors.New("every box takes it already")

// pauseRollout keeps the share that is reached. A rollout that is paused stays as it is; one that is
// complete is errEveryBox.
func pauseRollout(r *trust.Rollout, elapsed time.Duration) (*trust.Rollout, error) {
	if r.Share(elapsed) == 100 {
		return nil, status.WithHint(errEveryBox, "boxsign withdraw takes it from boxes that have not installed it")
	}
	if r.Paused {
		return r, nil
	}
	return &trust.Rollout{Steps: r.Steps, Paused: true, PausedAt: elapsed}, nil
}

// resumeRollout moves the steps that were to come at the pause by as long as it was. A rollout that is
// not paused stays as it is; none is errEveryBox.
func resumeRollout(r *trust.Rollout, elapsed time.Duration) (*trust.Rollout, error) {
	if r == nil {
		return nil, errEveryBox
	}
	if !r.Paused {
		return r, nil
	}
	out := &trust.Rollout{Steps: slices.Clone(r.Steps)}
	for i, s := range out.Steps {
		if s.After > r.PausedAt {
			out.Steps[i].After += max(0, elapsed-r.PausedAt)
		}
	}
	return out, nil
}

func finishRollout(*trust.Rollout, time.Duration) (*trust.Rollout, error) { return nil, nil }

func newRolloutShow(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:     "show NAME [DIR|URL]",
		Short:   "Show which boxes take an update, and when",
		Example: `  boxsign rollout show --keys K opq-box-update-1550190683.tar.bz2 http://127.0.0.1:8151`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withHint(showRollout(cmd.Context(), s, o, args))
		},
	}
	o.keysFlag(cmd)
	o.repoFlag(cmd)
	o.jsonFlag(cmd)
	return cmd
}

func showRollout(ctx context.Context, s cli.Streams, o options, args []string) error {
	name, err := o.nameIn(args)
	if err != nil {
		return err
	}
	return inSession(ctx, s, o, false, func(x *session) error {
		r, err := x.listed(name)
		if err != nil {
			return err
		}
		facts := release(r, x.at)
		if o.json {
			return s.JSON(facts)
		}
		return facts.printRollout(s)
	})
}

// when returns when a step begins, in words.
func (f *rolloutFacts) when(s stepFacts) string {
	if f.Paused != nil && s.From.After(*f.Paused) {
		return fmt.Sprintf("%v after it is resumed", s.From.Sub(*f.Paused))
	}
	return "from " + stamp(s.From)
}

// printRollout writes one fact per line: also what is past and what is still to come.
func (l listed) printRollout(s cli.Streams) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "update: %v\npublished: %s\n", l.Name, stamp(l.Published))
	if l.Rollout == nil {
		fmt.Fprintf(&b, "rollout of %v: every box now\n", l.Name)
	}
	l.printConditions(&b, "")
	if l.Rollout != nil {
		for _, step := range l.Rollout.Steps {
			fmt.Fprintf(&b, "step: %s %s\n", boxes(step.Percent), l.Rollout.when(step))
		}
	}
	_, err := s.Out.Write(b.Bytes())
	return err
}
