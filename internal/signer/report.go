package signer

import (
	"fmt"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// The values of Change.State.
const (
	statePublished = "published"
	stateWaiting   = "waiting for signatures"
	stateArchives  = "waiting for archives" // it has its signatures
	stateDryRun    = "dry run"
	stateUnchanged = "unchanged"
)

// Change describes what a proposal changes, and its state after the command.
type Change struct {
	Role    trust.Role `json:"role"`
	From    int64      `json:"from"`
	To      int64      `json:"to"`
	Expires time.Time  `json:"expires,omitzero"`

	Added     []Listed  `json:"added,omitempty"`
	Withdrawn []Listed  `json:"withdrawn,omitempty"`
	Changed   []Changed `json:"changed,omitempty"`
	Holders   []Holder  `json:"holders,omitempty"`
	Notes     []string  `json:"notes,omitempty"`

	Compared []Comparison `json:"compared,omitempty"` // each update that is added, with the one before; only in what is shown before signing
	Warnings []string     `json:"warnings,omitempty"` // what may be a mistake

	State string        `json:"state,omitempty"`
	ID    update.Digest `json:"id,omitzero"`     // digest of the proposal as signed so far; only Status sets it
	Needs []Need        `json:"needs,omitempty"` // the thresholds that count, while the proposal waits

	At []string `json:"at,omitempty"` // URLs of the archives that were added
}

// Listed is an update in a list.
type Listed struct {
	Name     update.Name    `json:"name"`
	Version  update.Version `json:"version"`
	Digest   update.Digest  `json:"digest"`
	Length   int64          `json:"length"`
	Unpacked int64          `json:"unpacked"`

	Published  time.Time      `json:"published"`
	Rollout    *RolloutFacts  `json:"rollout,omitempty"`
	Hardware   []string       `json:"hardware,omitempty"`
	MinVersion update.Version `json:"min_version,omitzero"`
}

// Changed is an update whose conditions change.
type Changed struct {
	Listed
	Before Listed `json:"before"`
}

// Holder is a role whose keys or threshold change.
type Holder struct {
	Role      trust.Role `json:"role"`
	Added     []keys.ID  `json:"added,omitempty"`
	Removed   []keys.ID  `json:"removed,omitempty"`
	Threshold [2]int     `json:"threshold"` // before, after
}

// Need says which keys signed a proposal, of those that a root requires.
type Need struct {
	Root      int64      `json:"root"` // version of the root that sets the threshold
	Role      trust.Role `json:"role"`
	Threshold int        `json:"threshold"`
	Have      []keys.ID  `json:"have"`
	Missing   []keys.ID  `json:"missing"`
}

// describe returns what a plan changes, with rollouts as they are at x.at.
func (x *session) describe(p trust.Plan) Change {
	c := Change{Role: p.Role, From: p.From, To: p.To, Expires: p.ToExpires.UTC()}
	c.Added, c.Withdrawn = describeReleases(p.Added, x.at), describeReleases(p.Withdrawn, x.at)
	for _, r := range p.Changed {
		c.Changed = append(c.Changed, Changed{describeRelease(r.To, x.at), describeRelease(r.From, x.at)})
	}
	c.Notes = conditionNotes(p, x.base.Releases(), x.base.Expires(trust.RoleTimestamp), x.at)
	for _, b := range p.Rebound {
		c.Notes = append(c.Notes, b.String())
	}
	if p.Role == trust.RoleTargets {
		if note := oldBoxNote(p, x.base.Releases(), x.at); note != "" {
			c.Notes = append(c.Notes, note)
		}
		c.Warnings = listWarnings(p, x.base.Releases(), x.trusted.Ledger())
	}
	for _, h := range p.Holders {
		c.Holders = append(c.Holders, Holder{h.Role, keyIDs(h.AddedKeys), keyIDs(h.RemovedKeys), [2]int{h.FromThreshold, h.ToThreshold}})
	}
	return c
}

// describeRelease describes an update of a list, with its rollout as it is at that time.
func describeRelease(r trust.Release, at time.Time) Listed {
	c := r.Conditions()
	return Listed{
		Name: r.Name(), Version: r.Name().Version(), Digest: r.Digest(), Length: r.Length(), Unpacked: r.Unpacked(),
		Published: r.Published().UTC(), Rollout: rolloutOf(r, at), Hardware: c.Hardware, MinVersion: c.MinVersion,
	}
}

func describeReleases(rs []trust.Release, at time.Time) []Listed {
	var out []Listed
	for _, r := range rs {
		out = append(out, describeRelease(r, at))
	}
	return out
}

func keyIDs(ks []keys.Public) []keys.ID {
	var out []keys.ID
	for _, k := range ks {
		out = append(out, k.ID())
	}
	return out
}

// setWaiting sets the state of a proposal that waits, and the signatures that it needs.
func (c *Change) setWaiting(p *trust.Proposal) {
	c.State = stateWaiting
	for _, n := range p.Needs() {
		c.Needs = append(c.Needs, Need{n.Root, n.Role, n.Threshold, keyIDs(n.Have), keyIDs(n.Missing)})
	}
}

// boxCheck is how a box without boxup checks an update U. It makes the checksum line L itself.
const boxCheck = "sha256sum U > L && openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in L -sigfile U.sig"

// Text returns the change for people.
func (c Change) Text() string {
	versions := fmt.Sprintf("%d -> %d", c.From, c.To)
	if c.From == c.To {
		versions = fmt.Sprint(c.To)
	}
	text := lines(c.Role, versions, "expires", stamp(c.Expires))
	for _, r := range c.Added {
		text += lines("added", r) + r.conditions("")
	}
	text += each("withdrawn", c.Withdrawn)
	for _, r := range c.Changed {
		text += lines("changed", r.Listed) + r.Before.conditions(" before") + r.conditions("")
	}
	text += holdersText(c.Holders)
	for _, p := range c.Compared {
		text += p.text(maxFilesShown)
	}
	text += each("note", c.Notes) + each("warning", c.Warnings) + c.stateText() + each("at", c.At)
	if len(c.At) > 0 {
		text += lines("a box checks U with U.sig", boxCheck)
	}
	return text
}

// stateText returns the state of a change and, while it waits, its ID and the signatures that it lacks.
func (c Change) stateText() string {
	text := lines("state", c.State, "id", c.ID)
	for _, n := range c.Needs {
		text += lines("signatures", fmt.Sprintf("%d of the %d that root %d needs; signed by: %s; can sign: %s",
			len(n.Have), n.Threshold, n.Root, fingerprints(n.Have), fingerprints(n.Missing)))
	}
	return text
}

// Changes are the steps of a command that has several.
type Changes []Change

// WarningsOf returns what a person must learn of a result that is not printed: what may be a mistake, what still waits, and what
// is wrong.
func WarningsOf(result Result) (out []string) {
	switch r := result.(type) {
	case Change:
		out = append(out, r.Warnings...)
		if r.State == stateWaiting || r.State == stateArchives {
			out = append(out, fmt.Sprintf("%s %d: %s", r.Role, r.To, r.State))
		}
	case Changes:
		for _, c := range r {
			out = append(out, WarningsOf(c)...)
		}
	case Verdict:
		out = r.Problems
	}
	return out
}

// Text returns the steps for people.
func (cs Changes) Text() string {
	text := ""
	for _, c := range cs {
		text += c.Text()
	}
	return text
}

// String returns the facts that identify an update.
func (l Listed) String() string {
	return fmt.Sprintf("%v version %v, digest %v, %d bytes, unpacked %d", l.Name, l.Version, l.Digest, l.Length, l.Unpacked)
}

// holdersText names keys by their part, so that an online key, which has two roles, is shown once.
func holdersText(holders []Holder) string {
	text := ""
	for _, h := range holders {
		p := partOf(h.Role)
		for _, id := range h.Added {
			text = addLine(text, lines("key added", fmt.Sprintf("%s %s", p, id.Fingerprint())))
		}
		for _, id := range h.Removed {
			text = addLine(text, lines("key removed", fmt.Sprintf("%s %s", p, id.Fingerprint())))
		}
		if h.Threshold[0] != h.Threshold[1] {
			text = addLine(text, lines("threshold", fmt.Sprintf("%s %d -> %d", p, h.Threshold[0], h.Threshold[1])))
		}
	}
	return text
}

// addLine returns text with line at its end, unless text has that line already.
func addLine(text, line string) string {
	if strings.Contains("\n"+text, "\n"+line) {
		return text
	}
	return text + line
}

// fingerprints returns the fingerprints of keys, separated by commas, or "nobody" if there are none.
func fingerprints(ks []keys.ID) string {
	if len(ks) == 0 {
		return "nobody"
	}
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = k.Fingerprint()
	}
	return strings.Join(names, ", ")
}

// lines returns facts, alternately names and values, as one "name: value" per line. It leaves out values that are "" or
// zero by their method IsZero.
func lines(facts ...any) string {
	var b strings.Builder
	for i := 0; i+1 < len(facts); i += 2 {
		if zero, ok := facts[i+1].(interface{ IsZero() bool }); facts[i+1] != "" && (!ok || !zero.IsZero()) {
			fmt.Fprintf(&b, "%v: %v\n", facts[i], facts[i+1])
		}
	}
	return b.String()
}

// each returns one "name: value" line for each value.
func each[T any](name string, values []T) string {
	text := ""
	for _, v := range values {
		text += lines(name, v)
	}
	return text
}

// stamp returns a time in UTC, in whole seconds, and "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
