// Package explain says in plain words what the errors of Go's library mean: those of JSON, of the network, of TLS. Who reads
// them operates boxes, and does not know names of Go.
package explain

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// An explained error has other words than the error in it.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

func said(err error, text string) error { return &explained{text, err} }

// Cut says of an error of reading that something ended too early, and what. Other errors are returned as they are.
func Cut(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return said(err, strings.NewReplacer("unexpected EOF", what+" ends too early", "EOF", what+" ends too early").Replace(err.Error()))
	}
	return err
}

// At returns err with the path that it is about, unless its message names that.
func At(path string, err error) error {
	if err == nil || strings.Contains(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Clip returns a text of at most so many characters, with an ellipsis in place of the rest.
func Clip(text string, most int) string {
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i] + "…"
		}
	}
	return text
}
