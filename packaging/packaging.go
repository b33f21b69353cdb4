// Package packaging holds the files that are put on a machine beside a program: systemd units, and the
// script of the update that moves a box over to boxup. They lie in the folders systemd and bootstrap.
package packaging

import (
	_ "embed"
	"strings"
)

var (
	//go:embed systemd/boxup.service
	service string
	//go:embed systemd/boxup.timer
	timer string
	//go:embed bootstrap/install_update.sh
	bootstrap string
)

// programPath is where the units expect the program.
const programPath = "/usr/bin/boxup"

// BoxupService returns the systemd service that runs boxup, which lies at the absolute path program.
func BoxupService(program string) []byte {
	return []byte(strings.ReplaceAll(service, programPath, program))
}

// BoxupTimer returns the systemd timer that starts the service.
func BoxupTimer() []byte { return []byte(timer) }

// BootstrapScript returns the install_update.sh of the update that moves a box over to boxup. Beside it
// lie boxup, root.json, config.json, boxup.service and boxup.timer; boxup gets to BootstrapProgram.
func BootstrapScript() []byte { return []byte(bootstrap) }

// BootstrapProgram is where the bootstrap update puts boxup: a place that is the operator's, so that a
// package of the same program never meets it.
const BootstrapProgram = "/usr/local/bin/boxup"
