//go:build docs

package main

import (
	"os"

	"github.com/openpowerquality/box-update-server/cmd/internal/docs"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

// main writes man pages and completions instead of running the command.
func main() {
	s := cli.System()
	root := newRoot(s)
	root.Long += "\n\nExit codes:\n  0  stopped by a signal\n  1  failed\n  2  usage"
	os.Exit(docs.Run(root, docs.Manual{
		Environment: []docs.Entry{
			{Name: server.SettingsVariable, Text: "The settings, as one JSON object, if --config is not given."},
			{Name: "HTTP_PROXY, HTTPS_PROXY, NO_PROXY", Text: "The proxy for requests to upstreams and to certificate authorities."},
			{Name: "NO_COLOR", Text: "If it is not empty, messages have no colour."},
		},
		Files: []docs.Entry{
			{Name: "/etc/box-update-server/config.json", Text: "The settings of the service box-update-server."},
			{Name: "/etc/box-update-server/mirror.json", Text: "The settings of the service box-update-mirror."},
			{Name: "/etc/box-update-server/keys", Text: "The online key of an origin, which the service reads as a credential."},
			{Name: "/var/lib/box-update-server, /var/lib/box-update-mirror", Text: "The data directories of the two services."},
			{Name: "DATA_DIR/admin.sock", Text: "The socket at which commands ask the server that holds the directory."},
		},
		Configuration: &docs.Configuration{
			Name:  "box-update-server.json",
			Short: "settings of box-update-server",
			Text: "The settings are one JSON object, in the file that --config names, or in the variable " + server.SettingsVariable +
				". Comments, // and /* */, and a comma after the last element are accepted. Flags override settings; a flag has the " +
				"name of its setting, with - for _. Unknown keys cause a warning.\n\n" +
				"Relative paths are paths from the working directory. A number of bytes is a number, or a text with a suffix: k, M, G or T for powers of 1000, Ki, Mi, Gi or Ti for powers of 1024.\n\n" +
				"box-update-server config check prints the settings in force. SIGHUP reads them again; a new address or data_dir needs a restart.",
			Groups:  settings.NewServer().Groups(),
			Meaning: map[string]string{"port": "Listen on this port of all interfaces; listen overrides it"},
			Example: `{
  // archives as they lie in a directory
  "updates_dir": "/srv/updates",
  "listen": "127.0.0.1:8151",
  "max_bandwidth": "10M", // bytes per second
}
`,
		},
	}, s))
}
