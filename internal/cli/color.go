package cli

import (
	"io"
	"strings"
)

const (
	red        = "\x1b[31m"
	green      = "\x1b[32m"
	yellow     = "\x1b[33m"
	boldRed    = "\x1b[1;31m"
	boldYellow = "\x1b[1;33m"
	plain      = "\x1b[0m"
)

// factColors has the colours of lines "name: value", by the last word of the name.
var factColors = map[string]string{
	"added":     green,
	"removed":   red,
	"withdrawn": red,
	"changed":   yellow,
	"warning":   boldYellow,
}

// Colored reports whether what is written to stream may be coloured: it is a terminal, and neither NO_COLOR nor a dumb
// terminal forbids it. See https://no-color.org.
func (s Streams) Colored(stream io.Writer) bool {
	return s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb" && isTerminal(stream)
}

// PaintFact returns a line "name: value" in the colour of its name. A line whose name has none stays as it is.
func PaintFact(line string) string {
	name, _, _ := strings.Cut(line, ":")
	if color := factColors[name[strings.LastIndexByte(name, ' ')+1:]]; color != "" {
		return color + line + plain
	}
	return line
}
