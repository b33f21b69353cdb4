package main

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A process of the test's own program is boxup where ordersVariable is set, with a clock, and with a hook
// that notes each step on the disk and is killed before one of them.
const (
	ordersVariable = "BOXUP_TEST_NOW"  // a time in RFC 3339
	stepsVariable  = "BOXUP_TEST_STEP" // a file that gets a line for each step
	killVariable   = "BOXUP_TEST_KILL" // the number of the step to be killed before, from 1 on
)

// TestMain runs the tests with the programs in PATH.
func TestMain(m *testing.M) {
	if os.Getenv(ordersVariable) != "" {
		os.Exit(run(victim()))
	}
	// The tests wait for processes and for the disk more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(testworld.RunWithPrograms(m))
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
