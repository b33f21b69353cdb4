package origin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// TestFailuresTravel sends every error over the wire.
func TestFailuresTravel(t *testing.T) {
	codes := map[string]bool{}
	for _, want := range []error{
		trust.ErrSecondDigest, trust.ErrStranded, trust.ErrRollback, trust.ErrConflict, trust.ErrThreshold, trust.ErrKey, trust.ErrExpired,
		trust.ErrClock, trust.ErrTooMany, trust.ErrMalformed, origin.ErrNotFound, origin.ErrBlocks, origin.ErrNoKey, origin.ErrAhead,
		store.ErrIncomplete, disk.ErrNoSpace, store.ErrCorrupt,
	} {
		sent := fmt.Errorf("propose: %w: why", want)
		f := travel(t, origin.FailureOf(sent))
		if codes[f.Code] || f.Code == "" {
			t.Errorf("%v: code %q is not its own", want, f.Code)
		}
		codes[f.Code] = true
		if got := f.Err(); !errors.Is(got, want) || got.Error() != sent.Error() {
			t.Errorf("expected %v, got %v", sent, got)
		}
	}
	sent := &origin.ConflictError{Current: status.Versions{Root: 1, Targets: 2, Snapshot: 3, Timestamp: 4}, Staged: 3, Err: trust.ErrRollback}
	got := (*origin.ConflictError)(nil)
	if err := travel(t, origin.FailureOf(fmt.Errorf("wrapped: %w", sent))).Err(); !errors.As(err, &got) || got.Current != sent.Current || got.Staged != 3 || !errors.Is(err, trust.ErrRollback) {
		t.Errorf("expected %+v, got %+v", sent, got)
	}
}

func travel(t *testing.T, f origin.Failure) (out origin.Failure) {
	t.Helper()
	b, err := json.Marshal(f)
	must(t, err)
	must(t, json.Unmarshal(b, &out))
	return out
}

func TestFailureHidesTheRest(t *testing.T) {
	f := origin.FailureOf(errors.New("/secret/path: input/output error"))
	if f != (origin.Failure{Message: "internal error", Code: "internal"}) || f.Err() == nil {
		t.Fatalf("expected nothing but an internal error, got %+v", f)
	}
	if err := (origin.Failure{Message: "new", Code: "of the future"}).Err(); err == nil || err.Error() != "new" {
		t.Fatalf("expected the message, got %v", err)
	}
}
