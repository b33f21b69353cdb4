package testworld

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// RunWithPrograms runs the tests with all commands first in PATH, as users have them, and returns the exit code
// for TestMain. It builds them, unless TEST_PROGRAMS names a directory that has them. Where the tests are raced, so
// are the commands named. Where they fuzz there are none: each worker would build them, in the time that is for fuzzing.
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

// BuildProgram builds commands, named from the top of the module, to a file or into a directory, with further flags of
// go build. They are never raced.
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
