package trust

import (
	"errors"
	"fmt"
)

// What a caller may branch on. Each refusal wraps one of them and says which file, role, version or
// key is at fault, what was expected, and what to do.
var (
	// ErrMalformed says that a file is not what its role requires, whoever signed it.
	ErrMalformed = errors.New("malformed metadata")

	// ErrThreshold says that too few keys of a role signed a file.
	ErrThreshold = errors.New("not enough signatures")

	// ErrExpired says that a file is past its expiry at the reference time.
	ErrExpired = errors.New("expired")

	// ErrRollback says that what is offered is older than what was accepted before.
	ErrRollback = errors.New("older than what was accepted before")

	// ErrFork says that two different files carry one version, or that two roots are no chain.
	ErrFork = errors.New("two different files for one version")

	// ErrMismatch says that a file is not the one that the signed file above it names.
	ErrMismatch = errors.New("not the file that the signed metadata names")

	// ErrSecondDigest says that a name is offered with another digest than it had before.
	ErrSecondDigest = errors.New("name already has another digest")

	// ErrConflict says that a proposal was made on another base than the one that it is offered to.
	ErrConflict = errors.New("made on another base")

	// ErrStranded says that a new root would no longer accept what is published now.
	ErrStranded = errors.New("the new root does not accept what is published")

	// ErrClock says that the clock of the signing computer, or this one, is off.
	ErrClock = errors.New("clock is off")

	// ErrAhead says that what is published was signed at a time that is still to come by this clock.
	ErrAhead = fmt.Errorf("%w, or that of the origin was", ErrClock)

	// ErrJump says that this clock is further ahead of all that was signed than can be believed.
	ErrJump = fmt.Errorf("%w: it is far ahead of all that was signed", ErrClock)

	// ErrKey says that a key has no part in the role.
	ErrKey = errors.New("key is not in the root")

	// ErrTooMany says that a list would exceed MaxUpdates.
	ErrTooMany = errors.New("too many updates")

	// ErrNotFound says that a file is not there. A Fetcher returns it for a file that its source does
	// not have.
	ErrNotFound = errors.New("metadata not found")

	// ErrUnchanged is what a Fetcher returns where its source says that the caller has the file.
	ErrUnchanged = errors.New("metadata unchanged")

	// ErrNone says that a directory holds no complete repository.
	ErrNone = errors.New("no complete repository")
)
