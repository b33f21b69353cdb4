package signer

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ParseConditions parses which boxes an update is for, "" where nothing is said: a rollout like 5%,24h:50%,72h:100%,
// hardware like rev2,rev3, and the lowest version that a box must have.
func ParseConditions(rollout, hardware, minVersion string) (trust.Conditions, error) {
	var out trust.Conditions
	var err error
	if rollout != "" {
		if out.Rollout, err = parseRollout(rollout); err != nil {
			return trust.Conditions{}, status.WithHint(usagef("--rollout %.200q: %w", rollout, err),
				"steps are a share and the time after publishing at which it begins, as in 5%,24h:50%,72h:100%")
		}
	}
	if hardware != "" {
		if out.Hardware, err = parseHardware(hardware); err != nil {
			return trust.Conditions{}, usagef("--hardware %.200q: %w", hardware, err)
		}
	}
	if minVersion != "" {
		if out.MinVersion, err = update.ParseVersion(minVersion); err != nil {
			return trust.Conditions{}, usagef("--min-version: %w", err)
		}
	}
	return out, nil
}

// parseRollout parses steps like "5%,24h:50%,72h:100%": a share of the boxes and, but for a first step
// that begins at once, the time after publishing from which they take the update, a whole number of s,
// m, h or d. Both ascend.
func parseRollout(text string) (*trust.Rollout, error) {
	out := &trust.Rollout{}
	for i, word := range strings.Split(text, ",") {
		step, err := parseStep(word, i == 0)
		if err != nil {
			return nil, fmt.Errorf("step %.40q: %w", word, err)
		}
		if i > 0 {
			last := out.Steps[i-1]
			if step.After <= last.After {
				return nil, fmt.Errorf("step %.40q: expected a later time than that of the step before", word)
			}
			if step.Percent <= last.Percent {
				return nil, fmt.Errorf("step %.40q: expected a greater share than the %d%% before, since a box that has it keeps it", word, last.Percent)
			}
		}
		out.Steps = append(out.Steps, step)
	}
	return out, nil
}

func parseStep(word string, first bool) (trust.Step, error) {
	after, share, timed := strings.Cut(word, ":")
	if !timed {
		after, share = "0s", word
	}
	if !timed && !first {
		return trust.Step{}, fmt.Errorf("expected a time before the share, as in 24h:%s", share)
	}
	percent, err := parseNumber(strings.TrimSuffix(share, "%"))
	if err != nil || !strings.HasSuffix(share, "%") || percent < 1 || percent > 100 {
		return trust.Step{}, fmt.Errorf("expected a share from 1%% to 100%%, got %.40q", share)
	}
	start, err := parseAfter(after)
	return trust.Step{After: start, Percent: percent}, err
}

// parseAfter parses a time after publishing, up to ten years.
func parseAfter(text string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	bad := fmt.Errorf("expected a time of at most ten years like 90m, 24h or 3d, got %.40q", text)
	if text == "" {
		return 0, bad
	}
	unit, ok := units[text[len(text)-1]]
	n, err := parseNumber(text[:len(text)-1])
	if err != nil || !ok || time.Duration(n) > 10*365*24*time.Hour/unit {
		return 0, bad
	}
	return time.Duration(n) * unit, nil
}

// parseNumber parses digits without a sign or a leading zero.
func parseNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err == nil && strconv.Itoa(n) != text || n < 0 {
		err = strconv.ErrSyntax
	}
	return n, err
}

// parseHardware parses names with commas between them.
func parseHardware(text string) ([]string, error) {
	list := strings.Split(text, ",")
	for _, name := range list {
		if name == "" || strings.TrimSpace(name) != name {
			return nil, fmt.Errorf("expected names with a comma and no space between them, got %.40q", name)
		}
	}
	return list, nil
}

// checkMinVersion refuses an update that no box could install, because it needs itself.
func checkMinVersion(a trust.Addition) error {
	if least := a.Conditions.MinVersion; least.Compare(a.Name.Version()) >= 0 {
		return usagef("--min-version %v: expected less than the %v of %v itself", least, a.Name.Version(), a.Name)
	}
	return nil
}

func sameConditions(a, b trust.Conditions) bool { return reflect.DeepEqual(a, b) }

// RolloutFacts are what is said of a rollout at some time.
type RolloutFacts struct {
	Share  int         `json:"share"` // of the boxes, in percent, at that time
	Steps  []StepFacts `json:"steps"`
	Paused *time.Time  `json:"paused,omitempty"` // since when the share stays
}

// StepFacts is from when how many of the boxes take it.
type StepFacts struct {
	From    time.Time `json:"from"`
	Percent int       `json:"percent"`
}

