package install_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update/install"
)

// TestDiskFailsFromEveryStepOn has the disk fail at one step and at all that follow. Nothing is counted against an
// update that is good, services run again, and the next installation ends as it should.
func TestDiskFailsFromEveryStepOn(t *testing.T) {
	if testing.Short() {
		t.Skip("installs some hundred updates")
	}
	for _, s := range stories(t) {
		if s.name != "update" && s.name != "back" {
			continue
		}
		for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
			if s.name == "back" && fault == syscall.EIO {
				continue // goes the same ways
			}
			t.Run(fmt.Sprintf("%s, %v", s.name, fault), func(t *testing.T) {
				t.Parallel()
				for n, more := 1, true; more; n++ {
					b := victimBox(t)
					s.prepare(b)
					var at string
					at, more = b.failing(s.p, n, fault)
					s.wantStarted(b)
					if f := b.status().Failures; len(f) != 0 && s.name == "update" {
						t.Errorf("failures are %+v", f)
					}
					s.finish(b)
					if t.Failed() {
						t.Fatalf("step %d: %s", n, at)
					}
				}
			})
		}
	}
}

// failing tries to install once, with a disk on which nothing can be written from a step on.
func (b *box) failing(p parcel, n int, fault error) (at string, reached bool) {
	b.t.Helper()
	steps := 0
	b.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if steps++; steps < n || op == disk.OpRemove || op == disk.OpSyncDir {
			return true, nil
		}
		if at == "" {
			at = string(op) + " " + path
		}
		return false, fmt.Errorf("%s: %w", path, fault)
	}
	defer func() { b.c.FS.Hook = nil }()
	i, err := install.Open(b.c)
	if err == nil {
		_, err = p.into(b.t, i, install.Options{})
		must(b.t, i.Close())
	}
	own := install.ErrBox
	if errors.Is(fault, syscall.ENOSPC) {
		own = disk.ErrNoSpace
	}
	if reached = at != ""; reached && !errors.Is(err, own) {
		b.t.Fatalf("%s: error is %v, want %v", at, err, own)
	}
	return at, reached
}

// onSmallDisk returns a box whose state lies on a file system in memory.
func onSmallDisk(t *testing.T, options string) *box {
	t.Helper()
	b := newBox(t)
	if err := syscall.Mount("tmpfs", b.c.Dir, "tmpfs", 0, options); err != nil {
		testworld.NotTested(t, "a real disk that is full", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(b.c.Dir, syscall.MNT_DETACH)) })
	b.pre("10-stop", "echo stopped >> $HOME/service")
	b.post("10-start", "echo started after $BOXUP_RESULT >> $HOME/service")
	return b
}

// ballast is what a script says to fill the disk of the state directory, or to take all its inodes.
func (b *box) ballast(what string) string {
	dir := filepath.Join(b.c.Dir, "ballast")
	if what == "inodes" {
		return "mkdir " + dir + "; n=0; while mkdir " + dir + "/$n; do n=$((n+1)); done 2>/dev/null\n"
	}
	return "mkdir " + dir + "; head -c 1G /dev/zero 2>/dev/null > " + dir + "/all\n"
}

