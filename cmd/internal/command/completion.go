package command

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openpowerquality/box-update-server/status"
)

// shells are those whose completions cobra can write.
var shells = []string{"bash", "zsh", "fish", "powershell"}

// newCompletion returns the command that prints completions.
func newCompletion(root *cobra.Command) *cobra.Command {
	plain := false
	cmd := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completions for a shell",
		Long: "Print the completions for a shell: bash, zsh, fish or powershell. Debian packages\ninstall them. " +
			"Bash needs the package bash-completion.",
		Example:   "  source <(" + root.Name() + " completion bash)\n  " + root.Name() + " completion fish | source",
		Args:      cobra.ExactArgs(1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, !plain)
			case "zsh":
				if plain {
					return root.GenZshCompletionNoDesc(out)
				}
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, !plain)
			case "powershell":
				if plain {
					return root.GenPowerShellCompletion(out)
				}
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return status.Usagef("completion: expected bash, zsh, fish or powershell, got %q", args[0])
		},
	}
	cmd.Flags().BoolVar(&plain, "no-descriptions", false, "leave out the descriptions")
	return ShowFlags(cmd)
}

// complete adds the command that prints completions, and lets all commands complete the values of their arguments and flags.
func complete(root *cobra.Command) {
	if root.HasSubCommands() {
		root.AddCommand(newCompletion(root))
		root.InitDefaultHelpCmd()
	}
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" {
			cmd.Hidden = true
			cmd.Example = "  " + root.Name() + " help"
			ShowFlags(cmd)
		}
	}
	completeValues(root)
}

// completeValues lets cmd and the commands below it complete values by the words that stand for them in the help, such as
// FILE, DIR or text|json.
func completeValues(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil {
		cmd.ValidArgsFunction = completeArgument
	}
	complete := func(f *pflag.Flag) {
		value, _, _ := strings.Cut(strings.TrimPrefix(f.Usage[strings.IndexByte(f.Usage, '`')+1:], "`"), "`")
		switch {
		case f.NoOptDefVal != "":
		case extensions(f.Name) != nil:
			f.Annotations = with(f.Annotations, cobra.BashCompFilenameExt, extensions(f.Name))
		case strings.HasPrefix(value, "DIR"):
			f.Annotations = with(f.Annotations, cobra.BashCompSubdirsInDir, []string{})
		case !strings.Contains(value, "FILE"):
			words := []string{}
			if strings.Contains(value, "|") && value == strings.ToLower(value) {
				words = strings.Split(value, "|")
			}
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(complete)
	cmd.PersistentFlags().VisitAll(complete)
	for _, sub := range cmd.Commands() {
		completeValues(sub)
	}
}

func with(annotations map[string][]string, key string, value []string) map[string][]string {
	if annotations == nil {
		annotations = map[string][]string{}
	}
	annotations[key] = value
	return annotations
}

// extensions returns the extensions of the files that a flag names, nil if they are not known.
func extensions(flag string) []string {
	switch flag {
	case "config", "root":
		return []string{"json"}
	case "root-key", "release-key", "online-key", "key":
		return []string{"pem", "pub"}
	case "tls-certificate", "tls-key", "ca-file", "acme-ca-file":
		return []string{"pem", "crt", "key"}
	}
	return nil
}

// archives are the extensions of updates.
var archives = []string{"tar.bz2", "tar.gz", "tar.zst"}

// completeArgument completes the argument after args by the word that stands for it in the usage of cmd.
func completeArgument(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var words []string
	skip := false
	for _, word := range strings.Fields(cmd.Use)[1:] {
		if flag := strings.HasPrefix(strings.TrimPrefix(word, "["), "-"); flag || skip {
			skip = flag
			continue
		}
		words = append(words, strings.Trim(word, "[]"))
	}
	word := ""
	for i, w := range words {
		if many := strings.HasSuffix(w, "…"); many || i == len(args) {
			word = w // or what may follow many, which is a directory
			break
		}
	}
	switch {
	case strings.Contains(word, "FILE"):
		switch cmd.Name() {
		case "inspect", "sign", "verify", "add", "publish", "cosign", "install":
			return archives, cobra.ShellCompDirectiveFilterFileExt
		}
		return nil, cobra.ShellCompDirectiveDefault
	case strings.HasPrefix(word, "DIR"):
		return nil, cobra.ShellCompDirectiveFilterDirs
	case word == "ROLE":
		return []string{"root", "release", "online"}, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}
