package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/cmd/internal/command"
	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/status"
)

func doctorCommand(p *server.Program) *cobra.Command {
	examine := func(ctx context.Context) (server.Findings, error) { return p.Examine(ctx), nil }
	return command.ShowFlags(printReport(p, &cobra.Command{
		Use:   "doctor",
		Short: "Check all that a server needs, and say what to do",
		Long: "Check all that a server with these settings needs, and say what to do: the settings, permissions, keys, the disk, certificates, " +
			"the repository and when its files expire, the clock, the upstreams of a mirror, and the server that runs with these " +
			"settings, if there is one. Nothing is changed. Permissions depend on the account: run it as the account that the server runs as.\n\n" +
			"Exit codes:\n  0  nothing is wrong\n  1  something is wrong\n  2  usage",
		Example: "  box-update-server doctor --config /etc/box-update-server/config.json\n" +
			"  box-update-server doctor --json --data-dir M",
	}, examine, printFindings), "config", "data-dir", "updates-dir", "online-key", "upstream", "root", "listen", "tls-listen")
}

func healthCommand(p *server.Program) *cobra.Command {
	var o server.HealthOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "Ask a running server whether it is ready",
		Long: "Ask a running server whether it is ready for requests: whether its directory can be read, or its copy has been " +
			"synced and is not expired. The command also prints what else is wrong: [-] is urgent, and [!] needs attention some day. " +
			"Without a URL it asks the server on this machine that runs with the same settings.\n\n" +
			"A supervisor that restarts unhealthy servers should use --live: a restart does not make a stale mirror fresh, " +
			"and it interrupts the first sync.\n\n" +
			"Exit codes:\n  0  ready and in order\n  1  not ready\n  2  usage\n  3  no answer\n" +
			"  4  ready, but something is urgent, such as a lost archive",
		Example: "  box-update-server health http://127.0.0.1:8151\n" +
			"  box-update-server health --live --config /etc/box-update-server/config.json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Timeout <= 0 {
				return status.Usagef("--timeout %v: expected more than 0s", o.Timeout)
			}
			if len(args) > 0 {
				o.URL = args[0]
			}
			report, err := p.Health(cmd.Context(), o)
			if asJSON && report.Server != "" {
				return errors.Join(p.JSON(report), err)
			}
			for _, line := range report.Checks {
				fmt.Fprintln(p.Out, cli.Printable(line))
			}
			return err
		},
	}
	command.AddJSON(cmd, &asJSON)
	cmd.Flags().BoolVar(&o.Live, "live", false, "Ask only whether the server answers")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 5*time.Second, "Wait for the answer for this `DURATION`")
	return command.ShowFlags(cmd, "config", "listen", "tls-listen")
}

func statusCommand(p *server.Program) *cobra.Command {
	return command.ShowFlags(printReport(p, &cobra.Command{
		Use:   "status",
		Short: "Show how new a repository is, and what is wrong with it",
		Long: "Show how new the repository in --data-dir is and what is wrong with it, whether or not a server is using it. " +
			"[-] is urgent, and [!] needs attention some day.\n\n" +
			"Exit codes:\n  0  fresh and in order\n  1  failed\n  2  usage\n  3  not synced, behind, expired, or the last sync failed\n" +
			"  4  fresh, but something else is urgent, such as a lost archive",
		Example: "  box-update-server status --data-dir M\n  box-update-server status --json --data-dir M",
	}, p.Status, printStatus), "config", "data-dir")
}
