package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/server"
	"github.com/openpowerquality/box-update-server/status"
)

func doctorCommand(p *server.Program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "check everything that a server with these settings needs, and say what to do",
		Long: "Checks settings, permissions, keys, disk, certificates, the repository and what of it expires, the clock,\n" +
			"the upstreams of a mirror, and the server that runs with these settings, if there is one. Nothing is\n" +
			"changed. Who may do what depends on who asks: run it as the account that the server runs as.\n\n" +
			"Exit codes: 0 nothing is wrong, 1 something is, 2 usage.",
		Example: "  box-update-server doctor --config /etc/box-update-server/config.json\n" +
			"  box-update-server doctor --json --data-dir M",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := p.Examine(cmd.Context())
			if err := printFindings(p, found, asJSON); err != nil {
				return err
			}
			if n := countWrong(found); n > 0 {
				return fmt.Errorf("%d of %d checks found something wrong", n, len(found))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func healthCommand(p *server.Program) *cobra.Command {
	var o server.HealthOptions
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "ask a running server whether it is ready",
		Long: "Asks a running server whether it is ready for requests, and prints what it checks: a directory that\n" +
			"can be read, a copy that has been synced and is not expired. Beside that it names what else is wrong:\n" +
			"[-] is urgent, [!] will want somebody some day. Without a URL it asks the server on this machine that\n" +
			"runs with the same settings.\n\n" +
			"Whoever restarts what isn't healthy should ask with --live, which says only whether the server\n" +
			"answers: a restart makes no stale mirror fresh, and interrupts its first sync.\n\n" +
			"Exit codes: 0 ready and in order, 1 not ready, 2 usage, 3 no answer, 4 ready, and something is wrong,\n" +
			"such as an archive that is lost.",
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
			text, err := p.Health(cmd.Context(), o)
			for line := range strings.Lines(text) {
				fmt.Fprintln(p.Out, cli.Printable(strings.TrimSuffix(line, "\n")))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Live, "live", false, "ask only whether it answers")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 5*time.Second, "how long to wait for the answer, a `duration`")
	return cmd
}

func statusCommand(p *server.Program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show how new the repository of a data directory is, and what is wrong with it",
		Long: "Shows how new the repository of --data-dir is and what is wrong with it, beside the server that holds\n" +
			"it or without one: [-] is wrong, [!] will want somebody some day.\n\n" +
			"Exit codes: 0 fresh and in order, 1 failed, 2 usage, 3 not synced, behind, expired, or the last sync\n" +
			"failed, 4 fresh, and something is wrong, such as an archive that is lost.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.Status(cmd.Context())
			if err != nil {
				return err
			}
			return printStatus(p, r, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