// A disk that is full counts against no update, whoever filled it: one that is good is recorded where it can be, and
// else tried again when there is room.
func TestFullDisk(t *testing.T) {
	stopped := []string{"stopped", "started_after_failed"}
	for _, c := range []struct{ name, options string }{{"bytes", "size=12m"}, {"inodes", "size=64m,nr_inodes=100"}} {
		t.Run(c.name+": the script fills it and ends well", func(t *testing.T) {
			b := onSmallDisk(t, c.options)
			p := script(t, 7, ran+b.ballast(c.name)+"exit 0\n")
			b.mustInstall(p)
			b.wantTold("service", "stopped", "started_after_installed")
			must(t, os.RemoveAll(filepath.Join(b.c.Dir, "ballast")))
			b.mustInstall(script(t, 8, ran))
		})
		t.Run(c.name+": the script fills it and fails", func(t *testing.T) {
			b := onSmallDisk(t, c.options)
			p := script(t, 7, "[ -z \"$BALLAST\" ] || exit 0\n"+ran+b.ballast(c.name)+"exit 1\n")
			s := b.fails(p, disk.ErrNoSpace)
			if len(s.Failures) != 0 || len(s.History) != 1 || s.History[0].Outcome != install.OutcomeStopped {
				t.Errorf("status is %+v", s)
			}
			b.wantTold("service", stopped...)
			s = b.fails(p, disk.ErrNoSpace) // it is not begun
			must(t, os.RemoveAll(filepath.Join(b.c.Dir, "ballast")))
			if c.name == "bytes" {
				b.fails(p, disk.ErrNoSpace) // there is no more room than there was
			}
			b.wantTold("service", stopped...)
			if len(s.Failures) != 0 || s.Attempt != nil {
				t.Errorf("status is %+v", s)
			}
			b.c.Env = []string{"BALLAST=none"}
			must(t, syscall.Mount("tmpfs", b.c.Dir, "tmpfs", syscall.MS_REMOUNT, "size=64m,nr_inodes=1000"))
			b.mustInstall(p)
		})
		t.Run(c.name+": a hook before fills it", func(t *testing.T) {
			b := onSmallDisk(t, c.options)
			b.pre("20-fill", "[ -n \"$BALLAST\" ] || { "+strings.TrimSpace(b.ballast(c.name))+"; }; exit 0")
			p := script(t, 7, ran)
			_, s, err := b.install(p, install.Options{})
			if err != nil {
				wantErr(t, err, disk.ErrNoSpace)
			}
			if len(s.Failures) != 0 {
				t.Errorf("status is %+v", s)
			}
			service := b.told("service")
			if !strings.HasPrefix(service[len(service)-1], "started") {
				t.Errorf("service is %q", service)
			}
			b.c.Env = []string{"BALLAST=none"}
			must(t, os.RemoveAll(filepath.Join(b.c.Dir, "ballast")))
			if err != nil {
				b.mustInstall(p)
			}
		})
		t.Run(c.name+": the check fails on it", func(t *testing.T) {
			b := onSmallDisk(t, c.options)
			b.mustInstall(script(t, 6, ran))
			must(t, os.Remove(filepath.Join(b.home, "service")))
			b.post("20-check", "case $BOXUP_VERSION,$BALLAST in 7,) echo not well; exit 1; esac")
			p := script(t, 7, "[ -z \"$BALLAST\" ] || exit 0\n"+ran+b.ballast(c.name)+"exit 0\n")
			s := b.with(func(i *install.Installer) {
				_, err := p.into(t, i, install.Options{})
				if !errors.Is(err, disk.ErrNoSpace) && !errors.Is(err, install.ErrRolledBack) {
					t.Errorf("error is %v", err)
				}
			})
			if _, aside := s.SetAside(p.name, p.digest); aside || s.Version.String() != "6" || s.Damaged != "" {
				t.Errorf("status is %+v", s)
			}
			must(t, os.RemoveAll(filepath.Join(b.c.Dir, "ballast")))
			s = b.with(func(i *install.Installer) {
				if err := i.Resume(t.Context()); err != nil {
					wantErr(t, err, install.ErrRolledBack)
				}
			})
			if told := b.told("ran"); !slices.Equal(told, []string{"6", "7", "6"}) || s.Attempt != nil || len(s.Failures) != 0 {
				t.Errorf("ran %q, status is %+v", told, s)
			}
			b.c.Env = []string{"BALLAST=none"}
			must(t, syscall.Mount("tmpfs", b.c.Dir, "tmpfs", syscall.MS_REMOUNT, "size=64m,nr_inodes=1000"))
			b.mustInstall(p)
		})
	}
}

// What a script says of a full disk elsewhere counts, too. After a day it is tried again with no more room.
func TestFullDiskElsewhere(t *testing.T) {
	b := onSmallDisk(t, "size=64m") // of which nobody else takes or frees anything
	p := script(t, 7, ran+"[ -e $HOME/room ] || { echo 'cp: error writing /opt/meter: No space left on device'; exit 1; }\n")
	if s := b.fails(p, disk.ErrNoSpace); len(s.Failures) != 0 {
		t.Errorf("failures are %+v", s.Failures)
	}
	must(t, os.WriteFile(filepath.Join(b.home, "room"), nil, 0o644))
	b.fails(p, disk.ErrNoSpace)
	b.wantTold("ran", "7")
	b.c.Now = func() time.Time { return epoch.Add(25 * time.Hour) }
	b.mustInstall(p)
	b.wantTold("ran", "7", "7")
}

// A script that fills the disk by its own fault is tried once a day, until it is withdrawn. What it leaves where it ran is gone after
// each time.
func TestScriptThatFillsTheDiskLeavesNothing(t *testing.T) {
	b := onSmallDisk(t, "size=12m")
	p := script(t, 7, ran+"head -c 1G /dev/zero > all; exit 1\n")
	var free []uint64
	for day := range 3 {
		b.c.Now = func() time.Time { return epoch.Add(time.Duration(day) * 25 * time.Hour) }
		if s := b.fails(p, disk.ErrNoSpace); len(s.Failures) != 0 {
			t.Errorf("day %d: failures are %+v", day, s.Failures)
		}
		var disk syscall.Statfs_t
		must(t, syscall.Statfs(b.c.Dir, &disk))
		free = append(free, disk.Bavail*uint64(disk.Bsize))
	}
	b.wantTold("ran", "7", "7", "7")
	if free[0] < 8<<20 || free[1] != free[0] || free[2] != free[0] {
		t.Errorf("free after each time: %d bytes", free)
	}
	b.mustInstall(script(t, 8, ran))
}

// A disk that can't be written to says so, and works again once it can.
func TestReadOnlyDisk(t *testing.T) {
	b := onSmallDisk(t, "size=64m")
	p := script(t, 7, ran)
	must(t, b.open().Close())
	must(t, syscall.Mount("tmpfs", b.c.Dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	if _, err := install.Open(b.c); !errors.Is(err, syscall.EROFS) {
		t.Errorf("error is %v", err)
	}
	must(t, syscall.Mount("tmpfs", b.c.Dir, "tmpfs", syscall.MS_REMOUNT, ""))
	b.mustInstall(p)
}
