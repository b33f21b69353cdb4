// Package verified makes the one type whose values say that an update was verified. Only the packages
// below signing can import it, so only they can make such a value.
package verified

import (
	"errors"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/update"
)

// Claim is what verifying code found to be signed.
type Claim struct {
	Name   update.Name
	Digest update.Digest // of the whole archive

	// Length of the archive in bytes; -1 where nothing that is signed says it, and nothing measured it.
	Length int64

	// Blocks is the SHA-256 of the block list; zero where nothing that is signed says it.
	Blocks update.Digest

	// Key made the detached signature; zero where repository metadata vouches for the update.
	Key keys.Public
}

// Update is an update that verifying code vouches for: an archive with this digest is genuine under
// this name. Values are compared with ==. The zero Update vouches for nothing and is refused by
// whatever takes one.
type Update struct{ claim Claim }

// New vouches for a claim, which the caller has verified.
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

// Length returns the length of the archive in bytes, -1 where it is not known.
func (u Update) Length() int64 { return u.claim.Length }

// Blocks returns the SHA-256 of the block list, zero where it is not known.
func (u Update) Blocks() update.Digest { return u.claim.Blocks }

// Key returns the key that made the detached signature, zero where repository metadata vouches.
func (u Update) Key() keys.Public { return u.claim.Key }

// IsZero reports whether u is the zero Update, which vouches for nothing.
func (u Update) IsZero() bool { return u == Update{} }
