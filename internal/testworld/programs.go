package testworld

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// RunWithPrograms runs the tests with all commands, built as users have them, first in $PATH. It returns the exit code
// for TestMain. It builds the commands, unless $TEST_PROGRAMS names a directory that has them. If the tests run under
// the race detector, the commands in alsoRaced do too. With -fuzz it builds none, because each worker would spend its
// fuzzing time on that.
func RunWithPrograms(m *testing.M, alsoRaced ...string) int {
	if flag.Parse(); flag.Lookup("test.fuzz").Value.String() != "" {
		return m.Run()
	}
	built, err := os.MkdirTemp("", "programs-")
	if err == nil {
		defer os.RemoveAll(built)    // best effort
		err = os.Chmod(built, 0o755) // for a program that runs as nobody
	}
	dirs := built
	if ready := os.Getenv("TEST_PROGRAMS"); err == nil && ready != "" {
		dirs += string(os.PathListSeparator) + ready
	} else if err == nil {
		err = BuildProgram(built, "./cmd/...")
	}
	for _, name := range alsoRaced {
		if raced && err == nil {
			err = build("1", filepath.Join(built, name), "./cmd/"+name, "-race")
		}
	}
	if err == nil {
		err = os.Setenv("PATH", dirs+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// BuildProgram builds commands, given as a path from the top of the module, into a file or a directory, with further
// flags of go build. It never uses the race detector.
func BuildProgram(to, commands string, flags ...string) error {
	return build("0", to, commands, flags...)
}

func build(cgo, to, commands string, flags ...string) error {
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", to}, flags...), commands)...)
	cmd.Dir, cmd.Env = string(top[:len(top)-1]), append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", commands, err, out)
	}
	return nil
}
