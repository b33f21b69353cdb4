package command

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// columns is the width of the help.
const columns = 80

// The keys of annotations.
const (
	shownKey = "shown" // of a command: the inherited flags that its help shows, in a list with spaces
	groupKey = "group" // of a flag: the title of its group
	titleKey = "title" // of a command: the titles of the groups of flags in their order, one per line
)

// ManualKey is the annotation of a command with what its man page says after its Long, in the same form.
const ManualKey = "manual"

// Add adds commands to root, which its help shows below title.
func Add(root *cobra.Command, title string, cmds ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, cmd := range cmds {
		cmd.GroupID = title
	}
	root.AddCommand(cmds...)
}

// ShowFlags lets the help of cmd show no persistent flags but those named. All others stay accepted.
func ShowFlags(cmd *cobra.Command, names ...string) *cobra.Command {
	annotate(cmd, shownKey, strings.Join(names, " "))
	return cmd
}

// GroupFlag lets the help of root, and of the commands below it, show a flag below title. The groups are shown in the order
// of the first calls.
func GroupFlag(root *cobra.Command, f *pflag.Flag, title string) {
	f.Annotations = map[string][]string{groupKey: {title}}
	if titles := root.Annotations[titleKey]; !strings.Contains("\n"+titles, "\n"+title+"\n") {
		annotate(root, titleKey, titles+title+"\n")
	}
}

func annotate(cmd *cobra.Command, key, value string) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[key] = value
}

// setHelp lets root and all commands below it write their help as Help returns it.
func setHelp(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _, _ = io.WriteString(cmd.OutOrStdout(), Help(cmd)) })
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := io.WriteString(cmd.OutOrStderr(), Help(cmd))
		return err
	})
}

// Help returns the help of cmd, at most 80 columns wide: what it does, how it is called, an example, its subcommands by
// group, its flags by group, and its exit codes. Paragraphs of Long are filled; its lines that begin with a space are
// kept, and may hang: each is as wide as it needs.
func Help(cmd *cobra.Command) string {
	text, codes := Describe(cmd)
	var b strings.Builder
	b.WriteString(fill(text) + "\nUsage: " + cmd.CommandPath())
	_, args, _ := strings.Cut(cmd.Use, " ")
	if args != "" {
		b.WriteString(" " + args)
	}
	if args == "" && cmd.HasSubCommands() {
		b.WriteString(" COMMAND")
	}
	b.WriteString(" [flags]\n")
	if e := Example(cmd); e != "" {
		b.WriteString("\nExamples:\n" + e + "\n")
	}
	writeCommands(&b, cmd)
	for _, g := range Flags(cmd) {
		writeTable(&b, g.Title, g.rows())
	}
	if codes != "" {
		b.WriteString("\nExit codes:\n" + fill(codes))
	}
	return b.String()
}

// Describe returns what a command does, in paragraphs, and its exit codes, one per line.
func Describe(cmd *cobra.Command) (text, codes string) {
	text, codes, _ = strings.Cut(cmd.Long, "\n\nExit codes:\n")
	if text == "" {
		text = cmd.Short + "."
	}
	return text, codes
}

// Example returns the example of cmd, or else of the first command below it.
func Example(cmd *cobra.Command) string {
	if cmd.Example == "" && cmd.HasSubCommands() {
		return Example(cmd.Commands()[0])
	}
	return cmd.Example
}

func writeCommands(b *strings.Builder, cmd *cobra.Command) {
	var other [][2]string
	rows := map[string][][2]string{}
	for _, sub := range cmd.Commands() {
		row := [2]string{"  " + sub.Name(), sub.Short}
		switch {
		case !sub.IsAvailableCommand():
		case sub.GroupID == "":
			other = append(other, row)
		default:
			rows[sub.GroupID] = append(rows[sub.GroupID], row)
		}
	}
	for i, g := range cmd.Groups() {
		if i == 0 {
			b.WriteString("\n")
		}
		writeRows(b, g.Title, rows[g.ID], 13)
	}
	if len(cmd.Groups()) > 0 {
		writeRows(b, "Other", other, 13)
	} else if len(other) > 0 {
		b.WriteString("\n")
		writeRows(b, "Commands", other, 13)
	}
}

// FlagGroup is flags that belong together.
type FlagGroup struct {
	Title string
	Flags []*pflag.Flag
}

