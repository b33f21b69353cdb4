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
	os.Exit(docs.Run(newRoot(s, 0), docs.Manual{
		Environment: []docs.Entry{
			{Name: keysVariable, Text: "The directory of keys, if --keys is not given."},
			{Name: repoVariable, Text: "The directory or URL of the repository, if --repo is not given."},
			{Name: passphraseVariable, Text: "The passphrase of key files, if --passphrase-file is not given. Without it, boxsign asks on the terminal."},
			{Name: rootVariable + ", " + releaseVariable, Text: "The passphrases of root keys and of release keys, if they differ from that of the others."},
			{Name: backupVariable, Text: "The passphrase of backups, in the same way."},
			{Name: agentVariable, Text: "The socket of the ssh-agent."},
			{Name: epochVariable, Text: "The time of all files in an update that is built, in Unix seconds, and its version if none is given."},
			{Name: "HTTP_PROXY, HTTPS_PROXY, NO_PROXY", Text: "The proxy for requests."},
			{Name: "NO_COLOR", Text: "If it is not empty, messages have no colour."},
		},
		Files: []docs.Entry{
			{Name: "~/.boxsign", Text: "The directory of keys: root.pem, release.pem and online.pem, the public keys beside them, and what the keys trust."},
			{Name: "REPO/metadata/1.root.json", Text: "The root that boxes and mirrors are given by hand."},
			{Name: "ARCHIVE.sha256, ARCHIVE.sig", Text: "The checksum line of an archive, and the detached signature of that line."},
		},
	}, s))
}
