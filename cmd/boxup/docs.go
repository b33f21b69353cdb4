//go:build docs

package main

import (
	"os"

	"github.com/openpowerquality/box-update-server/cmd/internal/docs"
)

// main writes man pages and completions instead of running the command.
func main() {
	p := system()
	os.Exit(docs.Run(newRoot(&p), p.streams))
}
