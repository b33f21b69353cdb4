package install

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// runVariable is the variable by which the processes of a run are known, however they came to be.
const runVariable = "BOXUP_RUN"

const maxEnviron = 1 << 20 // bytes of an environment that are looked at

// sweep kills all processes whose BOXUP_RUN begins with run. It returns when none is left; after a second
// it gives up, since some only end with the hardware that they wait for. Without /proc it does nothing.
func sweep(run string) {
	for range 100 {
		if killAll(run) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// killAll kills the processes of a run that are there now and returns how many they are.
func killAll(run string) int {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is good
	n := 0
	for _, path := range environs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && pid != os.Getpid() && killIf(pid, path, run) {
			n++
		}
	}
	return n
}

// killIf kills a process if it belongs to a run.
func killIf(pid int, environ, run string) bool {
	// The handle stands for one process, also where the number is given to another meanwhile.
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	return belongs(environ, run) && p.Kill() == nil
}

// belongs reports whether an environment says that its process belongs to a run. That of a process that
// has ended, or of another user, can't be read.
func belongs(environ, run string) bool {
	f, err := os.Open(environ)
	if err != nil {
		return false
	}
	defer f.Close() // opened for reading
	raw, _ := io.ReadAll(io.LimitReader(f, maxEnviron))
	return bytes.Contains(append([]byte{0}, raw...), []byte("\x00"+runVariable+"="+run))
}
