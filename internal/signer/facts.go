package signer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// RootFacts describes a root.
type RootFacts struct {
	Version     int64         `json:"version"`
	Fingerprint update.Digest `json:"root_fingerprint,omitzero"` // of 1.root.json; zero if that is not at hand
	Digest      update.Digest `json:"root_digest"`               // of this root
	Issued      time.Time     `json:"issued"`
	Expires     time.Time     `json:"expires"`
	Expired     bool          `json:"expired"`
	Roles       []RootRole    `json:"roles"`

	at time.Time
}

// RootRole says which keys sign for a role, by a root.
type RootRole struct {
	Role      trust.Role  `json:"role"`
	Threshold int         `json:"threshold"`
	Keys      []KeyStatus `json:"keys"`
}

// KeyStatus is a key of a role.
type KeyStatus struct {
	ID   keys.ID `json:"id"`
	Mine bool    `json:"mine"` // it is in the directory of keys
}

// ShowRoot returns the newest root of the repository or, if file is not "", the root in that file. For a file it needs neither
// keys nor a repository; keys that are there are recognized.
func (s *Signer) ShowRoot(ctx context.Context, file string) (RootFacts, error) {
	if file == "" {
		return inSession(ctx, s, false, func(x *session) (RootFacts, error) {
			mine, err := x.ring.mine()
			return describeRoot(x.base.Root(), firstRoot(x.trusted), mine, x.at), err
		})
	}
	root, err := readRoot(file)
	if err != nil {
		return RootFacts{}, withHint(err)
	}
	mine := map[keys.ID]bool{}
	if ring, noKeys := s.ring(); noKeys == nil {
		if mine, err = ring.mine(); err != nil {
			return RootFacts{}, err
		}
	}
	first := root
	if root.Version() != 1 {
		first = nil
	}
	return describeRoot(root, first, mine, s.Now()), nil
}

// firstRoot returns root 1 if the keys have it, else nil: they may have begun with a later one.
func firstRoot(trusted *trust.State) *trust.Root {
	if first := trusted.Roots()[0]; first.Version() == 1 {
		return first
	}
	return nil
}

// mine returns the IDs of the keys of the directory.
func (k *keyring) mine() (map[keys.ID]bool, error) {
	mine := map[keys.ID]bool{}
	for _, base := range allBases() {
		public, err := k.public(base)
		if err != nil {
			return nil, err
		}
		if !public.IsZero() {
			mine[public.ID()] = true
		}
	}
	return mine, nil
}

// describeRoot describes a root. first is root 1, nil if that is not known.
func describeRoot(root, first *trust.Root, mine map[keys.ID]bool, at time.Time) RootFacts {
	out := RootFacts{Version: root.Version(), Digest: root.Digest(), Issued: root.Issued().UTC(), Expires: root.Expires().UTC(),
		Expired: at.After(root.Expires()), at: at}
	if first != nil {
		out.Fingerprint = first.Digest()
	}
	for _, role := range trust.Roles() {
		out.Roles = append(out.Roles, describeRole(root, role, mine))
	}
	return out
}

func describeRole(root *trust.Root, role trust.Role, mine map[keys.ID]bool) RootRole {
	r := RootRole{Role: role, Threshold: root.Threshold(role)}
	for _, k := range root.Keys(role) {
		r.Keys = append(r.Keys, KeyStatus{k.ID(), mine[k.ID()]})
	}
	return r
}

// addKeyLines adds a line for each key to text, named by its part. It leaves out the lines that text has: the online key
// has two roles.
func (r RootRole) addKeyLines(text string) string {
	for _, k := range r.Keys {
		text = addLine(text, lines(string(partOf(r.Role))+" key", k))
	}
	return text
}

// Text returns the root for people.
func (r RootFacts) Text() string {
	text := fingerprintText(r.Fingerprint, r.Version, r.Digest)
	text += lines("version", r.Version, "issued", stamp(r.Issued), "expires", stamp(r.Expires)+" ("+left(r.Expires, r.at)+")")
	for _, role := range r.Roles {
		text = addLine(text, lines(partOf(role.Role), needsText(role.Threshold, len(role.Keys))))
		text = role.addKeyLines(text)
	}
	return text
}

// fingerprintText returns the root fingerprint, which is that of 1.root.json, and beside it the digest of a later root.
func fingerprintText(first update.Digest, version int64, digest update.Digest) string {
	text := ""
	if !first.IsZero() {
		text = lines("root fingerprint", first.String()+" (1.root.json; boxup init shows the same)")
	}
	if version != 1 {
		text += lines("newest root", fmt.Sprintf("%d.root.json, digest %v", version, digest))
	}
	return text
}

// needsText says how many keys of a role must sign.
func needsText(threshold, n int) string {
	return fmt.Sprintf("needs %d of %d keys", threshold, n)
}

// left says how long it is until metadata expire.
func left(expires, at time.Time) string {
	if at.After(expires) {
		return "EXPIRED"
	}
	if by := expires.Sub(at); by < 48*time.Hour {
		return fmt.Sprintf("in %d hours", int(by.Hours()))
	}
	return fmt.Sprintf("in %d days", int(expires.Sub(at).Hours()/24))
}

// expiryText says in a sentence when something expires, or that it has expired.
func expiryText(what string, expires, at time.Time) string {
	if at.After(expires) {
		return what + " has expired"
	}
	return what + " expires " + left(expires, at)
}

// String returns the key for people.
func (k KeyStatus) String() string {
	if k.Mine {
		return k.ID.Fingerprint() + " (yours)"
	}
	return k.ID.Fingerprint()
}

// word returns s as a word of a command line of a shell, quoted if it must be.
func word(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:@%+=,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
