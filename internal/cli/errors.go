package cli

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/status"
)

// Exit returns an error that ends the program with an exit code and without a message, because the result that was
// printed says everything.
func Exit(code int) error { return status.WithCode(errExit, code) }

// errExit is the error in what Exit returns.
var errExit = errors.New("exit")

// Printable returns s for a terminal, on one line. It escapes, as in a Go string, everything that is not a printable
// character or a space: control characters, line breaks, marks that change the direction of text, and bytes that
// are not UTF-8. It masks users and passwords of URLs.
func Printable(s string) string {
	s = explain.MaskURLs(s)
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
