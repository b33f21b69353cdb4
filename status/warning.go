package status

import (
	"slices"
	"strings"
	"unicode"
)

// A Warning is a problem that a person should look at. The status document, the probes, the status page, the metrics
// and the commands all give the same warnings; docs/SERVING.md says how. Each text is one line.
type Warning struct {
	Subject string `json:"subject,omitempty"` // what it is about, such as archives; "" where the text says it
	Urgent  bool   `json:"urgent"`            // something is refused or not served, or soon will be
	Text    string `json:"text"`              // what is wrong, and since or until when
	Advice  string `json:"advice,omitempty"`  // what to do

	Expiring string `json:"-"` // the role whose file expires; "": this is about something else
}

// String returns the warning as one line.
func (w Warning) String() string {
	text := w.Text
	if w.Subject != "" {
		text = w.Subject + ": " + text
	}
	if w.Advice != "" {
		text += ": " + w.Advice
	}
	return text
}

// Mark returns what stands before a warning in a list: UrgentMark, or "[!]".
func (w Warning) Mark() string {
	if w.Urgent {
		return UrgentMark
	}
	return "[!]"
}

// UrgentMark stands before an urgent warning.
const UrgentMark = "[-]"

// A Component is a part of a server, as /, the probes, the status page and the metrics report it. All of it is public.
type Component struct {
	Name string // never only digits, which OPQ Health would read as a box

	// Unready says that the server should get no requests, because boxes accept nothing that this part serves. An urgent
	// warning says why.
	Unready bool

	Warnings   []Warning
	Note       string     // its state in a few words; "": nothing to add
	Versions   Versions   // of the files in it
	Freshness  *Freshness // public; nil: it is no copy
	Components []Component
}

// OK reports whether a component and its parts are in order: they have no urgent warnings.
func (c Component) OK() bool {
	urgent := slices.ContainsFunc(c.Warnings, func(w Warning) bool { return w.Urgent })
	return !c.Unready && !urgent && AllOK(c.Components)
}

// AllOK reports whether all components are in order.
func AllOK(components []Component) bool {
	return !slices.ContainsFunc(components, func(c Component) bool { return !c.OK() })
}

// Ready reports whether a server with these components should get requests.
func Ready(components []Component) bool {
	return !slices.ContainsFunc(components, func(c Component) bool { return c.Unready || !Ready(c.Components) })
}

// Problems returns the warnings of components and of their parts, one line each: the urgent ones and the others.
func Problems(components []Component) (urgent, other []string) { return problemsOf(components, "") }

func problemsOf(components []Component, of string) (urgent, other []string) {
	for _, c := range components {
		for _, w := range c.Warnings {
			text := OneLine(of + c.Name + ": " + w.String())
			if w.Urgent {
				urgent = append(urgent, text)
			} else {
				other = append(other, text)
			}
		}
		more, rest := problemsOf(c.Components, of+c.Name+", ")
		urgent, other = append(urgent, more...), append(other, rest...)
	}
	return urgent, other
}

// OneLine returns a text, which may come from outside, as one line, so that no part of it looks like a line of our own.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
