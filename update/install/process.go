package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
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

// execute runs the program to its end, and where it fails ends all that it left running. The error is
// errLimit after the time limit and that of ctx where it ended; then the program got SIGTERM, and
// whatever of it was left SIGKILL.
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
		err = nil // it ended well and left something in the background that holds the output open
	}
	if stopped != nil {
		err = stopped
	}
	if err != nil {
		// The number of the group is not given away while a process is in it.
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // ESRCH: nothing is left
		sweep(p.run)
	}
	return err
}

// busyWait is how long a program may be open for writing before that is an error. Whoever writes a hook has it
// open until it is written; and a process that was just forked has what its parent had open until it runs its
// own program.
const busyWait = 10 * time.Second

// start starts the program in a process group of its own. A script without a first line that names its
// interpreter is run by sh, as a shell would. A program that is open for writing is waited for.
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
		return cmd, whyNot(p.path, err)
	}
}

// whyNot says what the system does not of a program that could not be started: that it is there, and that its
// interpreter is not.
func whyNot(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, lost := os.Open(path)
	if lost != nil {
		return err
	}
	defer f.Close()              // opened for reading
	head := make([]byte, 256)    // Linux looks at no more
	n, _ := io.ReadFull(f, head) // what is shorter is whole
	interpreter, bad := archive.Interpreter(head[:n])
	if bad != nil {
		return fmt.Errorf("the script %w", bad)
	}
	if _, lost := os.Stat(interpreter); lost != nil {
		return fmt.Errorf("this box does not have the interpreter that the first line of the script names: %w", lost)
	}
	return fmt.Errorf("the script is there, but the program that runs it can't be started: %w", err)
}

func (p program) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = p.dir, append(p.env, runVariable+"="+p.run)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = p.grace
	return cmd
}

// await returns when the process has ended, without taking its status, and stops it where ctx ends
// first. The error says that, and why.
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
	unix.Kill(-pid, unix.SIGTERM) // the process is not waited for, so the group is there
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
