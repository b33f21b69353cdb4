// Package packaging holds files that are installed with a program: systemd units, and the script of the
// update that moves a box to boxup.
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

// programPath is the path of the program in the units.
const programPath = "/usr/bin/boxup"

// BoxupService returns the systemd service that runs boxup. program is the absolute path of boxup.
func BoxupService(program string) []byte {
	return []byte(strings.ReplaceAll(service, programPath, program))
}

// BoxupTimer returns the systemd timer that starts the service.
func BoxupTimer() []byte { return []byte(timer) }

// BootstrapScript returns the install_update.sh of the update that moves a box to boxup. The update also has boxup,
// root.json, config.json, boxup.service and boxup.timer. The script installs boxup at BootstrapProgram.
func BootstrapScript() []byte { return []byte(bootstrap) }

// BootstrapProgram is the path at which the bootstrap update installs boxup. No package installs files there.
const BootstrapProgram = "/usr/local/bin/boxup"
