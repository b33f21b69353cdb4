//go:build docs

package main

import (
	"os"

	"github.com/openpowerquality/box-update-server/cmd/internal/docs"
	"github.com/openpowerquality/box-update-server/internal/cli"
)

// main writes man pages and completions instead of running the command.
func main() {
	s := cli.System()
	os.Exit(docs.Run(newRoot(s, 0), s))
}
