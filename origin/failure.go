package origin

import (
	"errors"
	"fmt"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// ErrAhead says that the clock of this origin is behind what was signed before: it signs nothing but roots, and with
// a new key.
var ErrAhead error = status.OriginBehind

// ErrJump says that the clock of this origin is ahead of all that was signed, the proposal at hand included, by more than
// can be believed: it signs nothing.
var ErrJump error = status.OriginAhead

// hintJump is what to do about ErrJump. The clock may be right: then somebody has to say so.
const hintJump = "set the clock of the origin; if it is right, because the origin was off for long, start it with clock_checked set to today, or publish a list: boxsign renew --list"

// hintAhead is what to do about ErrAhead. The clock may be right: then what was signed is not.
const hintAhead = "set the clock of the origin; if it is right, replace the online key: boxsign rotate online"

// Failure is an error as it travels to a signer on another computer. docs/PUBLISH.md lists the codes.
type Failure struct {
	Message string `json:"error"`
	Code    string `json:"code"`
	Hint    string `json:"hint,omitempty"` // what to do

	// Of a conflict alone.
	Current *trust.Versions `json:"current,omitempty"`
	Staged  int64           `json:"staged,omitempty"`
}

// codeInternal is for what is nobody's business but the operator's.
const codeInternal = "internal"

type failureKind struct {
	code string
	err  error
	hint string
}

// failureKinds returns the kinds, those that say more first.
func failureKinds() []failureKind {
	return []failureKind{
		{"second_digest", trust.ErrSecondDigest, "build the update again under a new version"},
		{"stranded", trust.ErrStranded, "add the new key first, publish with it, then remove the old one"},
		{"rollback", trust.ErrRollback, "sign again on what is published now"},
		{"conflict", trust.ErrConflict, "look at what is published now, and sign again on that"},
		{"threshold", trust.ErrThreshold, "sign with a key that the root names for this role"},
		{"key", trust.ErrKey, "sign with a key that the root names for this role"},
		{"expired", trust.ErrExpired, "sign it again"},
		{"origin_clock", ErrAhead, hintAhead},
		{"origin_ahead", ErrJump, hintJump},
		{"signer_clock", trust.ErrClock, "set the clocks of signer and origin, and sign again"},
		{"too_many", trust.ErrTooMany, "retire old updates with --keep"},
		{"malformed", trust.ErrMalformed, ""},
		{"not_found", ErrNotFound, "send the list again"},
		{"no_blocks", ErrBlocks, "send the block list first"},
		{"gap", ErrGap, "ask how much of the block has arrived, and go on from there"},
		{"incomplete", store.ErrIncomplete, "send the list again to see what is missing"},
		{"no_space", disk.ErrNoSpace, "make room on the disk of the origin, then go on"},
		{"corrupt", store.ErrCorrupt, "send it again"},
		{"no_key", ErrNoKey, "give the origin the online key that the root names"},
	}
}

// FailureOf returns the failure that tells a signer of err. What is none of the errors that this package
// documents becomes "internal error" without a word about what it was.
func FailureOf(err error) Failure {
	for _, k := range failureKinds() {
		if !errors.Is(err, k.err) {
			continue
		}
		f := Failure{Message: err.Error(), Code: k.code, Hint: k.hint}
		if conflict := (*ConflictError)(nil); errors.As(err, &conflict) {
			f.Current, f.Staged = &conflict.Current, conflict.Staged
		}
		return f
	}
	return Failure{Message: "internal error", Code: codeInternal}
}

// Err returns the error at the signer: errors.Is finds in it what it found at the origin.
func (f Failure) Err() error {
	err := fmt.Errorf("%s", f.Message)
	for _, k := range failureKinds() {
		if k.code == f.Code {
			err = remote{f.Message, k.err}
		}
	}
	if f.Current != nil {
		return &ConflictError{*f.Current, f.Staged, err}
	}
	return err
}

// remote is an error that happened elsewhere: the message says it all.
type remote struct {
	message string
	kind    error
}

// Error returns the message of the origin.
func (r remote) Error() string { return r.message }

// Unwrap returns the kind of the error.
func (r remote) Unwrap() error { return r.kind }
