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
	return printReport(p, &cobra.Command{
		Use:   "doctor",
		Short: "check everything that a server with these settings needs, and say what to do",
		Long: "Checks the settings, permissions, keys, the disk, certificates, the repository and when its files expire,\n" +
			"the clock, the upstreams of a mirror, and the server that runs with these settings, if there is one.\n" +
			"It changes nothing. Permissions depend on the account: run it as the account that the server runs as.\n\n" +
			"Exit codes: 0 nothing is wrong, 1 something is wrong, 2 usage.",
		Example: "  box-update-server doctor --config /etc/box-update-server/config.json\n" +
			"  box-update-server doctor --json --data-dir M",
	}, examine, printFindings)
}

func healthCommand(p *server.Program) *cobra.Command {
	var o server.HealthOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "ask a running server whether it is ready",
		Long: "Asks a running server whether it is ready for requests. A server is ready if its directory can be read,\n" +
			"or its copy has been synced and is not expired. The command also prints what else is wrong: [-] is\n" +
			"urgent, and [!] needs attention some day. Without a URL it asks the server on this machine that runs\n" +
			"with the same settings.\n\n" +
			"A supervisor that restarts unhealthy servers should use --live, which asks only whether the server\n" +
			"answers: a restart does not make a stale mirror fresh, and it interrupts the first sync.\n\n" +
			"Exit codes: 0 ready and in order, 1 not ready, 2 usage, 3 no answer, 4 ready, but something is urgent,\n" +
			"such as a lost archive.",
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
	cmd.Flags().BoolVar(&o.Live, "live", false, "ask only whether the server answers")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 5*time.Second, "how long to wait for the answer, a `duration`")
	return cmd
}

func statusCommand(p *server.Program) *cobra.Command {
	return printReport(p, &cobra.Command{
		Use:   "status",
		Short: "show how new the repository of a data directory is, and what is wrong with it",
		Long: "Shows how new the repository in --data-dir is and what is wrong with it, whether or not a server is\n" +
			"using it. [-] is urgent, and [!] needs attention some day.\n\n" +
			"Exit codes: 0 fresh and in order, 1 failed, 2 usage, 3 not synced, behind, expired, or the last sync\n" +
			"failed, 4 fresh, but something else is urgent, such as a lost archive.",
	}, p.Status, printStatus)
}
