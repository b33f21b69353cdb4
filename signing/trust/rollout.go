package trust

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	maxSteps    = 16
	maxHardware = 32
	maxModel    = 64
	maxAfter    = 10 * 365 * 24 * time.Hour
)

// Rollout says which share of the boxes takes an update from when on. A nil Rollout means all boxes
// at once.
type Rollout struct {
	// Steps ascend in both fields and there is at least one. Before the first, no box takes the update.
	Steps []Step

	// Paused says that the share stays what it was at PausedAt after the publish time.
	Paused   bool
	PausedAt time.Duration
}

// Step is a share of the boxes.
type Step struct {
	After   time.Duration // since the publish time; whole seconds, 0 or more
	Percent int           // 1 to 100
}

// Share returns the share of the boxes, in percent, that takes the update at that time since it was
// published.
func (r *Rollout) Share(elapsed time.Duration) int {
	if r == nil {
		return 100
	}
	if r.Paused {
		elapsed = min(elapsed, r.PausedAt)
	}
	share := 0
	for _, s := range r.Steps {
		if elapsed >= s.After {
			share = s.Percent
		}
	}
	return share
}

// completeAfter returns when, since the publish time, all boxes take the update; ok is false where that
// never comes.
func (r *Rollout) completeAfter() (after time.Duration, ok bool) {
	last := r.Steps[len(r.Steps)-1]
	return last.After, last.Percent == 100 && (!r.Paused || last.After <= r.PausedAt)
}

func (r *Rollout) check() error {
	if r == nil {
		return nil
	}
	if len(r.Steps) == 0 || len(r.Steps) > maxSteps {
		return fmt.Errorf("rollout: expected 1 to %d steps, got %d", maxSteps, len(r.Steps))
	}
	last := Step{After: -1}
	for _, s := range r.Steps {
		if s.After <= last.After || s.Percent <= last.Percent || s.Percent > 100 {
			return errors.New("rollout: expected steps that ascend in time and in percent, from 1 to 100")
		}
		if err := checkOffset(s.After); err != nil {
			return err
		}
		last = s
	}
	if !r.Paused && r.PausedAt != 0 {
		return errors.New("rollout: expected no time of a pause without a pause")
	}
	return checkOffset(r.PausedAt)
}

func checkOffset(d time.Duration) error {
	if d < 0 || d > maxAfter || d%time.Second != 0 {
		return fmt.Errorf("rollout: expected whole seconds from 0 to ten years, got %v", d)
	}
	return nil
}

// wireRollout is a Rollout in the custom field of a target.
type wireRollout struct {
	PausedAt *int64     `json:"paused_at,omitempty"` // seconds after the publish time
	Steps    []wireStep `json:"steps"`
}

type wireStep struct {
	After   int64 `json:"after"` // seconds after the publish time
	Percent int   `json:"percent"`
}

func (r *Rollout) wire() *wireRollout {
	if r == nil {
		return nil
	}
	w := &wireRollout{}
	for _, s := range r.Steps {
		w.Steps = append(w.Steps, wireStep{int64(s.After / time.Second), s.Percent})
	}
	if r.Paused {
		at := int64(r.PausedAt / time.Second)
		w.PausedAt = &at
	}
	return w
}

func (w *wireRollout) open() (*Rollout, error) {
	if w == nil {
		return nil, nil
	}
	r := &Rollout{}
	for _, s := range w.Steps {
		r.Steps = append(r.Steps, Step{offset(s.After), s.Percent})
	}
	if w.PausedAt != nil {
		r.Paused, r.PausedAt = true, offset(*w.PausedAt)
	}
	return r, r.check()
}

// offset returns -1, which check refuses, for what is out of bounds and might overflow.
func offset(seconds int64) time.Duration {
	if seconds < 0 || seconds > int64(maxAfter/time.Second) {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// checkHardware checks the list of hardware that an update is for; empty means every box.
func checkHardware(list []string) error {
	if len(list) > maxHardware {
		return fmt.Errorf("hardware: expected at most %d, got %d", maxHardware, len(list))
	}
	for i, h := range list {
		if h == "" || len(h) > maxModel || slices.Contains(list[:i], h) {
			return fmt.Errorf("hardware: expected different names of 1 to %d bytes, got %.80q", maxModel, h)
		}
		for _, c := range []byte(h) {
			if c < ' ' || c > '~' {
				return fmt.Errorf("hardware: expected printable ASCII, got %.80q", h)
			}
		}
	}
	return nil
}

// same reports whether two rollouts are equal; either may be nil.
func (r *Rollout) same(o *Rollout) bool {
	if r == nil || o == nil {
		return r == o
	}
	return slices.Equal(r.Steps, o.Steps) && r.Paused == o.Paused && r.PausedAt == o.PausedAt
}
