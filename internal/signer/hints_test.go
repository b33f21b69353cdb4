package signer

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
)

func TestHintOfAFullDisk(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, disk.ErrNoSpace} {
		var said bytes.Buffer
		cli.Streams{Err: &said, Getenv: func(string) string { return "" }}.Report("boxsign", withHint(fmt.Errorf("publish: %w", full)))
		if !strings.Contains(said.String(), "hint: nothing was published; free some space") {
			t.Errorf("%v: it says %q", full, said.String())
		}
	}
}
