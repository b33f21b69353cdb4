package status

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"
)

// TestKinds holds what every kind has to have, and that it is found through wrapping.
func TestKinds(t *testing.T) {
	texts := map[string]Kind{}
	for k := Kind(1); k <= lastKind; k++ {
		text := k.Error()
		if text == "" || texts[text] != 0 {
			t.Errorf("kind %d has the text %q, which is none or that of kind %d", k, text, texts[text])
		}
		texts[text] = k
		wrapped := fmt.Errorf("of something: %w", errors.Join(io.EOF, k))
		if !errors.Is(wrapped, k) || !k.In(wrapped) || !errors.Is(fmt.Errorf("%w", k.With("otherwise")), k) {
			t.Errorf("%v is not found", k)
		}
		if w := table[k].wire; w.Code != "" {
			if got, ok := WireOf(wrapped); !ok || got != w || w.Status < 400 {
				t.Errorf("%v travels as %+v, want %+v", k, got, w)
			}
			if first := ByCode(w.Code); table[first].wire.Code != w.Code || first > k {
				t.Errorf("the code %q is that of %v", w.Code, first)
			}
		}
	}
}

// TestGravest: of several failures the gravest decides, and the disk is blamed on nobody else.
func TestGravest(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/secret", Err: syscall.ENOSPC}
	broken := &fs.PathError{Op: "read", Path: "/secret", Err: syscall.EIO}
	for _, c := range []struct {
		name   string
		err    error
		reason Reason
		exit   int
		code   string
	}{
		{"nil", nil, "", 0, "internal"},
		{"unknown", io.EOF, ReasonOther, 0, "internal"},
		{"full", full, ReasonNoSpace, ExitNoSpace, "internal"},
		{"full, as told", fmt.Errorf("%w: %w", NoSpace, full), ReasonNoSpace, ExitNoSpace, "no_space"},
		{"broken", errors.Join(Refused, broken), ReasonOther, ExitFailed, "internal"},
		{"one is down, one lies", errors.Join(Unavailable, Refused), ReasonRefused, ExitRefused, "internal"},
		{"one is down, one is behind", errors.Join(Unavailable, Rollback), ReasonBehind, ExitRefused, "rollback"},
		{"forged by none", Mismatch, ReasonRefused, ExitRefused, "internal"},
		{"missing", NoMetadata, ReasonMissing, ExitUnavailable, "internal"},
		{"ahead", ClockAhead, ReasonOther, 0, "signer_clock"},
		{"an export on a bad medium", errors.Join(broken, BrokenExport), ReasonOther, ExitRefused, "internal"},
		{"an export on a bad network", errors.Join(Unavailable, BrokenExport), ReasonUnavailable, ExitRefused, "internal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := WireOf(c.err)
			if r, e := ReasonOf(c.err), ExitOf(c.err); r != c.reason || e != c.exit || w.Code != c.code {
				t.Errorf("got %q, %d, %q; want %q, %d, %q", r, e, w.Code, c.reason, c.exit, c.code)
			}
		})
	}
	if !errors.Is(ClockAhead, Clock) || errors.Is(Clock, ClockAhead) {
		t.Error("a clock that is ahead is a Clock, and not the other way round")
	}
	if !Hostile(Fork) || Hostile(Rollback) || Hostile(nil) {
		t.Error("an upstream that is behind is not hostile, and one with two files for a version is")
	}
}

func TestRefusals(t *testing.T) {
	for kind, want := range map[Kind]Refusal{
		Malformed: RefusedMalformed, Threshold: RefusedThreshold, Key: RefusedThreshold, Expired: RefusedExpired,
		Rollback: RefusedRollback, Fork: RefusedFork, Mismatch: RefusedMismatch,
		SecondDigest: RefusedSecondDigest, Corrupt: RefusedCorrupt,
		Conflict: "", NoSpace: "",
	} {
		if got := RefusalOf(fmt.Errorf("of something: %w", kind)); got != want {
			t.Errorf("%v: got %q", kind, got)
		}
	}
	if RefusalOf(nil) != "" || RefusalOf(io.EOF) != "" {
		t.Error("nothing was refused")
	}
}

// TestTold: hints and codes go with an error, which stays what it was.
func TestTold(t *testing.T) {
	err := fmt.Errorf("build: %w", WithHint(WithCode(WithHint(io.EOF, "inner"), 3), "outer"))
	if hints := Hints(err); len(hints) != 2 || hints[0] != "outer" || hints[1] != "inner" {
		t.Errorf("got hints %q", hints)
	}
	if ExitCode(err) != 3 || ExitCode(WithCode(err, 4)) != 4 || ExitCode(io.EOF) != ExitFailed || ExitCode(Coded(NoSpace)) != ExitNoSpace || ExitCode(Coded(io.EOF)) != ExitFailed {
		t.Error("the outermost code counts")
	}
	if !errors.Is(err, io.EOF) || err.Error() != "build: EOF" {
		t.Errorf("%v is no longer io.EOF", err)
	}
	if len(Hints(WithDefaultHint(err, "default"))) != 2 || len(Hints(WithDefaultHint(io.EOF, "default"))) != 1 {
		t.Error("a default hint is for errors without one")
	}
	if err := errors.Join(WithHint(nil, "hint"), WithCode(nil, 3), WithDefaultHint(nil, "hint"), Coded(nil)); err != nil {
		t.Errorf("nil became %v", err)
	}
}
