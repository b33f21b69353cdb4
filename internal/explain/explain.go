// Package explain describes errors of Go's library in plain words: those of JSON, of the network, of TLS. Their readers
// operate boxes and don't know Go.
package explain

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// reworded is an error in other words.
type reworded struct {
	text string
	err  error
}

func (e *reworded) Error() string { return e.text }
func (e *reworded) Unwrap() error { return e.err }

// Reword returns err, for errors.Is and errors.As, with another text.
func Reword(err error, text string) error { return &reworded{text, err} }

// Cut rewords an error of reading that says that the input ended too early. what is the input. Other errors are returned
// as they are.
func Cut(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Reword(err, strings.NewReplacer("unexpected EOF", what+" ends too early", "EOF", what+" ends too early").Replace(err.Error()))
	}
	return err
}

// At returns err with the path in front, unless its message has the path already.
func At(path string, err error) error {
	if err == nil || strings.Contains(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Clip returns the first most characters of a text, with an ellipsis if there are more.
func Clip(text string, most int) string {
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i] + "…"
		}
	}
	return text
}
