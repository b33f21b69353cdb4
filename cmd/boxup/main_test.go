package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// A process of the test's own program is boxup where ordersVariable is set, with a clock, and with a hook
// that notes each step on the disk and is killed before one of them.
const (
	ordersVariable = "BOXUP_TEST_NOW"  // a time in RFC 3339
	stepsVariable  = "BOXUP_TEST_STEP" // a file that gets a line for each step
	killVariable   = "BOXUP_TEST_KILL" // the number of the step to be killed before, from 1 on
)

// TestMain builds the programs and puts them first in PATH.
func TestMain(m *testing.M) {
	if os.Getenv(ordersVariable) != "" {
		os.Exit(run(victim()))
	}
	if flag.Parse(); flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // without programs: each worker would build them, in the time that is for fuzzing
	}
	code, err := withPrograms(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withPrograms(m *testing.M) (int, error) {
	bin, err := os.MkdirTemp("", "boxup-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)                      // best effort
	if err := os.Chmod(bin, 0o755); err != nil { // for a boxup that runs as nobody
		return 0, err
	}
	if out, err := exec.Command("go", "build", "-o", bin, ".", "../boxsign", "../box-update-server").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	if err := os.Setenv("PATH", bin+":"+os.Getenv("PATH")); err != nil {
		return 0, err
	}
	// The tests wait for processes and for the disk more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// victim is boxup with the clock and the hook that the environment says.
func victim() program {
	p := system()
	now, err := time.Parse(time.RFC3339, os.Getenv(ordersVariable))
	if err != nil {
		panic(err)
	}
	p.streams.Now = func() time.Time { return now }
	p.box.Random = func() float64 { return 0.999 }
	p.box.MachineIDFile = os.DevNull
	last, _ := strconv.Atoi(os.Getenv(killVariable)) // none: it lives
	var one sync.Mutex                               // blocks reach the disk beside other steps
	steps := 0
	p.box.FS.Hook = func(op disk.Op, path string) (bool, error) {
		one.Lock()
		defer one.Unlock()
		if steps++; steps == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it comes at once
		}
		note(string(op) + " " + path)
		return true, nil
	}
	return p
}

// note adds a line to the file of steps.
func note(line string) {
	path := os.Getenv(stepsVariable)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.ReplaceAll(line, "\n", " ") + "\n"); err != nil {
		panic(err)
	}
}
