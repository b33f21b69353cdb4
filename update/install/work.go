package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
)

// Names below the directory to work in.
const (
	unpackedDir = "update"
	shimsDir    = "shims"
	noteName    = "reboot"

	maxWork = 16 // directories to work in; all but the last may be impossible to remove
)

// prepareWork makes an empty directory to work in, with a folder for unpacking and the shims.
func (i *Installer) prepareWork() error {
	// If one can't be removed, for example because a script made a file immutable, another one is used: what one
	// update left must not block all later ones.
	i.work = workDir
	for n := 2; ; n++ {
		err := removeTree(i.workPath())
		if err == nil {
			break
		}
		if n > maxWork || disk.Fault(err) {
			return err
		}
		i.warnNotRemoved(i.workPath(), err)
		i.work = fmt.Sprintf("%s.%d", workDir, n)
	}
	if err := os.MkdirAll(i.workPath(unpackedDir), 0o700); err != nil {
		return err
	}
	// An install script would fail if no program can run there, and the update would be blamed.
	space, err := disk.SpaceOf(i.workPath())
	if err != nil {
		return err
	}
	if space.NoExec {
		return fmt.Errorf("%s: its file system is mounted noexec, so no install script can run; move the state directory to another file system", i.workPath())
	}
	return writeShims(i.workPath(shimsDir), i.workPath(noteName), i.c.Path)
}

// emptyFolder makes an empty folder for hooks to run in.
func (i *Installer) emptyFolder() error {
	if err := removeTree(i.workPath(unpackedDir)); err != nil || i.rec.Attempt == nil {
		return err
	}
	return os.MkdirAll(i.unpacked(""), 0o700)
}

// warnNotRemoved logs that a file that is no longer needed can't be removed.
func (i *Installer) warnNotRemoved(path string, err error) {
	i.c.Logger.Warn("can't remove a file that is no longer needed; lsattr and mount may show why", "path", path, "err", err)
}

// removeWork removes all directories to work in.
func (i *Installer) removeWork() error {
	found, err := disk.Glob(i.path(""), workDir+"*")
	if err != nil {
		return err
	}
	for _, path := range found {
		if err := removeTree(path); disk.Fault(err) {
			return err
		} else if err != nil {
			i.warnNotRemoved(path, err)
		}
	}
	return nil
}

// unpacked returns the path of a file in the unpacked folder, and of the folder itself for "".
func (i *Installer) unpacked(name string) string {
	to, _ := i.rec.direction()
	return i.workPath(unpackedDir, to.Top(), name)
}

// direction returns the update that the attempt installs, and the version that it replaces.
func (r record) direction() (to update.Name, from update.Version) {
	if r.Attempt.Phase == PhaseBack {
		return r.Installed.Name, r.Attempt.Name.Version()
	}
	if r.Installed != nil {
		from = r.Installed.Name.Version()
	}
	return r.Attempt.Name, from
}

// environment returns the environment of scripts and hooks, without BOXUP_RUN.
func (i *Installer) environment(extra ...string) []string {
	to, from := i.rec.direction()
	env := append([]string{}, i.c.Env...)
	env = append(env,
		"PATH="+i.workPath(shimsDir)+":"+i.c.Path,
		"HOME="+i.c.Home,
		"LANG=C",
		"BOXUP_VERSION="+to.Version().String(),
		"BOXUP_PREVIOUS="+from.String(),
		"BOXUP_DIR="+i.unpacked(""),
	)
	return append(env, extra...)
}

// run runs a program of the attempt and logs its output. The error is disk.ErrNoSpace or ErrBox if the box is to
// blame: the program could not be started, or failed on a full disk.
func (i *Installer) run(ctx context.Context, path string, env []string) error {
	a := i.rec.Attempt
	i.runs++
	name := filepath.Base(path)
	dir := i.unpacked("")
	if _, err := os.Lstat(dir); err != nil {
		dir = i.dir // a hook must run even if a full disk has no space for a folder
	}
	to, _ := i.rec.direction()
	i.c.Logger.Info("running", "program", name, "update", to, "phase", a.Phase)
	log, err := openLog(i.path(logDir), fmt.Sprintf("== %s %v %s", i.now().Format(time.RFC3339), to, name))
	if err != nil {
		i.c.Logger.Warn("can't log the output of a program", "program", name, "err", err)
	}
	err = program{
		path:  path,
		dir:   dir,
		env:   env,
		out:   log,
		run:   fmt.Sprintf("%s%d.", a.run(), i.runs),
		limit: i.c.Timeout,
		grace: i.c.Grace,
	}.execute(ctx)
	if err == nil {
		log.end("-- succeeded")
		return nil
	}
	log.end("-- " + reasonOf(err))
	if _, statErr := os.Lstat(path); statErr != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrBox, statErr)
	}
	if err = i.asBoxFault(err); !isBoxFault(err) && (log.saysNoSpace() || i.diskFilled()) {
		err = &fullDisk{i.describeSpace(), err}
	}
	if line := log.lastLine(); line != "" {
		return fmt.Errorf("%s: %w: %s", name, err, line)
	}
	return fmt.Errorf("%s: %w", name, err)
}
