package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// errLimit says that a program did not end in time.
var errLimit = errors.New("time limit exceeded")

// program is one run of a program.
type program struct {
	path  string
	dir   string
	env   []string
	out   io.Writer
	run   string // the value of BOXUP_RUN
	limit time.Duration
	grace time.Duration
}

// execute runs the program to its end. If it fails, all processes that it left are killed. The error is errLimit
// after the time limit and that of ctx if ctx ended; then the program got SIGTERM, and its remaining processes
// SIGKILL.
func (p program) execute(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.limit, fmt.Errorf("%w: %v", errLimit, p.limit))
	defer cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cmd, err := p.start(ctx)
	if err != nil {
		return err
	}
	stopped := p.await(ctx, cmd.Process.Pid)
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it succeeded and left a background process that holds the output open
	}
	if stopped != nil {
		err = stopped
	}
	if err != nil {
		// The number of the group can't be reused while a process is in it.
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // ESRCH: nothing is left
		killRun(p.run)
	}
	return err
}

// busyWait is how long to wait for a program that is open for writing. Whoever writes a hook has it open until it is
// complete; and a process that was just forked has its parent's files open until it runs its own program.
const busyWait = 10 * time.Second

// start starts the program in a process group of its own. A script without a first line that names its interpreter is
// run by sh, as a shell would. If the program is open for writing, start waits for busyWait.
func (p program) start(ctx context.Context) (*exec.Cmd, error) {
	for began := time.Now(); ; {
		cmd := p.command(p.path)
		err := cmd.Start()
		if errors.Is(err, syscall.ETXTBSY) && time.Since(began) < busyWait && pace.Sleep(ctx, 10*time.Millisecond) == nil {
			continue
		}
		if errors.Is(err, syscall.ENOEXEC) {
			cmd = p.command(archive.Shell, p.path)
			err = cmd.Start()
		}
		return cmd, explainStart(p.path, err)
	}
}

// explainStart improves the error of a program that could not be started: if the file exists and its interpreter does not,
// it says so, which the system does not.
func explainStart(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, openErr := os.Open(path)
	if openErr != nil {
		return err
	}
	defer f.Close()              // opened for reading
	head := make([]byte, 256)    // Linux reads no more of the first line
	n, _ := io.ReadFull(f, head) // a shorter file is read whole
	interpreter, bad := archive.Interpreter(head[:n])
	if bad != nil {
		return fmt.Errorf("the script %w", bad)
	}
	if _, statErr := os.Stat(interpreter); statErr != nil {
		return fmt.Errorf("this box does not have the interpreter that the first line of the script names: %w", statErr)
	}
	return fmt.Errorf("the script exists, but the program that runs it can't be started: %w", err)
}

func (p program) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = p.dir, append(p.env, runVariable+"="+p.run)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = p.grace
	return cmd
}

// await waits until the process has ended, without reaping it, and stops it if ctx ends first. The error then says
// why.
func (p program) await(ctx context.Context, pid int) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		}
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	unix.Kill(-pid, unix.SIGTERM) // the process is not reaped yet, so the group exists
	grace := time.NewTimer(p.grace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
	}
	unix.Kill(-pid, unix.SIGKILL)
	<-ended
	return context.Cause(ctx)
}

// runVariable is the environment variable that identifies the processes of a run, however they were started.
const runVariable = "BOXUP_RUN"

const maxEnviron = 1 << 20 // bytes of an environment that are searched

// killRun kills all processes whose BOXUP_RUN begins with run, and returns when none is left. After a second it gives
// up, because some processes only end when their hardware answers. Without /proc it does nothing.
func killRun(run string) {
	for range 100 {
		if killOnce(run) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// killOnce kills the processes of a run that exist now and returns how many there were.
func killOnce(run string) int {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is good
	n := 0
	for _, path := range environs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && pid != os.Getpid() && killIfInRun(pid, path, run) {
			n++
		}
	}
	return n
}

// killIfInRun kills a process if it belongs to a run.
func killIfInRun(pid int, environ, run string) bool {
	// The handle stays with this process even if its number is given to another one meanwhile.
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	return isInRun(environ, run) && p.Kill() == nil
}

// isInRun reports whether the environment in that file has a BOXUP_RUN that begins with run. The environment of a
// process that has ended, or of another user, can't be read.
func isInRun(environ, run string) bool {
	f, err := os.Open(environ)
	if err != nil {
		return false
	}
	defer f.Close() // opened for reading
	raw, _ := io.ReadAll(io.LimitReader(f, maxEnviron))
	return bytes.Contains(append([]byte{0}, raw...), []byte("\x00"+runVariable+"="+run))
}

// listHooks returns the paths of the hooks in a directory, sorted by name. A directory that does not exist has none.
func listHooks(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), "~") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			out = append(out, path)
		}
	}
	return out, nil
}
