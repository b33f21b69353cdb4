package signer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Status says who can sign for a repository, what it lists, and what waits there.
type Status struct {
	Roles   []RoleStatus  `json:"roles"`
	Updates []Listed      `json:"updates"`
	Pending []Change      `json:"pending"`
	Root    update.Digest `json:"root_digest"`        // of the newest root
	LeftOut []string      `json:"left_out,omitempty"` // entries of the list that no archive can match, and why

	Fingerprint update.Digest `json:"root_fingerprint,omitzero"` // of 1.root.json; zero if the keys began with a later root
	Next        []string      `json:"next"`                      // commands that are to be run, and why

	// Verbose lets Text show every update and every key.
	Verbose bool `json:"-"`

	at          time.Time
	rootVersion int64
}

// RoleStatus says who can sign for a role, and until when its metadata are valid.
type RoleStatus struct {
	RootRole
	Version int64     `json:"version"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	Expired bool      `json:"expired"`
}

// Status returns the status of the repository. It changes nothing.
func (s *Signer) Status(ctx context.Context) (Status, error) {
	return inSession(ctx, s, false, func(x *session) (Status, error) { return x.status() })
}

func (x *session) status() (Status, error) {
	mine, err := x.ring.mine()
	if err != nil {
		return Status{}, err
	}
	root := x.base.Root()
	st := Status{at: x.at, Updates: describeReleases(x.base.Releases(), x.at), Pending: []Change{}, Root: root.Digest(), rootVersion: root.Version()}
	if first := firstRoot(x.trusted); first != nil {
		st.Fingerprint = first.Digest()
	}
	for _, role := range trust.Roles() {
		r := RoleStatus{RootRole: describeRole(root, role, mine), Version: x.base.Version(role), Issued: x.base.Issued(role).UTC(), Expires: x.base.Expires(role).UTC()}
		r.Expired = x.at.After(r.Expires)
		st.Roles = append(st.Roles, r)
	}
	for _, err := range x.base.LeftOut() {
		st.LeftOut = append(st.LeftOut, err.Error())
	}
	for _, p := range x.pending {
		c := x.describe(p.Plan())
		c.setWaiting(p)
		c.ID = update.Sum(p.Raw())
		st.Pending = append(st.Pending, c)
	}
	if x.stagedList() != 0 {
		st.Pending = append(st.Pending, x.describeStaged())
	}
	st.Next = x.next(st, mine)
	return st, nil
}

// describeStaged describes the list that has its signatures and waits at an origin for its archives. An origin doesn't
// show such a list, so its changes are known only if these keys signed it last.
func (x *session) describeStaged() Change {
	c := Change{Role: trust.RoleTargets, From: x.base.Version(trust.RoleTargets), To: x.reserved}
	if p := x.loadSigned(); p != nil && p.Version() == x.reserved {
		c = x.describe(p.Plan())
		c.ID = update.Sum(p.Raw())
	}
	c.State = stateArchives
	return c
}

// soon is how long before the expiry of a root or a list its signers are told.
const soon = 30 * 24 * time.Hour

// next returns the commands that are to be run, and why, the most urgent first.
func (x *session) next(st Status, mine map[keys.ID]bool) []string {
	out := []string{}
	add := func(why, command string) {
		out = append(out, fmt.Sprintf("%s: boxsign %s --keys %s --repo %s", why, command, word(x.ring.dir), word(x.Repository)))
	}
	for _, r := range st.Roles {
		switch by := r.Expires.Sub(st.at); {
		case r.Role == trust.RoleRoot && by < soon:
			add(expiryText("the root", r.Expires, st.at), "root renew")
		case r.Role == trust.RoleTargets && by < soon:
			add(expiryText("the list", r.Expires, st.at), "renew --list")
		case r.Expired && r.Role == trust.RoleTimestamp && !IsURL(x.Repository):
			add("the timestamp is expired, and a server on the repository would renew it", "renew")
		}
	}
	for _, c := range st.Pending {
		if c.State == stateArchives {
			out = append(out, fmt.Sprintf("%s %d lacks archives: run its publish command again", c.Role, c.To))
			continue
		}
		canSign := slices.ContainsFunc(c.Needs, func(n Need) bool {
			return slices.ContainsFunc(n.Missing, func(id keys.ID) bool { return mine[id] })
		})
		command := "cosign"
		if c.Role == trust.RoleRoot {
			command = "root sign"
		}
		if canSign {
			add(fmt.Sprintf("%s %d waits for your signature", c.Role, c.To), command)
		}
	}
	return out
}

// Text returns the status for people: on one screen or, if Verbose is set, with every update and every key.
func (st Status) Text() string {
	text := fingerprintText(st.Fingerprint, st.rootVersion, st.Root)
	for _, r := range st.Roles {
		text += r.text(st.at, st.Verbose)
		if st.Verbose {
			text = r.addKeyLines(text)
		}
	}
	text += lines("updates", st.countText())
	if st.Verbose {
		for _, u := range st.Updates {
			text += lines("update", fmt.Sprintf("%v digest %v, %d bytes", u.Name, u.Digest, u.Length)) + u.conditions("")
		}
		for _, why := range st.LeftOut {
			text += lines("left out", why+"; the next list drops it")
		}
	} else if n := len(st.LeftOut); n > 0 {
		text += lines("left out", fmt.Sprintf("%d entries that no archive can match; see --verbose", n))
	}
	for _, c := range st.Pending {
		text += lines("pending", fmt.Sprintf("%s %d", c.Role, c.To))
		if st.Verbose {
			text += c.Text()
		} else {
			text += c.shortText()
		}
	}
	return text + each("next", st.Next)
}

// countText returns how many updates are listed, and the newest of them.
func (st Status) countText() string {
	if len(st.Updates) == 0 {
		return "0"
	}
	newest := slices.MaxFunc(st.Updates, func(a, b Listed) int { return cmp.Or(a.Published.Compare(b.Published), a.Version.Compare(b.Version)) })
	text := fmt.Sprintf("%d, the last published: %v, %s ago", len(st.Updates), newest.Name, ago(st.at.Sub(newest.Published)))
	if newest.Rollout != nil {
		text += "; " + newest.Rollout.String()
	}
	return text
}

// shortText returns what a proposal that waits changes, in numbers, and what it lacks.
func (c Change) shortText() string {
	var changes []string
	for _, k := range []struct {
		n    int
		what string
	}{{len(c.Added), "added"}, {len(c.Withdrawn), "withdrawn"}, {len(c.Changed), "changed"}} {
		if k.n > 0 {
			changes = append(changes, fmt.Sprintf("%d %s", k.n, k.what))
		}
	}
	text := lines("changes", strings.Join(changes, ", "))
	return text + holdersText(c.Holders) + c.stateText()
}

func (r RoleStatus) text(at time.Time, verbose bool) string {
	text := fmt.Sprintf("version %d, expires %s (%s), %s", r.Version, stamp(r.Expires), left(r.Expires, at), needsText(r.Threshold, len(r.Keys)))
	if verbose { // the keys have lines of their own
		return lines(r.Role, text)
	}
	var yours []string
	for _, k := range r.Keys {
		if k.Mine {
			yours = append(yours, k.ID.Fingerprint())
		}
	}
	if len(yours) > 0 {
		text += "; yours: " + strings.Join(yours, ", ")
	}
	return lines(r.Role, text)
}
