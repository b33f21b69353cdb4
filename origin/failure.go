package origin

import (
	"errors"

	"github.com/openpowerquality/box-update-server/status"
)

// ErrAhead says that the clock of this origin is behind what was signed before, so that it signs only roots, and with a
// new key.
var ErrAhead error = status.OriginBehind

// ErrJump says that the clock of this origin is too far ahead of all that was signed, so that it signs nothing.
var ErrJump error = status.OriginAhead

// Failure is an error as it travels to a signer on another computer. docs/PUBLISH.md lists the codes.
type Failure struct {
	Message string `json:"error"`
	Code    string `json:"code"`
	Hint    string `json:"hint,omitempty"` // what to do

	// Only of a conflict.
	Current *status.Versions `json:"current,omitempty"`
	Staged  int64            `json:"staged,omitempty"`
}

// FailureOf returns the failure that a signer is sent for err. Any error without a code of its own becomes just
// "internal error".
func FailureOf(err error) Failure {
	wire, ok := status.WireOf(err)
	f := Failure{Message: "internal error", Code: wire.Code, Hint: wire.Hint}
	if !ok {
		return f
	}
	f.Message = err.Error()
	if conflict := (*ConflictError)(nil); errors.As(err, &conflict) {
		f.Current, f.Staged = &conflict.Current, conflict.Staged
	}
	return f
}

// Err returns the error at the signer: errors.Is finds in it what it found at the origin.
func (f Failure) Err() error {
	err := error(remote{f.Message, status.ByCode(f.Code)})
	if f.Current != nil {
		return &ConflictError{*f.Current, f.Staged, err}
	}
	return err
}

// remote is an error of another computer.
type remote struct {
	message string
	kind    status.Kind // 0: unknown here
}

// Error returns the message of the origin.
func (r remote) Error() string { return r.message }

// Unwrap returns the kind of the error.
func (r remote) Unwrap() error {
	if r.kind == 0 {
		return nil
	}
	return r.kind
}
