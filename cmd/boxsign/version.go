package main

import (
	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
)

// version is set by the linker.
var version = "unknown"

func newRoot(s cli.Streams) *cobra.Command { return signer.NewRoot(s, version) }
