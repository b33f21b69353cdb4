package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// repositoryStatus is the state of a repository as JSON.
type repositoryStatus struct {
	Roles   []roleStatus  `json:"roles"`
	Updates []listed      `json:"updates"`
	Pending []change      `json:"pending"`
	Root    update.Digest `json:"root_digest"`
	LeftOut []string      `json:"left_out,omitempty"` // what is listed, and no archive can be
}

// roleStatus is who can sign for a role, and until when what they signed is valid.
type roleStatus struct {
	Role      trust.Role  `json:"role"`
	Version   int64       `json:"version"`
	Issued    time.Time   `json:"issued"`
	Expires   time.Time   `json:"expires"`
	Expired   bool        `json:"expired"`
	Threshold int         `json:"threshold"`
	Keys      []keyStatus `json:"keys"`
}

// keyStatus is a key of a role.
type keyStatus struct {
	ID   keys.ID `json:"id"`
	Mine bool    `json:"mine"` // it is one of the directory of keys
}

func newStatus(s cli.Streams) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "status [DIR|URL]",
		Short: "Show who can sign, what expires and what waits",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.takePlace(args)) > 0 {
				return cli.Usagef("%s: expected the directory or URL of a repository", args[0])
			}
			return withHint(showStatus(cmd.Context(), s, o))
		},
	}
	o.keysFlag(cmd)
	o.repoFlag(cmd)
	o.jsonFlag(cmd)
	return cmd
}

func showStatus(ctx context.Context, s cli.Streams, o options) error {
	return inSession(ctx, s, o, false, func(x *session) error {
		st, err := x.status()
		if err != nil {
			return err
		}
		if o.json {
			return s.JSON(st)
		}
		return st.print(s, x.at)
	})
}

func (x *session) status() (repositoryStatus, error) {
	mine := map[keys.ID]bool{}
	for _, base := range allBases() {
		k, err := x.ring.public(base)
		if err != nil {
			return repositoryStatus{}, err
		}
		mine[k.ID()] = true
	}
	st := repositoryStatus{Updates: releases(x.base.Releases(), x.at), Pending: []change{}, Root: x.base.Root().Digest()}
	root := x.base.Root()
	for _, role := range trust.Roles() {
		r := roleStatus{Role: role, Version: x.base.Version(role), Issued: x.base.Issued(role).UTC(), Expires: x.base.Expires(role).UTC(), Threshold: root.Threshold(role)}
		r.Expired = x.at.After(r.Expires)
		for _, k := range root.Keys(role) {
			r.Keys = append(r.Keys, keyStatus{k.ID(), mine[k.ID()]})
		}
		st.Roles = append(st.Roles, r)
	}
	for _, err := range x.base.LeftOut() {
		st.LeftOut = append(st.LeftOut, err.Error())
	}
	for _, p := range x.pending {
		c := x.describe(p.Plan())
		c.wait(p.Needs())
		c.ID = update.Sum(p.Raw())
		st.Pending = append(st.Pending, c)
	}
	if c, staged := x.staged(); staged {
		st.Pending = append(st.Pending, c)
	}
	return st, nil
}

// staged returns the list that has its signatures and waits at an origin for its archives. What it changes
// is known where it was signed last with these keys: an origin gives it to nobody.
func (x *session) staged() (change, bool) {
	_, remote := x.place.(shown)
	if !remote || x.reserved <= x.base.Version(trust.RoleTargets) ||
		slices.ContainsFunc(x.waiting(trust.RoleTargets), func(p *trust.Proposal) bool { return p.Version() == x.reserved }) {
		return change{}, false
	}
	c := change{Role: trust.RoleTargets, From: x.base.Version(trust.RoleTargets), To: x.reserved}
	if p := x.unpublished(); p != nil && p.Version() == x.reserved {
		c = x.describe(p.Plan())
		c.ID = update.Sum(p.Raw())
	}
	c.State = stateArchives
	return c, true
}

func (st repositoryStatus) print(s cli.Streams, at time.Time) error {
	if err := printAll(s, "root digest", st.Root, "updates", len(st.Updates)); err != nil {
		return err
	}
	for _, r := range st.Roles {
		if err := r.print(s, at); err != nil {
			return err
		}
	}
	for _, u := range st.Updates {
		if err := u.printStatus(s); err != nil {
			return err
		}
	}
	for _, why := range st.LeftOut {
		if err := printAll(s, "left out", why+"; the next list drops it"); err != nil {
			return err
		}
	}
	for _, c := range st.Pending {
		if err := printAll(s, "pending", fmt.Sprintf("%s %d", c.Role, c.To)); err != nil {
			return err
		}
		if err := c.print(s); err != nil {
			return err
		}
	}
	return nil
}

func (r roleStatus) print(s cli.Streams, at time.Time) error {
	left := fmt.Sprintf("in %d days", int(r.Expires.Sub(at).Hours()/24))
	if r.Expired {
		left = "EXPIRED"
	}
	err := printAll(s, string(r.Role), fmt.Sprintf("version %d, expires %s (%s), signed by %d of %d keys", r.Version, stamp(r.Expires), left, r.Threshold, len(r.Keys)))
	for _, k := range r.Keys {
		whose := ""
		if k.Mine {
			whose = " (yours)"
		}
		err = errors.Join(err, printAll(s, string(r.Role)+" key", string(k.ID)+whose))
	}
	return err
}
