package trust

import (
	"errors"

	"github.com/openpowerquality/box-update-server/status"
)

// The errors that a caller may branch on. Each refusal wraps one of them and says which file, role, version or key is
// at fault, what was expected, and what to do.
var (
	// ErrMalformed says that a file is not what its role requires, whoever signed it.
	ErrMalformed error = status.Malformed

	// ErrThreshold says that too few keys of a role signed a file.
	ErrThreshold error = status.Threshold

	// ErrExpired says that a file is past its expiry at the reference time.
	ErrExpired error = status.Expired

	// ErrRollback says that metadata are older than what was accepted before.
	ErrRollback error = status.Rollback

	// ErrFork says that two different files carry one version, or that two roots are no chain.
	ErrFork error = status.Fork

	// ErrMismatch says that a file is not the one that the signed file above it names.
	ErrMismatch error = status.Mismatch

	// ErrSecondDigest says that a name is offered with another digest than it had before.
	ErrSecondDigest error = status.SecondDigest

	// ErrConflict says that a proposal was made on another base than the one that it is offered to.
	ErrConflict error = status.Conflict

	// ErrStranded says that a new root would no longer accept what is published now.
	ErrStranded error = status.Stranded

	// ErrClock says that the clock of the signing computer, or this one, is off.
	ErrClock error = status.Clock

	// ErrAhead says that, by this clock, the published timestamp was signed in the future.
	ErrAhead error = status.ClockBehind

	// ErrJump says that this clock is too far ahead of everything that was signed to be believed.
	ErrJump error = status.ClockAhead

	// ErrKey says that a key does not have the role.
	ErrKey error = status.Key

	// ErrTooMany says that a list would exceed MaxUpdates.
	ErrTooMany error = status.TooMany

	// ErrNotFound says that a file is not there. A Fetcher returns it for a file that its source does not have.
	ErrNotFound error = status.NoMetadata

	// ErrUnchanged is what a Fetcher returns if its source says that the caller's file is the current one.
	ErrUnchanged = errors.New("metadata unchanged")

	// ErrNone says that a directory holds no complete repository.
	ErrNone = errors.New("no complete repository")
)