// rolloutOf returns nil for an update that all boxes take at once.
func rolloutOf(r trust.Release, at time.Time) *RolloutFacts {
	plan, began := r.Conditions().Rollout, r.Published().UTC()
	if plan == nil {
		return nil
	}
	out := &RolloutFacts{Share: plan.Share(at.Sub(began))}
	for _, s := range plan.Steps {
		out.Steps = append(out.Steps, StepFacts{began.Add(s.After), s.Percent})
	}
	if plan.Paused {
		since := began.Add(plan.PausedAt)
		out.Paused = &since
	}
	return out
}

// String returns the rollout in words.
func (f *RolloutFacts) String() string {
	if f.Paused != nil {
		return fmt.Sprintf("paused at %s since %s", boxes(f.Share), stamp(*f.Paused))
	}
	text := boxes(f.Share) + " now"
	for _, s := range f.Steps {
		if s.Percent > f.Share {
			text += fmt.Sprintf(", %d%% from %s", s.Percent, stamp(s.From))
		}
	}
	return text
}

func boxes(percent int) string {
	switch percent {
	case 0:
		return "no box"
	case 100:
		return "every box"
	}
	return fmt.Sprintf("%d%% of the boxes", percent)
}

// conditions returns for people which boxes an update is for, "" where it is for all.
func (l Listed) conditions(when string) string {
	text := ""
	if l.Rollout != nil {
		text += lines(fmt.Sprintf("rollout of %v%s", l.Name, when), l.Rollout)
	}
	if len(l.Hardware) > 0 {
		text += lines(fmt.Sprintf("hardware of %v%s", l.Name, when), strings.Join(l.Hardware, ", "))
	}
	if !l.MinVersion.IsZero() {
		text += lines(fmt.Sprintf("min version of %v%s", l.Name, when), l.MinVersion)
	}
	return text
}

// conditionNotes says what follows from the conditions in a plan: that old boxes wait, and when a pause
// has reached the last box. lastWithout is when the newest timestamp without the plan expires.
func conditionNotes(p trust.Plan, lastWithout, at time.Time) []string {
	var out []string
	for _, r := range p.Added {
		out = append(out, limitedNotes(r, at)...)
	}
	for _, c := range p.Changed {
		out = append(out, limitedNotes(c.To, at)...)
		if paused(c.To) && !paused(c.From) {
			out = append(out, fmt.Sprintf("the pause reaches a box at the latest when the timestamp that it trusts expires, or as much later as its accept_stale says; the newest timestamp without the pause expires at %s", stamp(lastWithout)))
		}
	}
	return out
}

// oldBoxNote says that a list makes an update the newest for every box that old boxes can't unpack: they know
// bzip2 alone. It is "" where the newest before was none of theirs either: then there are no old boxes.
func oldBoxNote(p trust.Plan, before []trust.Release) string {
	after := slices.Clone(before)
	for _, r := range p.Withdrawn {
		after = slices.DeleteFunc(after, func(o trust.Release) bool { return o.Name() == r.Name() })
	}
	for _, c := range p.Changed {
		after = slices.DeleteFunc(after, func(o trust.Release) bool { return o.Name() == c.To.Name() })
		after = append(after, c.To)
	}
	after = append(after, p.Added...)
	newest, had := newestForEveryBox(after), newestForEveryBox(before)
	if newest.IsZero() || newest.Format() == update.TarBzip2 || !had.IsZero() && had.Format() != update.TarBzip2 {
		return ""
	}
	return fmt.Sprintf("%v becomes what /latest names, and boxes of the old kind unpack .%s alone: add the same version as .%[2]s, or give it conditions", newest, update.TarBzip2)
}

// newestForEveryBox returns the name that /latest leads to once all rollouts are complete, zero for none.
func newestForEveryBox(rs []trust.Release) update.Name {
	var newest update.Name
	for _, r := range rs {
		u := r.Update()
		if (!u.Limited || !u.Until.IsZero()) && (newest.IsZero() || u.Name.Compare(newest) > 0) {
			newest = u.Name
		}
	}
	return newest
}

func paused(r trust.Release) bool {
	plan := r.Conditions().Rollout
	return plan != nil && plan.Paused
}

// limitedNotes says for how long an update is not what boxes get that only ask for the newest.
func limitedNotes(r trust.Release, at time.Time) []string {
	u := r.Update()
	switch {
	case u.ForEveryBox(at):
		return nil
	case u.Until.IsZero():
		return []string{fmt.Sprintf("/latest and /version don't name %v, because it is not for every box", u.Name)}
	}
	return []string{fmt.Sprintf("/latest and /version name %v from %s on, when it is for every box", u.Name, stamp(u.Until))}
}

// lastWithout returns when the newest timestamp expires that doesn't know of what was published between
// two repositories. Where the origin renewed in between it is not known exactly: later than the one that
// followed it can't be.
func lastWithout(before, after *trust.Repository) time.Time {
	if after.Version(trust.RoleTimestamp) <= before.Version(trust.RoleTimestamp)+1 {
		return before.Expires(trust.RoleTimestamp)
	}
	return after.Expires(trust.RoleTimestamp)
}
