// Package command runs the commands of a program, which are cobra commands with a RunE. A main function looks like this:
//
//	ctx, stop := command.UntilSignal()
//	defer stop()
//	s := cli.System()
//	return command.Run(ctx, "boxsign", newRoot(s), os.Args[1:], s)
package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/status"
)

// Run runs root with args, which don't include the name of the program, and returns the exit code. It writes an error
// to s.Err. An error before a RunE is reached (an unknown command or flag, the wrong number of arguments) is a usage
// error; a usage error without a hint gets one that names --help. A command that has subcommands and no RunE is a
// usage error too. If Ctrl-C ended ctx, and the command because of that, the exit code is 130, as a shell has it.
func Run(ctx context.Context, prog string, root *cobra.Command, args []string, s cli.Streams) int {
	reached := false
	setHelp(root)
	complete(root)
	prepare(root, s, &reached)
	root.SetArgs(joinTruths(root, args))
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
	interrupted := errors.Is(err, status.ErrInterrupted) || errors.Is(context.Cause(ctx), status.ErrInterrupted)
	if interrupted && errors.Is(err, context.Canceled) {
		err = status.WithCode(err, status.ExitInterrupted)
	}
	s.Report(prog, err)
	return status.ExitCode(err)
}

// joinTruths joins true and false to the flag before it, if the flag is one of root that all commands have, and may stand
// alone: "--metrics false" is "--metrics=false", as when these flags needed a value.
func joinTruths(root *cobra.Command, args []string) []string {
	joined := []string{} // for cobra, nil stands for os.Args
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(joined, args[i:]...)
		}
		name, isFlag := strings.CutPrefix(arg, "--")
		f := root.PersistentFlags().Lookup(name)
		if isFlag && f != nil && f.NoOptDefVal == "true" && i+1 < len(args) && (args[i+1] == "true" || args[i+1] == "false") {
			i++
			arg += "=" + args[i]
		}
		joined = append(joined, arg)
	}
	return joined
}

// AddJSON gives cmd the flag --json.
func AddJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print the result as JSON")
}

// quiet is the name of the flag that AddQuiet adds.
const quiet = "quiet"

// AddQuiet gives the flag --quiet to the commands below cmd, but for those with the names except, which do nothing but print.
// It is for cron, which sends what a command prints.
func AddQuiet(cmd *cobra.Command, except ...string) {
	for _, sub := range cmd.Commands() {
		if sub.Runnable() && !slices.Contains(except, sub.Name()) {
			sub.Flags().BoolP(quiet, "q", false, "print warnings and errors only")
		}
		AddQuiet(sub, except...)
	}
}

// RefuseQuiet returns a usage error if cmd has --quiet, although output is to be printed.
func RefuseQuiet(cmd *cobra.Command, output string) error {
	if is, err := cmd.Flags().GetBool(quiet); err == nil && is {
		return status.Usagef("--quiet: %s would not be printed; name a file for it", output)
	}
	return nil
}

// prepare wraps the RunE of cmd and of all commands below it: each sets reached before it runs, and obeys --quiet. It also
// sets the checks of arguments.
func prepare(cmd *cobra.Command, s cli.Streams, reached *bool) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args, cmd.RunE = oneCommand, missingCommand
	}
	checkArgs(cmd)
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*reached = true
			if is, err := cmd.Flags().GetBool(quiet); err == nil && is {
				s.Silence()
			}
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		prepare(sub, s, reached)
	}
}

func oneCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := status.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return status.WithHint(err, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return err
}

func missingCommand(cmd *cobra.Command, _ []string) error {
	return status.Usagef("missing command for %q", cmd.CommandPath())
}

// usageIn makes err a usage error of cmd, with a hint that names --help unless err has a hint.
func usageIn(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		if want := wantedBy(invalid.GetFlag()); want != "" {
			// The message of pflag names the function of the standard library that failed.
			err = fmt.Errorf("--%s: expected %s, got %q", invalid.GetFlag().Name, want, explain.Clip(invalid.GetValue(), 80))
		}
	}
	return status.WithDefaultHint(status.WithCode(err, status.ExitUsage), "see "+cmd.CommandPath()+" --help")
}

// wantedBy describes the values of a flag whose type the standard library parses. It returns "" for other types.
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

// checkArgs wraps the check of cmd's arguments, so that its errors name the arguments as the usage does.
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
