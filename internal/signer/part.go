package signer

import (
	"slices"
	"strings"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// part is what a key is for, as boxsign names it. It is also the base name of the files of that key.
type part string

const (
	rootPart    part = "root"
	releasePart part = "release"
	onlinePart  part = "online"
)

func parts() []part { return []part{rootPart, releasePart, onlinePart} }

// roles returns the roles of the metadata that a key of this part signs for.
func (p part) roles() []trust.Role {
	switch p {
	case rootPart:
		return []trust.Role{trust.RoleRoot}
	case releasePart:
		return []trust.Role{trust.RoleTargets}
	}
	return []trust.Role{trust.RoleSnapshot, trust.RoleTimestamp}
}

// role returns the first role. Its keys and threshold are those of the other role too.
func (p part) role() trust.Role { return p.roles()[0] }

// partOf returns the part whose keys sign for a role.
func partOf(role trust.Role) part {
	at := slices.IndexFunc(parts(), func(p part) bool { return slices.Contains(p.roles(), role) })
	return parts()[at]
}

func parsePart(s string) (part, error) {
	if p := part(s); slices.Contains(parts(), p) {
		return p, nil
	}
	return "", status.Usagef("role %q: expected root, release or online", s)
}

// partOfBase returns the part of the key with a base name such as release or release.next.
func partOfBase(base string) part {
	p, _, _ := strings.Cut(base, ".")
	return part(p)
}

// allBases returns the base names of the present and the next key of each part.
func allBases() []string {
	var out []string
	for _, p := range parts() {
		out = append(out, string(p), string(p)+nextInfix)
	}
	return out
}

func (p part) addKey(e *trust.RootEdit, key keys.Public) error {
	for _, role := range p.roles() {
		if err := e.AddKey(role, key); err != nil {
			return err
		}
	}
	return nil
}

func (p part) removeKey(e *trust.RootEdit, id keys.ID) error {
	for _, role := range p.roles() {
		if err := e.RemoveKey(role, id); err != nil {
			return err
		}
	}
	return nil
}
