package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// annotated is an error with a hint or an exit code. Its message is that of the error in it.
type annotated struct {
	error
	hint string // "" for none
	code int    // 0 for none
}

func (a *annotated) Unwrap() error { return a.error }

// WithHint returns err with a hint what to do about it, without a capital or full stop. It returns nil for nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &annotated{error: err, hint: hint}
}

// WithDefaultHint is WithHint for an error without a hint. Others are returned as they are.
func WithDefaultHint(err error, hint string) error {
	if len(Hints(err)) > 0 {
		return err
	}
	return WithHint(err, hint)
}

// WithCode returns err with the exit code with which it ends the program. Of several codes the outermost counts. It returns
// nil for nil.
func WithCode(err error, code int) error {
	if err == nil {
		return nil
	}
	return &annotated{error: err, code: code}
}

// Usagef returns an error in usage, formatted as by fmt.Errorf: the program ends with ExitUsage.
func Usagef(format string, args ...any) error {
	return WithCode(fmt.Errorf(format, args...), ExitUsage)
}

// Coded returns err with the exit code of its kind.
func Coded(err error) error { return WithCode(err, ExitOf(err)) }

// Hints returns the hints of err, the outermost first.
func Hints(err error) []string {
	var all []string
	for a := (*annotated)(nil); errors.As(err, &a); err = a.error {
		if a.hint != "" {
			all = append(all, a.hint)
		}
	}
	return slices.Compact(all)
}

// ErrInterrupted says that a person pressed Ctrl-C. It is a context.Canceled.
var ErrInterrupted = fmt.Errorf("interrupted: %w", context.Canceled)

// ExitCode returns the exit code that WithCode gave err, or else ExitFailed.
func ExitCode(err error) int {
	for a := (*annotated)(nil); errors.As(err, &a); err = a.error {
		if a.code != 0 {
			return a.code
		}
	}
	return ExitFailed
}