// Flags returns the flags that the help of cmd shows: those without a group first. --help and --version
// are left out.
func Flags(cmd *cobra.Command) (groups []FlagGroup) {
	cmd.InitDefaultHelpFlag() // merges the persistent flags, too
	shown, some := cmd.Annotations[shownKey]
	byTitle := map[string][]*pflag.Flag{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" && !cmd.HasParent() || some && isPersistent(cmd, f) && !strings.Contains(" "+shown+" ", " "+f.Name+" ") {
			return
		}
		title := "Flags"
		if group := f.Annotations[groupKey]; len(group) > 0 && !some {
			title = group[0]
		}
		byTitle[title] = append(byTitle[title], f)
	})
	for title := range strings.Lines("Flags\n" + cmd.Root().Annotations[titleKey]) {
		if title = strings.TrimSuffix(title, "\n"); len(byTitle[title]) > 0 {
			groups = append(groups, FlagGroup{title, byTitle[title]})
		}
	}
	return groups
}

func isPersistent(cmd *cobra.Command, f *pflag.Flag) bool {
	for ; cmd != nil; cmd = cmd.Parent() {
		if cmd.PersistentFlags().Lookup(f.Name) == f {
			return true
		}
	}
	return false
}

// rows returns a line of the table of flags for each flag.
func (g FlagGroup) rows() (rows [][2]string) {
	for _, f := range g.Flags {
		left := "  --" + f.Name
		if f.Shorthand != "" {
			left = "  -" + f.Shorthand + ", --" + f.Name
		}
		value, text := DescribeFlag(f)
		if value != "" {
			left += " " + value
		}
		rows = append(rows, [2]string{left, text})
	}
	return rows
}

// DescribeFlag returns the word for the value of a flag, in capitals, "" if it takes none, and what the flag does, with its
// default.
func DescribeFlag(f *pflag.Flag) (value, text string) {
	value, text = pflag.UnquoteUsage(f)
	if f.NoOptDefVal != "" {
		value = ""
	}
	if !strings.Contains(f.Usage, "`") {
		value = strings.ToUpper(value)
	}
	if text = strings.TrimSuffix(text, ": "+value); text != "" {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
	default:
		if !strings.Contains(text, "(default") {
			text += " (default " + f.DefValue + ")"
		}
	}
	return value, text
}

func writeTable(b *strings.Builder, title string, rows [][2]string) {
	b.WriteString("\n")
	width := 12
	for _, row := range rows {
		if n := utf8.RuneCountInString(row[0]); n <= 26 {
			width = max(width, n)
		}
	}
	writeRows(b, title, rows, width)
}

// writeRows writes a table of two columns. A first cell that is wider than width has a line of its own.
func writeRows(b *strings.Builder, title string, rows [][2]string, width int) {
	if len(rows) == 0 {
		return
	}
	b.WriteString(title + ":\n")
	hang := strings.Repeat(" ", width+2)
	for _, row := range rows {
		lead := row[0]
		if n := utf8.RuneCountInString(lead); n <= width {
			lead += hang[n:]
		} else {
			b.WriteString(lead + "\n")
			lead = hang
		}
		writeFilled(b, lead, hang, row[1])
	}
}

// fill fills the paragraphs of text to the width of the help. A line that begins with spaces stands for itself; what does not
// fit continues under its second word.
func fill(text string) string {
	var b strings.Builder
	paragraph := ""
	flush := func() {
		if paragraph != "" {
			writeFilled(&b, "", "", paragraph)
		}
		paragraph = ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		rest := strings.TrimLeft(line, " ")
		switch {
		case rest == "":
			flush()
			b.WriteString("\n")
		case rest != line:
			flush()
			first, _, _ := strings.Cut(rest, " ")
			lead := line[:len(line)-len(rest)] + first
			rest = strings.TrimPrefix(rest, first)
			words := strings.TrimLeft(rest, " ")
			lead += rest[:len(rest)-len(words)]
			writeFilled(&b, lead, strings.Repeat(" ", len(lead)), words)
		default:
			paragraph += line + " "
		}
	}
	flush()
	return b.String()
}

// writeFilled writes words after lead, on as many lines as they need; all but the first begin with hang.
func writeFilled(b *strings.Builder, lead, hang, words string) {
	b.WriteString(lead)
	at, fresh := utf8.RuneCountInString(lead), true
	for _, word := range strings.Fields(words) {
		n := utf8.RuneCountInString(word)
		switch {
		case fresh:
		case at+1+n > columns:
			b.WriteString("\n" + hang)
			at = len(hang)
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at, fresh = at+n, false
	}
	b.WriteString("\n")
}
