package signer

import (
	"context"
	"fmt"
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
	Root    update.Digest `json:"root_digest"`
	LeftOut []string      `json:"left_out,omitempty"` // entries of the list that no archive can match, and why

	at time.Time
}

// RoleStatus says who can sign for a role, and until when its metadata are valid.
type RoleStatus struct {
	Role      trust.Role  `json:"role"`
	Version   int64       `json:"version"`
	Issued    time.Time   `json:"issued"`
	Expires   time.Time   `json:"expires"`
	Expired   bool        `json:"expired"`
	Threshold int         `json:"threshold"`
	Keys      []KeyStatus `json:"keys"`
}

// KeyStatus is a key of a role.
type KeyStatus struct {
	ID   keys.ID `json:"id"`
	Mine bool    `json:"mine"` // it is in the directory of keys
}

// Status returns the status of the repository. It changes nothing.
func (s *Signer) Status(ctx context.Context) (Status, error) {
	return inSession(ctx, s, false, func(x *session) (Status, error) { return x.status() })
}

func (x *session) status() (Status, error) {
	mine := map[keys.ID]bool{}
	for _, base := range allBases() {
		k, err := x.ring.public(base)
		if err != nil {
			return Status{}, err
		}
		mine[k.ID()] = true
	}
	st := Status{at: x.at, Updates: describeReleases(x.base.Releases(), x.at), Pending: []Change{}, Root: x.base.Root().Digest()}
	root := x.base.Root()
	for _, role := range trust.Roles() {
		r := RoleStatus{Role: role, Version: x.base.Version(role), Issued: x.base.Issued(role).UTC(), Expires: x.base.Expires(role).UTC(), Threshold: root.Threshold(role)}
		r.Expired = x.at.After(r.Expires)
		for _, k := range root.Keys(role) {
			r.Keys = append(r.Keys, KeyStatus{k.ID(), mine[k.ID()]})
		}
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

// Text returns the status for people.
func (st Status) Text() string {
	text := lines("root fingerprint", st.Root, "updates", len(st.Updates))
	for _, r := range st.Roles {
		text += r.text(st.at)
	}
	for _, u := range st.Updates {
		text += lines("update", fmt.Sprintf("%v digest %v, %d bytes", u.Name, u.Digest, u.Length)) + u.conditions("")
	}
	for _, why := range st.LeftOut {
		text += lines("left out", why+"; the next list drops it")
	}
	for _, c := range st.Pending {
		text += lines("pending", fmt.Sprintf("%s %d", c.Role, c.To)) + c.Text()
	}
	return text
}

func (r RoleStatus) text(at time.Time) string {
	left := fmt.Sprintf("in %d days", int(r.Expires.Sub(at).Hours()/24))
	if r.Expired {
		left = "EXPIRED"
	}
	text := lines(string(r.Role), fmt.Sprintf("version %d, expires %s (%s), signed by %d of %d keys", r.Version, stamp(r.Expires), left, r.Threshold, len(r.Keys)))
	for _, k := range r.Keys {
		whose := ""
		if k.Mine {
			whose = " (yours)"
		}
		text += lines(string(r.Role)+" key", string(k.ID)+whose)
	}
	return text
}
