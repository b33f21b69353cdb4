package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

// The linker sets the version, and in RFC 3339 when the source was committed.
var (
	version = "unknown"
	built   = ""
)

// newRoot returns the command with all below it. Without a subcommand it serves.
func newRoot(streams cli.Streams) *cobra.Command {
	p := &server.Program{Streams: streams, Version: version, Built: command.BuildTime(built)}
	root := &cobra.Command{
		Use:   "box-update-server",
		Short: "serve software updates to boxes, by name and by SHA-256 digest",
		Long: "Serves software updates to boxes, by name and by SHA-256 digest.\n\n" +
			"Settings come as one JSON object from --config FILE, else from " + server.SettingsVariable + ".\n" +
			"Flags override them. SIGTERM stops the server after running downloads end; SIGHUP reads the settings again.",
		Example: "  " + server.SettingsVariable + `='{"port": 8151, "updates_dir": "/srv/updates"}' box-update-server` + "\n" +
			"  box-update-server serve --updates-dir /srv/updates --listen 127.0.0.1:8151\n" +
			"  box-update-server serve --data-dir R --online-key K/online.pem --listen 127.0.0.1:8151\n" +
			"  box-update-server mirror http://127.0.0.1:8151 --root 1.root.json --data-dir M --listen 127.0.0.1:8152",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.Serve(cmd.Context()) },
	}
	root.PersistentFlags().StringVar(&p.Config, "config", "", "read the settings from this JSON `file`")
	for _, s := range settings.NewServer().Settings() {
		if s.Help != "" {
			root.PersistentFlags().String(s.Flag(), "", s.Help)
			root.PersistentFlags().Lookup(s.Flag()).Hidden = s.Retired()
		}
	}
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		p.Flags, p.OtherFlags = given(cmd.Flags()), cmd.Flags().NFlag() > 0
	}
	root.AddCommand(
		mirrorCommand(p),
		statusCommand(p),
		healthCommand(p),
		doctorCommand(p),
		fsckCommand(p),
		gcCommand(p),
		exportCommand(p),
		importCommand(p),
		&cobra.Command{
			Use:   "serve",
			Short: "serve updates (what the program does without a command)",
			Args:  cobra.NoArgs,
			RunE:  root.RunE,
		},
		configCommand(p),
	)
	command.AddQuiet(root, "serve", "check")
	command.AddVersion(root, streams, version, p.Built)
	return root
}

// given returns the settings that are given as flags, by their keys.
func given(fs *pflag.FlagSet) map[string][]string {
	out := map[string][]string{}
	for _, s := range settings.NewServer().Settings() {
		if flag := fs.Lookup(s.Flag()); flag != nil && flag.Changed {
			out[s.Key] = []string{flag.Value.String()}
		}
	}
	return out
}

func configCommand(p *server.Program) *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "check the settings"}
	config.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "check the settings and print those in force",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			shown, ignored, err := p.CheckConfig()
			if err != nil {
				return err
			}
			for _, text := range ignored {
				fmt.Fprintf(p.Err, "box-update-server: %s\n", text)
			}
			return p.JSON(shown)
		},
	})
	return config
}
