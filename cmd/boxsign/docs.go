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
	root := newRoot(s, 0)
	root.Long += "\n\nEnvironment: " + keysVariable + " and " + repoVariable + " stand for --keys and --repo. " + passphraseVariable +
		" is the passphrase of key files, and " + backupVariable + " that of backups; without them boxsign asks on the terminal. " +
		agentVariable + " is the socket of an ssh-agent."
	os.Exit(docs.Run(root, s))
}
