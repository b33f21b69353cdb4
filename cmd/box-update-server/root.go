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
		Use:   "box-update-server [COMMAND]",
		Short: "Serve software updates to boxes, by name and by digest",
		Long: "Serve software updates to boxes, by name and by digest. Without a command, it serves.\n\n" +
			"Settings come as one JSON object from --config FILE, else from the environment variable " + server.SettingsVariable +
			". Flags override them: box-update-server serve --help lists all, and every command accepts all.",
		Example: "  box-update-server serve --updates-dir /srv/updates --listen :8151\n" +
			"  box-update-server --config /etc/box-update-server/config.json\n" +
			"  " + server.SettingsVariable + "='{\"port\": 8151, \"data_dir\": \"R\"}' \\\n    box-update-server",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.Serve(cmd.Context()) },
	}
	command.ShowFlags(root, "config")
	addSettings(root, p)
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		p.Flags, p.OtherFlags = given(cmd.Flags()), cmd.Flags().NFlag() > 0
	}
	command.Add(root, "Serve", serveCommand(root.RunE), mirrorCommand(p))
	command.Add(root, "Look after a server", configCommand(p), doctorCommand(p), healthCommand(p), statusCommand(p))
	command.Add(root, "Look after its data", fsckCommand(p), gcCommand(p), exportCommand(p), importCommand(p))
	command.AddQuiet(root, "serve", "check")
	command.AddVersion(root, streams, version, p.Built)
	return root
}

// addSettings gives root the flags of all settings, which all commands accept.
func addSettings(root *cobra.Command, p *server.Program) {
	flags := root.PersistentFlags()
	flags.StringVar(&p.Config, "config", "", "Read the settings from this JSON `FILE`")
	for _, group := range settings.NewServer().Groups() {
		for _, s := range group.Settings {
			if s.Help == "" {
				continue
			}
			flags.String(s.Flag(), "", s.Help)
			f := flags.Lookup(s.Flag())
			f.Hidden, f.DefValue = s.Retired(), s.Default()
			if s.IsTruth {
				f.NoOptDefVal = "true"
			}
			command.GroupFlag(root, f, group.Title)
		}
	}
}

func serveCommand(serve func(*cobra.Command, []string) error) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Serve updates, as the program does without a command",
		Long: "Serve updates. SIGTERM stops the server after running downloads end, or after --drain; SIGHUP reads the settings again. " +
			"Each flag is the setting of the same name, with - for _; a list has one element. " +
			"A number of bytes may end with k, M or G, or with Ki, Mi or Gi for powers of 1024.\n\n" +
			"Exit codes:\n  0  stopped by a signal\n  1  failed\n  2  usage",
		Example: "  box-update-server serve --updates-dir /srv/updates --listen 127.0.0.1:8151\n" +
			"  box-update-server serve --data-dir R --online-key K/online.pem --listen :8151",
		Args: cobra.NoArgs,
		RunE: serve,
	}
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
	config := &cobra.Command{Use: "config", Short: "Check the settings", Example: "  box-update-server config check --config mirror.json"}
	config.AddCommand(&cobra.Command{
		Use:     "check",
		Short:   "Check the settings and print those in force",
		Example: "  box-update-server config check --config /etc/box-update-server/config.json\n  box-update-server config check --updates-dir U --listen :8151",
		Args:    cobra.NoArgs,
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
	command.ShowFlags(config, "config")
	for _, cmd := range config.Commands() {
		command.ShowFlags(cmd, "config")
	}
	return config
}
