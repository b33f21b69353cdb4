package install

import (
	"os"
	"path/filepath"
	"strings"
)

// shims returns the programs, by name, that come before the real ones on PATH, without their first line. NOTE and
// PATHS in them are placeholders.
func shims() map[string]string {
	return map[string]string{
		"reboot":    shimNote,
		"poweroff":  shimNote,
		"halt":      shimNote,
		"shutdown":  shimShutdown,
		"init":      shimInit,
		"telinit":   shimInit,
		"systemctl": shimSystemctl,
	}
}

const shimNote = "echo \"$0 $*\" >> NOTE\n"

const shimShutdown = `for word; do
	case $word in
	-c) exec rm -f NOTE ;;
	-k) exit 0 ;;
	esac
done
` + shimNote

const shimInit = `case $1 in
0 | 6)
	` + shimNote + `	exit ;;
esac
` + shimPass

const shimSystemctl = `verb=
for word; do
	case $verb,$word in
	*,-*) ;;
	,reboot | ,poweroff | ,halt | ,kexec | ,soft-reboot | \
	[si]*,reboot.target | [si]*,poweroff.target | [si]*,halt.target | [si]*,kexec.target)
		` + shimNote + `		exit ;;
	,start | ,isolate) verb=$word ;;
	*) break ;;
	esac
done
` + shimPass

// shimPass runs the real program.
const shimPass = `PATH=PATHS
export PATH
exec "${0##*/}" "$@"
`

// writeShims writes the shims to a directory, which must not exist yet. They record requests in the file note and
// look for the real programs on path.
func writeShims(dir, note, path string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	fill := strings.NewReplacer("NOTE", quote(note), "PATHS", quote(path))
	for name, text := range shims() {
		text = "#!/bin/sh\n" + fill.Replace(text)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// quote returns s as one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
