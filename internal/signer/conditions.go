package signer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ParseConditions parses the conditions of an update: a rollout like 5%,24h:50%,72h:100%, hardware like rev2,rev3, and
// the lowest version that a box must have. An argument that is "" sets no condition.
func ParseConditions(rollout, hardware, minVersion string) (trust.Conditions, error) {
	var out trust.Conditions
	var err error
	if rollout != "" {
		if out.Rollout, err = parseRollout(rollout); err != nil {
			return trust.Conditions{}, status.WithHint(status.Usagef("--rollout %.200q: %w", rollout, err),
				"a step is a share of the boxes and the time after publishing at which it begins, as in 5%,24h:50%,72h:100%")
		}
	}
	if hardware != "" {
		if out.Hardware, err = parseHardware(hardware); err != nil {
			return trust.Conditions{}, status.Usagef("--hardware %.200q: %w", hardware, err)
		}
	}
	if minVersion != "" {
		if out.MinVersion, err = update.ParseVersion(minVersion); err != nil {
			return trust.Conditions{}, status.Usagef("--min-version: %w", err)
		}
	}
	return out, nil
}

// parseRollout parses steps like "5%,24h:50%,72h:100%". A step is the time after publishing at which it begins
// and the share of the boxes that take the update from then on. The time is a whole number of s, m, h or d;
// only the first step may lack it, and then begins at once. Times and shares must ascend.
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
				return nil, fmt.Errorf("step %.40q: expected a later time than that of the previous step", word)
			}
			if step.Percent <= last.Percent {
				return nil, fmt.Errorf("step %.40q: expected more than the %d%% of the previous step, because boxes keep what they have installed", word, last.Percent)
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

// parseHardware parses names that are separated by commas.
func parseHardware(text string) ([]string, error) {
	list := strings.Split(text, ",")
	for _, name := range list {
		if name == "" || strings.TrimSpace(name) != name {
			return nil, fmt.Errorf("expected names with a comma and no space between them, got %.40q", name)
		}
	}
	return list, nil
}

// checkMinVersion refuses an update that no box could install, because a box would need that version, or a
// higher one, before it.
func checkMinVersion(a trust.Addition) error {
	if least := a.Conditions.MinVersion; least.Compare(a.Name.Version()) >= 0 {
		return status.Usagef("--min-version %v: expected less than %v, the version of %v", least, a.Name.Version(), a.Name)
	}
	return nil
}

// RolloutFacts describes a rollout at some time.
type RolloutFacts struct {
	Share  int         `json:"share"` // percentage of the boxes that take the update at that time
	Steps  []StepFacts `json:"steps"`
	Paused *time.Time  `json:"paused,omitempty"` // when the rollout was paused; nil: it is not paused
}

// StepFacts says that Percent of the boxes take the update from the time From on.
type StepFacts struct {
	From    time.Time `json:"from"`
	Percent int       `json:"percent"`
}

// rolloutOf describes the rollout of an update at a time. It returns nil for an update that all boxes take at once.
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

// String returns the rollout in words, "" for nil.
func (f *RolloutFacts) String() string {
	if f == nil {
		return ""
	}
	if f.Paused != nil {
		return fmt.Sprintf("paused at %s since %s", shareText(f.Share), stamp(*f.Paused))
	}
	text := shareText(f.Share) + " now"
	for _, s := range f.Steps {
		if s.Percent > f.Share {
			text += fmt.Sprintf(", %d%% from %s", s.Percent, stamp(s.From))
		}
	}
	return text
}

func shareText(percent int) string {
	switch percent {
	case 0:
		return "no box"
	case 100:
		return "every box"
	}
	return fmt.Sprintf("%d%% of the boxes", percent)
}

// conditions says in lines for people which boxes an update is for, "" for all boxes. when follows the name of
// each line, such as " before".
func (l Listed) conditions(when string) string {
	of := fmt.Sprintf(" of %v%s", l.Name, when)
	return lines("rollout"+of, l.Rollout.String(), "hardware"+of, strings.Join(l.Hardware, ", "), "min version"+of, l.MinVersion)
}

// conditionNotes says what follows from the conditions in a plan on the list before: that old boxes wait, and when a pause
// has reached the last box. lastWithout is the expiry of the newest timestamp that doesn't know of the plan.
func conditionNotes(p trust.Plan, before []trust.Release, lastWithout, at time.Time) []string {
	var out []string
	after := catalogOf(listAfter(p, before))
	for _, r := range p.Added {
		out = append(out, limitedNotes(r, after, at)...)
	}
	for _, c := range p.Changed {
		out = append(out, limitedNotes(c.To, after, at)...)
		if isPaused(c.To) && !isPaused(c.From) {
			out = append(out, fmt.Sprintf("the pause reaches a box at the latest when the timestamp that it trusts expires, plus its accept_stale; the newest timestamp without the pause expires at %s", stamp(lastWithout)))
		}
	}
	return out
}

// listAfter returns the updates of the list that a plan makes of the list before.
func listAfter(p trust.Plan, before []trust.Release) []trust.Release {
	changed := names(p)
	after := slices.DeleteFunc(slices.Clone(before), func(r trust.Release) bool { return slices.Contains(changed, r.Name()) })
	for _, c := range p.Changed {
		after = append(after, c.To)
	}
	return append(after, p.Added...)
}

// catalogOf returns the updates of a list as a server has them.
func catalogOf(list []trust.Release) *update.Catalog {
	var updates []update.Update
	for _, r := range list {
		updates = append(updates, r.Update())
	}
	c, err := update.NewCatalog(updates, true)
	if err != nil {
		return &update.Catalog{} // a name stands twice, which no list has
	}
	return c
}

// oldBoxNote warns if the plan makes /latest name an update that old boxes can't unpack, because they know bzip2 alone: at
// once, or when a rollout is complete. It returns "" if old boxes could not unpack what /latest would name without the
// plan either: then there are no old boxes.
func oldBoxNote(p trust.Plan, before []trust.Release, at time.Time) string {
	then, now := catalogOf(before), catalogOf(listAfter(p, before))
	for t := at; !t.IsZero(); t = now.NextChange(t) {
		newest, ok := now.Newest(t)
		if !ok || newest.Name.Format() == update.TarBzip2 {
			continue
		}
		if had, ok := then.Newest(t); ok && had.Name.Format() != update.TarBzip2 {
			continue
		}
		when := ""
		if t.After(at) {
			when = " from " + stamp(t) + " on"
		}
		return fmt.Sprintf("/latest will name %v%s, but old boxes unpack only .%s: add the same version as .%[3]s, or give it conditions", newest.Name, when, update.TarBzip2)
	}
	return ""
}

func isPaused(r trust.Release) bool {
	plan := r.Conditions().Rollout
	return plan != nil && plan.Paused
}

// limitedNotes says how long /latest and /version don't name an update of a list, because it is not for every box. It says
// nothing of an update that they will not name then either, because another one is newer.
func limitedNotes(r trust.Release, list *update.Catalog, at time.Time) []string {
	u := r.Update()
	switch {
	case u.ForEveryBox(at):
		return nil
	case u.Until.IsZero():
		return []string{fmt.Sprintf("/latest and /version don't name %v, because it is not for every box", u.Name)}
	}
	if newest, _ := list.Newest(u.Until); newest.Name != u.Name {
		return nil
	}
	return []string{fmt.Sprintf("/latest and /version name %v from %s on, when it is for every box", u.Name, stamp(u.Until))}
}

// lastWithout returns when the newest timestamp expires that doesn't know of what was published between
// two repositories. If the origin renewed its timestamp in between, that time is not known exactly; the expiry of the
// later repository's timestamp is an upper bound.
func lastWithout(before, after *trust.Repository) time.Time {
	if after.Version(trust.RoleTimestamp) <= before.Version(trust.RoleTimestamp)+1 {
		return before.Expires(trust.RoleTimestamp)
	}
	return after.Expires(trust.RoleTimestamp)
}
