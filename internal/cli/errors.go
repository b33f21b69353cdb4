package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Exit returns an error that ends the program with an exit code and without a message: for a result that
// the exit code tells too.
func Exit(code int) error { return WithCode(errExit, code) }

// errExit is the error in what Exit returns.
var errExit = errors.New("exit")

// cliError adds what a command line needs to an error. Its message is that of the error in it.
type cliError struct {
	error
	hint string // "" for none
	code int    // 0 for none
}

func (e *cliError) Unwrap() error { return e.error }

// WithHint returns err with a hint: what to do about it, without a capital or full stop. It returns
// nil for nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &cliError{error: err, hint: hint}
}

// WithDefaultHint is WithHint where nothing better is known: it leaves an error that has a hint as it is.
func WithDefaultHint(err error, hint string) error {
	if len(hints(err)) > 0 {
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
	return &cliError{error: err, code: code}
}

// Usagef returns an error of usage, made as by fmt.Errorf: the program ends with exit code 2.
func Usagef(format string, args ...any) error {
	return WithCode(fmt.Errorf(format, args...), CodeUsage)
}

// Printable returns s with everything escaped, as in a Go string, that is not a printable character
// or a space: control characters, line breaks, marks that change the direction of text, and bytes
// that are not UTF-8. A terminal shows it on one line and does nothing else. Users and passwords of URLs are
// masked.
func Printable(s string) string {
	s = MaskURLs(s)
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteString(s[:size])
		} else {
			q := strconv.QuoteToASCII(s[:size])
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[size:]
	}
	return b.String()
}
