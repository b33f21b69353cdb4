package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// A rolloutEdit returns the rollout that replaces r, given the time since r began. A nil rollout means all boxes at
// once. It doesn't modify *r.
type rolloutEdit func(r *trust.Rollout, elapsed time.Duration) (*trust.Rollout, error)

// PauseRollout stops a rollout: the share of the boxes that takes the update stays as it is now. With hold, here and
// below, the list waits for more signatures even if it has enough.
func (s *Signer) PauseRollout(ctx context.Context, update string, hold bool) (Change, error) {
	return s.changeRollout(ctx, update, hold, pauseRollout)
}

// ResumeRollout continues a paused rollout. The steps that were still to come are delayed by the length of the pause.
func (s *Signer) ResumeRollout(ctx context.Context, update string, hold bool) (Change, error) {
	return s.changeRollout(ctx, update, hold, resumeRollout)
}

// FinishRollout lets all boxes take an update now.
func (s *Signer) FinishRollout(ctx context.Context, update string, hold bool) (Change, error) {
	return s.changeRollout(ctx, update, hold, finishRollout)
}

func (s *Signer) changeRollout(ctx context.Context, update string, hold bool, edit rolloutEdit) (Change, error) {
	name, err := parseArchivePath(update)
	if err != nil {
		return Change{}, err
	}
	return s.changeList(ctx, ListOptions{Hold: hold}, localArchives{}, func(x *session, e *trust.TargetsEdit) error {
		r, err := x.findListed(name)
		if err != nil {
			return err
		}
		c, elapsed := r.Conditions(), max(0, x.at.Sub(r.Published())).Truncate(time.Second)
		if c.Rollout, err = edit(c.Rollout, elapsed); err != nil {
			return fmt.Errorf("%v: %w", name, err)
		}
		return e.Condition(name, c)
	})
}

func (x *session) findListed(name update.Name) (trust.Release, error) {
	r, ok := x.base.Release(name)
	if !ok {
		return trust.Release{}, status.WithHint(fmt.Errorf("%v is not listed", name), "boxsign ls shows what is published")
	}
	return r, nil
}

var errEveryBox = errors.New("all boxes take it already")

// pauseRollout keeps the share that was reached. A paused rollout stays as it is. A complete one is refused with
// errEveryBox.
func pauseRollout(r *trust.Rollout, elapsed time.Duration) (*trust.Rollout, error) {
	if r.Share(elapsed) == 100 {
		return nil, status.WithHint(errEveryBox, "boxsign withdraw stops it for boxes that have not installed it")
	}
	if r.Paused {
		return r, nil
	}
	return &trust.Rollout{Steps: r.Steps, Paused: true, PausedAt: elapsed}, nil
}

// resumeRollout delays the steps that were still to come at the pause by the length of the pause. A rollout that is
// not paused stays as it is. A nil rollout is refused with errEveryBox.
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

// RolloutShown describes which boxes take an update, and when.
type RolloutShown struct{ Listed }

// ShowRollout returns which boxes take an update, and when.
func (s *Signer) ShowRollout(ctx context.Context, update string) (RolloutShown, error) {
	name, err := parseArchivePath(update)
	if err != nil {
		return RolloutShown{}, err
	}
	return inSession(ctx, s, false, func(x *session) (RolloutShown, error) {
		r, err := x.findListed(name)
		if err != nil {
			return RolloutShown{}, err
		}
		return RolloutShown{describeRelease(r, x.at)}, nil
	})
}

// stepTime returns when a step begins, in words.
func (f *RolloutFacts) stepTime(s StepFacts) string {
	if f.Paused != nil && s.From.After(*f.Paused) {
		return fmt.Sprintf("%v after it is resumed", s.From.Sub(*f.Paused))
	}
	return "from " + stamp(s.From)
}

// Text returns the rollout for people, with the past steps too.
func (l RolloutShown) Text() string {
	text := lines("update", l.Name, "published", stamp(l.Published))
	if l.Rollout == nil {
		return text + lines(fmt.Sprintf("rollout of %v", l.Name), "every box now") + l.conditions("")
	}
	text += l.conditions("")
	for _, step := range l.Rollout.Steps {
		text += lines("step", shareText(step.Percent)+" "+l.Rollout.stepTime(step))
	}
	return text
}
