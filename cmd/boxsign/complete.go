package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
)

// maxListed bounds the list that names are completed from, in bytes.
const maxListed = 16 << 20

// completeNames lets cmd complete names of updates: those in the newest list of the repository, if that is a directory.
// Nothing is verified, because a name that is completed is only typed.
func completeNames(s cli.Streams, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		repo := cmd.Flag("repo").Value.String()
		if repo == "" {
			repo = s.Getenv(repoVariable)
		}
		names := slices.DeleteFunc(listedNames(repo), func(name string) bool { return slices.Contains(args, name) })
		if len(args) > 0 {
			return names, cobra.ShellCompDirectiveDefault // the repository may follow
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// listedNames returns the names in the newest list of a directory, sorted; none if it can't be read.
func listedNames(dir string) []string {
	newest, path := 0, ""
	lists, _ := filepath.Glob(filepath.Join(dir, "metadata", "*.targets.json"))
	for _, l := range lists {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(l), "%d.targets.json", &n); err == nil && n > newest {
			newest, path = n, l
		}
	}
	var list struct {
		Signed struct {
			Targets map[string]json.RawMessage `json:"targets"`
		} `json:"signed"`
	}
	b, err := disk.ReadFile(path, maxListed)
	if err != nil || json.Unmarshal(b, &list) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(list.Signed.Targets))
}
