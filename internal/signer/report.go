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
	c.Added, c.Withdrawn = releases(p.Added, x.at), releases(p.Withdrawn, x.at)
	for _, r := range p.Changed {
		c.Changed = append(c.Changed, Changed{release(r.To, x.at), release(r.From, x.at)})
	}
	c.Notes = conditionNotes(p, x.base.Expires(trust.RoleTimestamp), x.at)
	for _, b := range p.Rebound {
		c.Notes = append(c.Notes, b.String())
	}
	if p.Role == trust.RoleTargets {
		if note := oldBoxNote(p, x.base.Releases()); note != "" {
			c.Notes = append(c.Notes, note)
		}
	}
	for _, h := range p.Holders {
		c.Holders = append(c.Holders, Holder{h.Role, ids(h.AddedKeys), ids(h.RemovedKeys), [2]int{h.FromThreshold, h.ToThreshold}})
	}
	return c
}

// release describes an update of a list, with its rollout as it is at that time.
func release(r trust.Release, at time.Time) Listed {
	c := r.Conditions()
	return Listed{
		Name: r.Name(), Version: r.Name().Version(), Digest: r.Digest(), Length: r.Length(), Unpacked: r.Unpacked(),
		Published: r.Published().UTC(), Rollout: rolloutOf(r, at), Hardware: c.Hardware, MinVersion: c.MinVersion,
	}
}

func releases(rs []trust.Release, at time.Time) []Listed {
	var out []Listed
	for _, r := range rs {
		out = append(out, release(r, at))
	}
	return out
}

func ids(ks []keys.Public) []keys.ID {
	var out []keys.ID
	for _, k := range ks {
		out = append(out, k.ID())
	}
	return out
}

func needsOf(ns []trust.Need) []Need {
	var out []Need
	for _, n := range ns {
		out = append(out, Need{n.Root, n.Role, n.Threshold, ids(n.Have), ids(n.Missing)})
	}
	return out
}

func (c *Change) wait(ns []trust.Need) { c.State, c.Needs = stateWaiting, needsOf(ns) }

// boxCheck is how a box without boxup checks an update U. It makes the checksum line L itself.
const boxCheck = "sha256sum U > L && openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in L -sigfile U.sig"

// Text returns the change for people.
func (c Change) Text() string {
	text := lines(c.Role, fmt.Sprintf("%d -> %d", c.From, c.To))
	if c.From == c.To {
		text = lines(c.Role, c.To)
	}
	if !c.Expires.IsZero() {
		text += lines("expires", stamp(c.Expires))
	}
	for _, r := range c.Added {
		text += lines("added", r) + r.conditions("")
	}
	for _, r := range c.Withdrawn {
		text += lines("withdrawn", r)
	}
	for _, r := range c.Changed {
		text += lines("changed", r.Listed) + r.Before.conditions(" before") + r.conditions("")
	}
	for _, h := range c.Holders {
		text += h.text()
	}
	for _, n := range c.Notes {
		text += lines("note", n)
	}
	if c.State != "" {
		text += lines("state", c.State)
	}
	if !c.ID.IsZero() {
		text += lines("id", c.ID)
	}
	for _, n := range c.Needs {
		text += lines("signatures", fmt.Sprintf("%d of the %d that root %d wants; signed by: %s; can sign: %s",
			len(n.Have), n.Threshold, n.Root, fingerprints(n.Have), fingerprints(n.Missing)))
	}
	for _, at := range c.At {
		text += lines("at", at)
	}
	if len(c.At) > 0 {
		text += lines("a box checks U with U.sig", boxCheck)
	}
	return text
}

// Changes are the steps of a command that has several.
type Changes []Change

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

func (h Holder) text() string {
	text := ""
	for _, id := range h.Added {
		text += lines("key added", fmt.Sprintf("%s %s", h.Role, id))
	}
	for _, id := range h.Removed {
		text += lines("key removed", fmt.Sprintf("%s %s", h.Role, id))
	}
	if h.Threshold[0] != h.Threshold[1] {
		text += lines("threshold", fmt.Sprintf("%s %d -> %d", h.Role, h.Threshold[0], h.Threshold[1]))
	}
	return text
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

// lines returns facts, alternately names and values, as one "name: value" per line.
func lines(facts ...any) string {
	var b strings.Builder
	for i := 0; i+1 < len(facts); i += 2 {
		fmt.Fprintf(&b, "%v: %v\n", facts[i], facts[i+1])
	}
	return b.String()
}

// stamp returns a time in UTC, in whole seconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
