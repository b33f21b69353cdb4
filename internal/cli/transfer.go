package cli

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// The exit codes of programs that fetch and verify.
const (
	CodeUnavailable = 3 // nobody who has it could be reached
	CodeRefused     = 4 // what came was refused: wrong, older than what was seen, or expired
	CodeNoSpace     = 5 // too little room on the disk, or below a cap
)

// TransferCode returns the exit code for an error of fetching, verifying or storing, 0 where it is none of
// these. Where several things went wrong, a fault of the local disk counts first, since nobody else is to blame
// for that, and then what was refused.
func TransferCode(err error) int {
	switch {
	case disk.Fault(err) && !disk.NoSpace(err):
		return CodeFailed
	case disk.NoSpace(err), errors.Is(err, store.ErrNoSpace):
		return CodeNoSpace
	}
	for _, c := range []struct {
		code int
		errs []error
	}{
		{CodeRefused, []error{
			fetch.ErrRefused, store.ErrCorrupt, signing.ErrSignature, trust.ErrRollback, trust.ErrExpired, trust.ErrMalformed,
			trust.ErrThreshold, trust.ErrFork, trust.ErrMismatch, trust.ErrSecondDigest,
		}},
		{CodeUnavailable, []error{fetch.ErrUnavailable, fetch.ErrNotFound, trust.ErrNotFound}},
	} {
		for _, e := range c.errs {
			if errors.Is(err, e) {
				return c.code
			}
		}
	}
	return 0
}
