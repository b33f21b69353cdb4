package signer

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
)

func TestHintOfAFullDisk(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, disk.ErrNoSpace} {
		var said bytes.Buffer
		cmd := &cobra.Command{Use: "boxsign", RunE: func(*cobra.Command, []string) error { return withHint(fmt.Errorf("publish: %w", full)) }}
		cli.Run(t.Context(), "boxsign", cmd, nil, cli.Streams{Err: &said, Getenv: func(string) string { return "" }})
		if !strings.Contains(said.String(), "hint: nothing was published; free some space") {
			t.Errorf("%v: it says %q", full, said.String())
		}
	}
}
