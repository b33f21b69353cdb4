package status

import (
	"errors"
	"fmt"
	"slices"
)

// told adds to an error what is told beside its message, which stays that of the error in it.
type told struct {
	error
	hint string // "" for none
	code int    // 0 for none
}

func (t *told) Unwrap() error { return t.error }

// WithHint returns err with a hint: what to do about it, without a capital or full stop. It returns
// nil for nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &told{error: err, hint: hint}
}

// WithDefaultHint is WithHint where nothing better is known: it leaves an error that has a hint as it is.
func WithDefaultHint(err error, hint string) error {
	if len(Hints(err)) > 0 {
		return err
	}
	return WithHint(err, hint)
}

// WithCode returns err with the exit code that it ends the program with; of several codes the
// outermost counts. It returns nil for nil.
func WithCode(err error, code int) error {
	if err == nil {
		return nil
	}
	return &told{error: err, code: code}
}

// Usagef returns an error of usage, made as by fmt.Errorf: the program ends with ExitUsage.
func Usagef(format string, args ...any) error {
	return WithCode(fmt.Errorf(format, args...), ExitUsage)
}

// Coded returns err with the exit code of its kind.
func Coded(err error) error { return WithCode(err, ExitOf(err)) }

// Hints returns the hints of err, the outermost first.
func Hints(err error) []string {
	var all []string
	for t := (*told)(nil); errors.As(err, &t); err = t.error {
		if t.hint != "" {
			all = append(all, t.hint)
		}
	}
	return slices.Compact(all)
}

// ExitCode returns the code that err ends a program with, which WithCode gave it: ExitFailed where none did.
func ExitCode(err error) int {
	for t := (*told)(nil); errors.As(err, &t); err = t.error {
		if t.code != 0 {
			return t.code
		}
	}
	return ExitFailed
}
