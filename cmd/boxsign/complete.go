package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/signer"
)

// completeNames lets cmd complete names of updates: those in the newest list of the repository, if that is a directory.
// Nothing is verified, because a name that is completed is only typed.
func completeNames(s cli.Streams, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		repo := cmd.Flag("repo").Value.String()
		if repo == "" {
			repo = s.Getenv(repoVariable)
		}
		names := slices.DeleteFunc(signer.ListedNames(repo), func(name string) bool { return slices.Contains(args, name) })
		if len(args) > 0 {
			return names, cobra.ShellCompDirectiveDefault // the repository may follow
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
