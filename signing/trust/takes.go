package trust

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// Box is what decides which updates a box takes.
type Box struct {
	Machine   string         // what tells the box from all others, for ever; never empty
	Hardware  string         // "" where it is not known
	Installed update.Version // zero: none
}

// Hold says what keeps a box from taking an update.
type Hold string

// What keeps it from that.
const (
	HoldNone     Hold = ""            // nothing: it takes it
	HoldHardware Hold = "hardware"    // it is for other hardware
	HoldVersion  Hold = "min_version" // another update has to be installed before
	HoldRollout  Hold = "rollout"     // its share of the boxes does not include this one yet
)

// Verdict is whether a box takes an update.
type Verdict struct {
	Hold   Hold
	Reason string    // in words, "" for HoldNone
	Next   time.Time // for HoldRollout: from when the box takes it; zero: not as things stand
}

// Takes says whether a box takes the release at that time, by what is signed alone: no server knows or
// decides. Hardware and the lowest version come before the share of the boxes, since these don't pass by
// waiting.
//
// A box is in a share by the SHA-256 of its machine id, a newline and the name of the update in the format
// .tar.bz2, whatever its own: the first 8 bytes, as a big-endian fraction of 2^64, are below the share. So a box
// that takes an update keeps taking it while the share grows, which boxes are early differs from update to update,
// and a version in two formats reaches the same ones.
func (r Release) Takes(b Box, at time.Time) Verdict {
	c := r.conditions
	if len(c.Hardware) > 0 && !slices.Contains(c.Hardware, b.Hardware) {
		return Verdict{Hold: HoldHardware, Reason: fmt.Sprintf("it is for hardware %s, and this is %s",
			strings.Join(c.Hardware, ", "), orUnknown(b.Hardware))}
	}
	if !c.MinVersion.IsZero() && b.Installed.Compare(c.MinVersion) < 0 {
		return Verdict{Hold: HoldVersion, Reason: fmt.Sprintf("it installs over version %v or newer, and %s is installed",
			c.MinVersion, orNone(b.Installed))}
	}
	place := percentile(b.Machine, r.Name())
	share := c.Rollout.Share(at.Sub(r.published))
	if place < share {
		return Verdict{}
	}
	return c.Rollout.hold(place, share, r.published)
}

// percentile returns the place of a box among all, from 0 to 99: it takes the update from a share above
// that on.
func percentile(machine string, n update.Name) int {
	sum := sha256.Sum256([]byte(machine + "\n" + n.Top() + ".tar.bz2"))
	place, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:]), 100)
	return int(place)
}

// hold says why a box at that place has to wait.
func (r *Rollout) hold(place, share int, published time.Time) Verdict {
	v := Verdict{Hold: HoldRollout, Reason: fmt.Sprintf("%d%% of the boxes take it by now, and this one is in the share of %d%%", share, place+1)}
	for _, s := range r.Steps {
		if s.Percent <= place {
			continue
		}
		if r.Paused && s.After > r.PausedAt {
			v.Reason += "; the rollout is paused"
			return v
		}
		v.Next = published.Add(s.After)
		v.Reason += ", which takes it from " + formatTime(v.Next) + " on"
		return v
	}
	v.Reason += "; no further step is planned"
	return v
}

func orUnknown(s string) string {
	if s == "" {
		return "not known here"
	}
	return s
}

func orNone(v update.Version) string {
	if v.IsZero() {
		return "none"
	}
	return v.String()
}
