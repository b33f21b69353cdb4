package signer

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
)

func TestHintOfAFullDisk(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, disk.ErrNoSpace} {
		hints := status.Hints(withHint(fmt.Errorf("publish: %w", full)))
		if !slices.ContainsFunc(hints, func(h string) bool { return strings.HasPrefix(h, "nothing was published; free some space") }) {
			t.Errorf("%v: it hints at %q", full, hints)
		}
	}
}
