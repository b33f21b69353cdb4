//go:build docs

package main

import (
	"os"

	"github.com/openpowerquality/box-update-server/cmd/internal/docs"
	"github.com/openpowerquality/box-update-server/internal/box"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

// meanings describes the settings of a box. A box has no room for these texts.
var meanings = map[string]string{
	"mirrors":           "URLs of mirrors and of the origin, which are asked in a random order that the box keeps. Required. A URL may have a password, which is never shown",
	"redirects":         "Further hosts to which a mirror may redirect",
	"root":              "File of the root that the box trusts. Required",
	"state":             "Directory of what the box knows. Each product needs its own, and its path must have no colon",
	"ca_file":           "File of the certificate authorities to trust at mirrors, as PEM. Without it, those of the system are trusted",
	"product":           "The product whose updates the box installs",
	"hardware":          "The hardware of the box, for updates that are for some hardware only",
	"machine_id":        "Decides when a rollout reaches the box; boxes that are made from one image must not share it. Without it, /etc/machine-id is taken, or else one is made once",
	"accept_stale":      "How long after its expiry a timestamp is still accepted",
	"window":            "Local times at which updates are installed. They are downloaded at any time. Without it, updates are installed at any time",
	"rate":              "Limit of downloads, in bytes per second. Without it, there is none",
	"max_bytes_per_day": "Limit for a metered link, per day of UTC; a longer download continues on the next days. Without it, there is none",
	"patience":          "How long a command goes on while no mirror sends anything",
	"reboot":            "Whether the box reboots after an update; asked means if the script asks. Without it, always for archives that boxsign build did not make, else asked",
	"timeout":           "Time limit for the install script and for each hook. Without it, 30m",
	"max_failures":      "The number of failures after which a version is set aside. Without it, 3",
	"pre_install":       "Directory of hooks that run before an installation, and can refuse it",
	"post_install":      "Directory of hooks that run after an installation, and can refuse its result",
}

// main writes man pages and completions instead of running the command.
func main() {
	p := system()
	var c settings.Box
	all := c.Settings()
	settings.Reset(all)
	os.Exit(docs.Run(newRoot(&p), docs.Manual{
		Environment: []docs.Entry{
			{Name: "HTTP_PROXY, HTTPS_PROXY, NO_PROXY", Text: "The proxy for requests to mirrors."},
			{Name: "GOMEMLIMIT", Text: "The soft memory limit of the process. Without it, 24MiB."},
			{Name: "NO_COLOR", Text: "If it is not empty, messages have no colour."},
		},
		Files: []docs.Entry{
			{Name: box.DefaultConfig, Text: "The configuration, which boxup init writes."},
			{Name: "/etc/boxup/pre-install.d, /etc/boxup/post-install.d", Text: "Hooks: programs that run before and after an installation."},
			{Name: box.DefaultState, Text: "What the box knows: verified metadata, the update that is fetched, and what is installed."},
			{Name: machineIDFile, Text: "Decides when a rollout reaches the box."},
		},
		Configuration: &docs.Configuration{
			Name:  "boxup.json",
			Short: "configuration of boxup",
			Text: "The configuration of a box is one JSON object in " + box.DefaultConfig + ", or in the file that --config names. boxup init writes it. " +
				"Comments, // and /* */, and a comma after the last element are accepted. Unknown keys are refused.\n\n" +
				"Relative paths are paths from the directory of the file. A number of bytes is a number, or a text with a suffix: " +
				"k, M, G or T for powers of 1000, Ki, Mi, Gi or Ti for powers of 1024.",
			Groups:  []settings.Group{{Title: "Settings", Settings: all}},
			Meaning: meanings,
			Example: `{
  "mirrors": ["https://mirror.example.net/updates", "https://updates.example.org"],
  "root": "root.json",
  "window": "02:00-04:00", // local time
  "rate": "500k"
}
`,
		},
	}, p.streams))
}
