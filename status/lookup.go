package status

import (
	"errors"
	"slices"
	"strings"
	"syscall"
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

// In reports whether err is of kind k: it wraps k, or an error of the system that is of this kind.
func (k Kind) In(err error) bool {
	if errors.Is(err, k) {
		return true
	}
	return isAny(err, table[k].system)
}

// Unreadable reports whether err is the error of the system for a disk that lost data: a sector can't be read, or the file
// system finds its structure or a checksum damaged.
func Unreadable(err error) bool { return isAny(err, unreadable) }

// ReadOnly reports whether err is the error of the system for a file system that is read-only.
func ReadOnly(err error) bool { return errors.Is(err, readOnly) }

func isAny(err error, all []syscall.Errno) bool {
	return slices.ContainsFunc(all, func(system syscall.Errno) bool { return errors.Is(err, system) })
}

// gravest returns the facts of the gravest kind of err for which has is true, the zero value if there is none.
func gravest(err error, has func(facts) bool) facts {
	if err == nil {
		return facts{}
	}
	for k := Kind(1); k <= lastKind; k++ {
		if has(table[k]) && k.In(err) {
			return table[k]
		}
	}
	return facts{}
}

// ReasonOf returns the reason of err, ReasonOther if its kind is unknown and "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if r := gravest(err, func(f facts) bool { return f.reason != "" }).reason; r != "" {
		return r
	}
	return ReasonOther
}

// RefusalOf returns why something did not verify, "" if err is about something else.
func RefusalOf(err error) Refusal {
	return gravest(err, func(f facts) bool { return f.refusal != "" }).refusal
}

// Hostile reports whether an upstream that is only behind, or cut, can't be the cause of err.
func Hostile(err error) bool {
	return gravest(err, func(f facts) bool { return f.hostile }).hostile
}

// ExitOf returns the exit code of the kind of err, 0 if it has none. An error of the local disk counts before all others.
func ExitOf(err error) int {
	return gravest(err, func(f facts) bool { return f.exit != 0 }).exit
}

// SignerHint returns what to do about err at the signer's command line, "" if nothing is known.
func SignerHint(err error) string {
	return gravest(err, func(f facts) bool { return f.signer != "" }).signer
}

// BoxHint returns what to do about err on a box, "" if nothing is known. log is the file with the output of an
// installation.
func BoxHint(err error, log string) string {
	return strings.ReplaceAll(gravest(err, func(f facts) bool { return f.box != "" }).box, logFile, log)
}

// WireOf returns the report of err to a signer. If ok is false, err is an internal error, and its text must not be sent.
// Errors of the system are always internal, since they name files.
func WireOf(err error) (w Wire, ok bool) {
	for k := Kind(1); k <= lastKind; k++ {
		if table[k].wire.Code != "" && errors.Is(err, k) {
			return table[k].wire, true
		}
	}
	return internal, false
}

// ByCode returns the kind with a code, 0 if there is none. Of two kinds with one code it is the first, which says more.
func ByCode(code string) Kind {
	for k := Kind(1); k <= lastKind; k++ {
		if code != "" && table[k].wire.Code == code {
			return k
		}
	}
	return 0
}
