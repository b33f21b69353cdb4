package signer

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// What became of a change.
const (
	statePublished = "published"
	stateWaiting   = "waiting for signatures"
	stateArchives  = "waiting for archives" // it has its signatures
	stateDryRun    = "dry run"
	stateUnchanged = "unchanged"
)

// change is what a proposal changes and what became of it.
type change struct {
	Role    trust.Role `json:"role"`
	From    int64      `json:"from"`
	To      int64      `json:"to"`
	Expires time.Time  `json:"expires,omitzero"`

	Added     []listed  `json:"added,omitempty"`
	Withdrawn []listed  `json:"withdrawn,omitempty"`
	Changed   []changed `json:"changed,omitempty"`
	Holders   []holder  `json:"holders,omitempty"`
	Notes     []string  `json:"notes,omitempty"`

	State string        `json:"state,omitempty"`
	ID    update.Digest `json:"id,omitzero"`     // of the file as signed so far, in status
	Needs []need        `json:"needs,omitempty"` // while it waits

	At []string `json:"at,omitempty"` // where what was added is served
}

// listed is an update in a list.
type listed struct {
	Name     update.Name    `json:"name"`
	Version  update.Version `json:"version"`
	Digest   update.Digest  `json:"digest"`
	Length   int64          `json:"length"`
	Unpacked int64          `json:"unpacked"`

	Published  time.Time      `json:"published"`
	Rollout    *rolloutFacts  `json:"rollout,omitempty"`
	Hardware   []string       `json:"hardware,omitempty"`
	MinVersion update.Version `json:"min_version,omitzero"`
}

// changed is an update that is from now on for other boxes.
type changed struct {
	listed
	Before listed `json:"before"`
}

// holder is a role whose keys or threshold change.
type holder struct {
	Role      trust.Role `json:"role"`
	Added     []keys.ID  `json:"added,omitempty"`
	Removed   []keys.ID  `json:"removed,omitempty"`
	Threshold [2]int     `json:"threshold"` // before, after
}

// need is a threshold that is or isn't met.
type need struct {
	Root      int64      `json:"root"`
	Role      trust.Role `json:"role"`
	Threshold int        `json:"threshold"`
	Have      []keys.ID  `json:"have"`
	Missing   []keys.ID  `json:"missing"`
}

// describe says what a plan changes, as seen now.
func (x *session) describe(p trust.Plan) change {
	c := change{Role: p.Role, From: p.From, To: p.To, Expires: p.ToExpires.UTC()}
	c.Added, c.Withdrawn = releases(p.Added, x.at), releases(p.Withdrawn, x.at)
	for _, r := range p.Changed {
		c.Changed = append(c.Changed, changed{release(r.To, x.at), release(r.From, x.at)})
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
		c.Holders = append(c.Holders, holder{h.Role, ids(h.AddedKeys), ids(h.RemovedKeys), [2]int{h.FromThreshold, h.ToThreshold}})
	}
	return c
}

// release says what a list says of an update, and how far its rollout is at that time.
func release(r trust.Release, at time.Time) listed {
	c := r.Conditions()
	return listed{
		Name: r.Name(), Version: r.Name().Version(), Digest: r.Digest(), Length: r.Length(), Unpacked: r.Unpacked(),
		Published: r.Published().UTC(), Rollout: rolloutOf(r, at), Hardware: c.Hardware, MinVersion: c.MinVersion,
	}
}

func releases(rs []trust.Release, at time.Time) []listed {
	var out []listed
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

func needsOf(ns []trust.Need) []need {
	var out []need
	for _, n := range ns {
		out = append(out, need{n.Root, n.Role, n.Threshold, ids(n.Have), ids(n.Missing)})
	}
	return out
}

func (c *change) wait(ns []trust.Need) { c.State, c.Needs = stateWaiting, needsOf(ns) }

// boxCheck is how a box checks an update U with what it has: it makes the line L itself.
const boxCheck = "sha256sum U > L && openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in L -sigfile U.sig"

// print writes one fact per line.
func (c change) print(s cli.Streams) error {
	var b bytes.Buffer
	if c.From == c.To {
		fmt.Fprintf(&b, "%s: %d\n", c.Role, c.To)
	} else {
		fmt.Fprintf(&b, "%s: %d -> %d\n", c.Role, c.From, c.To)
	}
	if !c.Expires.IsZero() {
		fmt.Fprintf(&b, "expires: %s\n", stamp(c.Expires))
	}
	for _, r := range c.Added {
		r.print(&b, "added")
		r.printConditions(&b, "")
	}
	for _, r := range c.Withdrawn {
		r.print(&b, "withdrawn")
	}
	for _, r := range c.Changed {
		r.print(&b, "changed")
		r.Before.printConditions(&b, " before")
		r.printConditions(&b, "")
	}
	for _, h := range c.Holders {
		h.print(&b)
	}
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if c.State != "" {
		fmt.Fprintf(&b, "state: %s\n", c.State)
	}
	if !c.ID.IsZero() {
		fmt.Fprintf(&b, "id: %v\n", c.ID)
	}
	for _, n := range c.Needs {
		n.print(&b)
	}
	for _, at := range c.At {
		fmt.Fprintf(&b, "at: %s\n", at)
	}
	if len(c.At) > 0 {
		fmt.Fprintf(&b, "a box checks U with U.sig: %s\n", boxCheck)
	}
	_, err := s.Out.Write(b.Bytes())
	return err
}

func (l listed) print(b *bytes.Buffer, what string) {
	fmt.Fprintf(b, "%s: %v version %v, digest %v, %d bytes, unpacked %d\n", what, l.Name, l.Version, l.Digest, l.Length, l.Unpacked)
}

func (h holder) print(b *bytes.Buffer) {
	for _, id := range h.Added {
		fmt.Fprintf(b, "key added: %s %s\n", h.Role, id)
	}
	for _, id := range h.Removed {
		fmt.Fprintf(b, "key removed: %s %s\n", h.Role, id)
	}
	if h.Threshold[0] != h.Threshold[1] {
		fmt.Fprintf(b, "threshold: %s %d -> %d\n", h.Role, h.Threshold[0], h.Threshold[1])
	}
}

func (n need) print(b *bytes.Buffer) {
	fmt.Fprintf(b, "signatures: %d of the %d that root %d wants; signed by: %s; can sign: %s\n",
		len(n.Have), n.Threshold, n.Root, fingerprints(n.Have), fingerprints(n.Missing))
}

// fingerprints returns what people compare, "nobody" for no key.
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

// show prints a change as the result of a command.
func show(s cli.Streams, asJSON bool, c change) error {
	if asJSON {
		return s.JSON(c)
	}
	return c.print(s)
}

// showAll prints the steps of a command that has several.
func showAll(s cli.Streams, asJSON bool, cs []change) error {
	if asJSON {
		return s.JSON(cs)
	}
	for _, c := range cs {
		if err := c.print(s); err != nil {
			return err
		}
	}
	return nil
}

// printAll writes facts, each a name and a value, one per line.
func printAll(s cli.Streams, facts ...any) error {
	for i := 0; i+1 < len(facts); i += 2 {
		if _, err := fmt.Fprintf(s.Out, "%v: %v\n", facts[i], facts[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// stamp returns a time in UTC, in whole seconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
