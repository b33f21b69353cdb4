package status

import (
	"errors"
	"strings"
)

// Error returns the text of the kind.
func (k Kind) Error() string { return table[k].text }

// Is reports whether target is the wider kind of k.
func (k Kind) Is(target error) bool { return table[k].is != 0 && target == table[k].is }

// With returns an error of kind k with another text, for a package that means something narrower by it.
func (k Kind) With(text string) error { return &variant{text, k} }

// variant is an error of a kind with a text of its own.
type variant struct {
	text string
	kind Kind
}

func (v *variant) Error() string { return v.text }
func (v *variant) Unwrap() error { return v.kind }

// In reports whether err is of kind k: it holds k, or what the system says of it.
func (k Kind) In(err error) bool {
	if errors.Is(err, k) {
		return true
	}
	for _, system := range table[k].system {
		if errors.Is(err, system) {
			return true
		}
	}
	return false
}

// gravest returns what is known of the gravest kind of err from which something follows, the zero value where err is of
// no such kind.
func gravest(err error, follows func(facts) bool) facts {
	if err == nil {
		return facts{}
	}
	for k := Kind(1); k <= lastKind; k++ {
		if follows(table[k]) && k.In(err) {
			return table[k]
		}
	}
	return facts{}
}

// ReasonOf returns why err came, ReasonOther where its kind is unknown and "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if r := gravest(err, func(f facts) bool { return f.reason != "" }).reason; r != "" {
		return r
	}
	return ReasonOther
}

// RefusalOf returns why something did not verify, "" where err speaks of something else.
func RefusalOf(err error) Refusal {
	return gravest(err, func(f facts) bool { return f.refusal != "" }).refusal
}

// Hostile reports whether metadata can't have come from an upstream that is only behind, or cut.
func Hostile(err error) bool {
	return gravest(err, func(f facts) bool { return f.hostile }).hostile
}

// ExitOf returns the exit code of err, 0 where its kind has none. An error of the local disk counts before all others, since
// nobody else is to blame for it.
func ExitOf(err error) int {
	return gravest(err, func(f facts) bool { return f.exit != 0 }).exit
}

// SignerHint returns what can be done about err at the signer's command line, "" where nothing is known.
func SignerHint(err error) string {
	return gravest(err, func(f facts) bool { return f.signer != "" }).signer
}

// BoxHint returns what can be done about err on a box that keeps what installing wrote in the file log, "" where nothing
// is known.
func BoxHint(err error, log string) string {
	return strings.ReplaceAll(gravest(err, func(f facts) bool { return f.box != "" }).box, logFile, log)
}

// WireOf returns how err is told to a signer. ok is false where err is none that is told: then it is an internal
// error, and its text must not be sent. What the system says is never told, since it names files.
func WireOf(err error) (w Wire, ok bool) {
	for k := Kind(1); k <= lastKind; k++ {
		if table[k].wire.Code != "" && errors.Is(err, k) {
			return table[k].wire, true
		}
	}
	return internal, false
}

// ByCode returns the kind that travels under a code, 0 where there is none. Of two kinds under one code it is the first, which
// says more.
func ByCode(code string) Kind {
	for k := Kind(1); k <= lastKind; k++ {
		if code != "" && table[k].wire.Code == code {
			return k
		}
	}
	return 0
}
