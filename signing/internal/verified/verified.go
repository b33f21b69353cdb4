// Package verified has the one type whose values are verified updates. Only packages below signing can import it, so that
// only they can make such a value.
package verified

import (
	"errors"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/update"
)

// Claim is the signed facts about an update.
type Claim struct {
	Name   update.Name
	Digest update.Digest // of the whole archive

	// Length of the archive in bytes; -1 if it is neither signed nor measured.
	Length int64

	// Blocks is the SHA-256 of the block list; zero if it is not signed.
	Blocks update.Digest

	// Key made the detached signature; zero if repository metadata lists the update.
	Key keys.Public
}

// Update is a verified update: an archive with this digest is genuine under this name. Values are compared with ==. The zero
// Update is no update, and every function with an Update as argument refuses it.
type Update struct{ claim Claim }

// New returns the update of a claim that the caller has verified.
func New(c Claim) (Update, error) {
	if c.Name.IsZero() || c.Digest.IsZero() || c.Length < -1 {
		return Update{}, errors.New("verified update: a name, a digest and a length are needed")
	}
	return Update{c}, nil
}

// Name returns the signed name.
func (u Update) Name() update.Name { return u.claim.Name }

// Digest returns the signed digest.
func (u Update) Digest() update.Digest { return u.claim.Digest }

// Length returns the length of the archive in bytes, -1 if it is not known.
func (u Update) Length() int64 { return u.claim.Length }

// Blocks returns the SHA-256 of the block list, zero if it is not known.
func (u Update) Blocks() update.Digest { return u.claim.Blocks }

// Key returns the key that made the detached signature, zero if repository metadata lists the update.
func (u Update) Key() keys.Public { return u.claim.Key }

// IsZero reports whether u is the zero Update.
func (u Update) IsZero() bool { return u == Update{} }
