package trust

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

const (
	maxSteps    = 16
	maxHardware = 32
	maxModel    = 64
	maxAfter    = 10 * 365 * 24 * time.Hour
)

// Conditions says which boxes an update is for, and when. The zero value means every box at once.
type Conditions struct {
	Rollout    *Rollout       // nil: all boxes at once
	Hardware   []string       // nil: every hardware
	MinVersion update.Version // the lowest version that it may be installed over; zero: any
}

// Equal reports whether both say the same.
func (c Conditions) Equal(o Conditions) bool { return reflect.DeepEqual(c, o) }

func (c Conditions) check() error {
	if err := c.Rollout.check(); err != nil {
		return err
	}
	return checkHardware(c.Hardware)
}

// wireConditions is Conditions in the custom field of a target.
type wireConditions struct {
	Hardware   []string     `json:"hardware,omitempty"`
	MinVersion string       `json:"min_version,omitempty"`
	Rollout    *wireRollout `json:"rollout,omitempty"`
}

func (c Conditions) wire() wireConditions {
	return wireConditions{c.Hardware, c.MinVersion.String(), c.Rollout.wire()}
}

func (w wireConditions) open() (c Conditions, err error) {
	if len(w.Hardware) > 0 { // Equal takes nil and an empty list for different
		c.Hardware = w.Hardware
	}
	if c.Rollout, err = w.Rollout.open(); err != nil {
		return Conditions{}, err
	}
	if w.MinVersion != "" {
		if c.MinVersion, err = update.ParseVersion(w.MinVersion); err != nil {
			return Conditions{}, fmt.Errorf("min_version: %w", err)
		}
	}
	return c, c.check()
}

// Rollout says which share of the boxes takes an update, and from when. A nil Rollout means all boxes at once.
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

// Share returns the percentage of the boxes that takes the update when elapsed has passed since it was published.
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

// offset converts seconds. It returns -1, which check refuses, for a number that is out of bounds and might overflow.
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

// Box is what is known of a box to decide which updates it takes.
type Box struct {
	Machine   string         // identifies the box among all others, for ever; never empty
	Hardware  string         // "" if it is not known
	Installed update.Version // zero: none
}

// Hold says what keeps a box from taking an update.
type Hold string

// The holds.
const (
	HoldNone     Hold = ""            // nothing: the box takes it
	HoldHardware Hold = "hardware"    // it is for other hardware
	HoldVersion  Hold = "min_version" // another update has to be installed first
	HoldRollout  Hold = "rollout"     // its share of the boxes does not include this one yet
)

// Verdict says whether a box takes an update and, if not, why.
type Verdict struct {
	Hold   Hold
	Reason string    // in words, "" for HoldNone
	Next   time.Time // for HoldRollout: when the box will take it; zero: never under the present steps
}

// Evaluate decides whether a box may install the release at that time, from signed data alone: no server knows or decides.
// Hardware and the lowest version are checked before the rollout, since these don't pass by waiting.
//
// The place of a box comes from the SHA-256 of its machine id, a newline and the name of the update in the format
// .tar.bz2, whatever its own. The box is in a share if the first 8 bytes, as a big-endian fraction of 2^64, are below
// the share. So a box that takes an update still takes it when the share grows, each update has other early boxes,
// and a version in two formats reaches the same boxes.
func (r Release) Evaluate(b Box, at time.Time) Verdict {
	c := r.conditions
	if len(c.Hardware) > 0 && !slices.Contains(c.Hardware, b.Hardware) {
		return Verdict{Hold: HoldHardware, Reason: fmt.Sprintf("it is for hardware %s, and this is %s",
			strings.Join(c.Hardware, ", "), cmp.Or(b.Hardware, "not known here"))}
	}
	if !c.MinVersion.IsZero() && b.Installed.Compare(c.MinVersion) < 0 {
		return Verdict{Hold: HoldVersion, Reason: fmt.Sprintf("it installs over version %v or newer, and %s is installed",
			c.MinVersion, cmp.Or(b.Installed.String(), "none"))}
	}
	place := percentile(b.Machine, r.Name())
	share := c.Rollout.Share(at.Sub(r.published))
	if place < share {
		return Verdict{}
	}
	return c.Rollout.hold(place, share, r.published)
}

// percentile returns the place of a box among all boxes, from 0 to 99. The box takes the update if the share is above
// its place.
func percentile(machine string, n update.Name) int {
	sum := sha256.Sum256([]byte(machine + "\n" + n.Top() + ".tar.bz2"))
	place, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:]), 100)
	return int(place)
}

// hold says why a box at that place has to wait.
func (r *Rollout) hold(place, share int, published time.Time) Verdict {
	v := Verdict{Hold: HoldRollout, Reason: fmt.Sprintf("%d%% of the boxes take it by now; this one does from %d%% on", share, place+1)}
	for _, s := range r.Steps {
		if s.Percent <= place {
			continue
		}
		if r.Paused && s.After > r.PausedAt {
			v.Reason += "; the rollout is paused"
			return v
		}
		v.Next = published.Add(s.After)
		v.Reason += ", planned for " + formatTime(v.Next)
		return v
	}
	v.Reason += "; no further step is planned"
	return v
}
