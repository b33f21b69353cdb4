package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

const bootIDPath = "/proc/sys/kernel/random/boot_id"

// bootID returns the ID that changes with each boot of the machine, "" if the kernel has none.
func bootID() string {
	b, err := disk.ReadFile(bootIDPath, 256)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// requestReboot notes in the attempt whether the box is to reboot after it. reboots says that it reboots even if the
// script did not ask for it.
func (i *Installer) requestReboot(reboots bool) error {
	_, err := os.Lstat(i.workPath(noteName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	asked, a := err == nil, i.rec.Attempt
	a.Asked = asked
	a.Reboot = reboots || asked && i.c.Reboot != RebootNever
	return nil
}

// recordReboot notes in the record whether the attempt ends with a reboot. A reboot that is due already stays due.
func (i *Installer) recordReboot(a Attempt) {
	due := a.Reboot || i.rebootDue()
	if !due && !a.Asked {
		i.rec.Reboot = nil
		return
	}
	i.rec.Reboot = &Reboot{Due: due, Asked: a.Asked, Since: i.now(), Boot: i.c.BootID}
}

// rebootDue reports whether a reboot is due that has not happened.
func (i *Installer) rebootDue() bool {
	r := i.rec.Reboot
	return r != nil && r.Due && r.Boot == i.c.BootID
}

// Reboot carries out a reboot that is due by running Config.RebootCommand, and reports whether there was one. The
// machine goes down some time later. Until then, and after an error, the reboot stays due; on a machine without a
// boot ID it counts as done once the command is started.
func (i *Installer) Reboot(ctx context.Context) (bool, error) {
	if !i.rebootDue() {
		return false, nil
	}
	if i.c.BootID == "" {
		i.rec.Reboot = nil
		if err := i.save(); err != nil {
			return false, err
		}
	}
	i.c.Logger.Warn("rebooting", "command", i.c.RebootCommand)
	// The shell looks the command up on the PATH that it is given here.
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, i.c.RebootCommand...)...)
	cmd.Env = append(append([]string{}, i.c.Env...), "PATH="+i.c.Path, "HOME="+i.c.Home, "LANG=C")
	cmd.Dir = "/"
	cmd.WaitDelay = i.c.Grace
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return false, fmt.Errorf("reboot with %q: %w: %s", i.c.RebootCommand, err, out)
	}
	return true, nil
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = appendEnd(*t, p, maxLine)
	return len(p), nil
}
