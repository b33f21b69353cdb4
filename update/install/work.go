package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// Below workDir.
const (
	unpackedDir = "update"
	shimsDir    = "shims"
	noteName    = "reboot"

	maxWork = 16 // directories to work in, of which all but the last can't be removed
)

// prepare makes an empty working directory.
func (i *Installer) prepare() error {
	work, err := i.newWork()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(work, unpackedDir), 0o700); err != nil {
		return err
	}
	if err := executable(work); err != nil {
		return err
	}
	return writeShims(filepath.Join(work, shimsDir), filepath.Join(work, noteName), i.c.Path)
}

// emptyFolder makes an empty folder for hooks to run in.
func (i *Installer) emptyFolder() error {
	if err := removeTree(i.atWork(unpackedDir)); err != nil || i.rec.Attempt == nil {
		return err
	}
	return os.MkdirAll(i.top(""), 0o700)
}

// newWork returns a directory to work in that is not there. Where one can't be removed, since a script has made a
// file immutable for example, there is another: what lies in the way of one update must not keep all others away.
func (i *Installer) newWork() (string, error) {
	for n := 1; ; n++ {
		i.work = workDir
		if n > 1 {
			i.work = fmt.Sprintf("%s.%d", workDir, n)
		}
		path := i.at(i.work)
		err := removeTree(path)
		if err == nil {
			return path, nil
		}
		if n == maxWork || disk.Fault(err) {
			return "", err
		}
		i.leftBehind(path, err)
	}
}

// leftBehind tells of what can't be removed and is not needed.
func (i *Installer) leftBehind(path string, err error) {
	i.c.Logger.Warn("a file can't be removed and stays: look with lsattr and mount", "path", path, "err", err)
}

// removeWork removes all directories to work in.
func (i *Installer) removeWork() error {
	found, err := disk.Glob(i.at(""), workDir+"*")
	if err != nil {
		return err
	}
	for _, path := range found {
		if err := removeTree(path); disk.Fault(err) {
			return err
		} else if err != nil {
			i.leftBehind(path, err)
		}
	}
	return nil
}

// executable refuses a file system on which no program can run: an install script would fail there, and be
// blamed for it.
func executable(dir string) error {
	space, err := disk.SpaceOf(dir)
	if err != nil {
		return err
	}
	if space.NoExec {
		return fmt.Errorf("%s: its file system is mounted noexec, so that no install script can run: put the state directory elsewhere", dir)
	}
	return nil
}

// unpack unpacks an archive that is held and verified, and reports whether the box reboots after it
// whether or not the script asks for that.
func (i *Installer) unpack(ctx context.Context, n update.Name, d update.Digest) (reboots bool, err error) {
	if err := i.prepare(); err != nil {
		return false, err
	}
	f, err := os.Open(i.archive(d))
	if err != nil {
		return false, err
	}
	defer f.Close() // opened for reading
	dir, err := os.OpenRoot(i.atWork(unpackedDir))
	if err != nil {
		return false, err
	}
	defer dir.Close() // opened for reading
	i.c.Logger.Info("unpacking", "update", n)
	if _, err := archive.Unpack(ctx, f, n, dir, archive.UnpackOptions{Limits: i.c.Limits, Entry: i.unpacking(ctx)}); err != nil {
		return false, err
	}
	if i.c.Reboot != RebootDefault {
		return i.c.Reboot == RebootAlways, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	built, err := isBuilt(ctx, f, n)
	return !built, err
}

// unpacking returns what tells the log of each entry, nil where the log does not go so far.
func (i *Installer) unpacking(ctx context.Context) func(archive.Entry) {
	if !i.c.Logger.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return func(e archive.Entry) { i.c.Logger.DebugContext(ctx, "unpacking entry", "entry", e.Name) }
}

// errEnough ends the inspection of an archive.
var errEnough = errors.New("enough")

// isBuilt reports whether an archive begins as boxsign build writes it.
func isBuilt(ctx context.Context, f *os.File, n update.Name) (bool, error) {
	var begin []archive.Entry
	_, err := archive.Inspect(ctx, f, n, archive.InspectOptions{Entry: func(e archive.Entry) error {
		if begin = append(begin, e); len(begin) == 3 {
			return errEnough
		}
		return nil
	}})
	if err != nil && !errors.Is(err, errEnough) {
		return false, err
	}
	if len(begin) < 2 || begin[0].Name != n.Top()+"/" || begin[1].Name != n.Top()+"/"+archive.VersionFile {
		return false, nil
	}
	for _, e := range begin {
		perm := e.Mode.Perm()
		if !e.Time.Equal(begin[0].Time) || e.Mode.IsDir() && perm != 0o755 || e.Mode.IsRegular() && perm != 0o755 && perm != 0o644 {
			return false, nil
		}
	}
	return true, nil
}

// top returns the path of a file in the unpacked folder, and of the folder itself for "".
func (i *Installer) top(name string) string {
	to, _ := i.rec.way()
	return i.atWork(unpackedDir, to.Top(), name)
}

// way returns which update the attempt brings to the box, and the version that it replaces.
func (r record) way() (to update.Name, from update.Version) {
	if r.Attempt.Phase == PhaseBack {
		return r.Installed.Name, r.Attempt.Name.Version()
	}
	if r.Installed != nil {
		from = r.Installed.Name.Version()
	}
	return r.Attempt.Name, from
}

// surroundings returns the environment of what is run, BOXUP_RUN aside.
func (i *Installer) surroundings(extra ...string) []string {
	to, from := i.rec.way()
	env := append([]string{}, i.c.Env...)
	env = append(env,
		"PATH="+i.atWork(shimsDir)+":"+i.c.Path,
		"HOME="+i.c.Home,
		"LANG=C",
		"BOXUP_VERSION="+to.Version().String(),
		"BOXUP_PREVIOUS="+from.String(),
		"BOXUP_DIR="+i.top(""),
	)
	return append(env, extra...)
}

// run runs a program of the attempt and logs it. The error is disk.ErrNoSpace or ErrBox where it says nothing of the
// program: that could not be started, or failed on a disk that is full.
func (i *Installer) run(ctx context.Context, path string, env []string) error {
	a := i.rec.Attempt
	i.runs++
	name := filepath.Base(path)
	dir := i.top("")
	if _, err := os.Lstat(dir); err != nil {
		dir = i.dir // a hook runs also where a full disk has no place for a folder
	}
	to, _ := i.rec.way()
	i.c.Logger.Info("running", "program", name, "update", to, "phase", a.Phase)
	log, err := openLog(i.at(logDir), fmt.Sprintf("== %s %v %s", i.now().Format(time.RFC3339), to, name))
	if err != nil {
		i.c.Logger.Warn("the output of a program is not logged", "program", name, "err", err)
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
		log.end("-- ended well")
		return nil
	}
	log.end("-- " + words(err))
	if _, lost := os.Lstat(path); lost != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrBox, lost)
	}
	if err = i.own(err); !ownFault(err) && (log.saysNoSpace() || i.filledUp()) {
		err = &fullDisk{i.spaceWords(), err}
	}
	if line := log.lastLine(); line != "" {
		return fmt.Errorf("%s: %w: %s", name, err, line)
	}
	return fmt.Errorf("%s: %w", name, err)
}
