package mirror

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// Reason says in a word or two why something failed. It tells nothing of a network or a disk, so that
// anyone may see it.
type Reason string

// Why something failed.
const (
	ReasonNoSpace     Reason = "no space"    // on the disk, or below the cap
	ReasonRefused     Reason = "refused"     // an upstream sent what is wrong
	ReasonExpired     Reason = "expired"     // it shows metadata that ran out
	ReasonBehind      Reason = "behind"      // it shows older metadata than are here
	ReasonUnavailable Reason = "unavailable" // it is down, cut or busy
	ReasonMissing     Reason = "not found"   // it does not have what it lists
	ReasonOther       Reason = "failed"      // see the log
)

// reasonOf returns why an error came: of several the gravest.
func reasonOf(err error) Reason {
	for _, c := range []struct {
		err    error
		reason Reason
	}{
		{disk.ErrNoSpace, ReasonNoSpace},
		{fetch.ErrRefused, ReasonRefused},
		{trust.ErrExpired, ReasonExpired},
		{trust.ErrRollback, ReasonBehind},
		{fetch.ErrUnavailable, ReasonUnavailable},
		{fetch.ErrNotFound, ReasonMissing},
		{trust.ErrNotFound, ReasonMissing},
	} {
		if errors.Is(err, c.err) {
			return c.reason
		}
	}
	if fetch.Hostile(err) {
		return ReasonRefused
	}
	return ReasonOther
}
