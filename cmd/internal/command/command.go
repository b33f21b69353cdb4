// Package command runs the commands of a program, which are cobra commands with a RunE. A main function is
//
//	s := cli.System()
//	os.Exit(command.Run(ctx, "boxsign", newRoot(s), os.Args[1:], s))
package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/status"
)

// Run runs root with args, without the name of the program, and returns the exit code. An error is
// written to s.Err. Whatever goes wrong before a RunE is reached (an unknown command or flag, the
// wrong number of arguments) is an error of usage, and one of those without a hint leads to the help.
// A command with subcommands but no RunE asks for one of them.
func Run(ctx context.Context, prog string, root *cobra.Command, args []string, s cli.Streams) int {
	if args == nil {
		args = []string{} // nil means os.Args to cobra
	}
	reached := false
	prepare(root, &reached)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return status.ExitDone
	}
	if !reached || status.ExitCode(err) == status.ExitUsage {
		err = usageIn(cmd, err)
	}
	s.Report(prog, err)
	return status.ExitCode(err)
}

// prepare notes in reached that the RunE of cmd, or of a command below it, is about to run.
func prepare(cmd *cobra.Command, reached *bool) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args, cmd.RunE = oneCommand, missingCommand
	}
	checkArgs(cmd)
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*reached = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		prepare(sub, reached)
	}
}

func oneCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := cli.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return status.WithHint(err, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return err
}

func missingCommand(cmd *cobra.Command, _ []string) error {
	return cli.Usagef("which command of %q?", cmd.CommandPath())
}

// usageIn makes err an error of using cmd, which leads to its help where it has no hint yet.
func usageIn(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		if want := wantedBy(invalid.GetFlag()); want != "" {
			// Which function of the standard library parses it is nobody's concern.
			err = fmt.Errorf("--%s: expected %s, got %q", invalid.GetFlag().Name, want, explain.Clip(invalid.GetValue(), 80))
		}
	}
	return status.WithDefaultHint(status.WithCode(err, status.ExitUsage), "see "+cmd.CommandPath()+" --help")
}

// wantedBy says what a flag takes, for those types that the standard library parses, "" for others.
func wantedBy(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "int", "int64":
		return "a whole number"
	case "duration":
		return `a duration such as "90s" or "12h"`
	}
	return ""
}

// checkArgs has a command say in plain words how many arguments it takes.
func checkArgs(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		return
	}
	_, wanted, _ := strings.Cut(cmd.Use, " ")
	_, name, _ := strings.Cut(cmd.CommandPath(), " ")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil, status.ExitCode(err) == status.ExitUsage:
			return err
		case cmd.HasSubCommands():
			return oneCommand(cmd, args)
		case wanted == "":
			return fmt.Errorf("%s takes no argument, got %q", name, explain.Clip(args[0], 80))
		case len(args) == 0:
			return fmt.Errorf("%s: expected %s, got nothing", name, wanted)
		}
		return fmt.Errorf("%s: expected %s, got %d arguments", name, wanted, len(args))
	}
}
