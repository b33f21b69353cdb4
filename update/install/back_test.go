package install_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update/install"
)

// tells is a hook that says that it ran, and for what.
func tells(name string) string {
	return fmt.Sprintf("echo %s $BOXUP_VERSION from $BOXUP_PREVIOUS $BOXUP_RESULT $BOXUP_REBOOT >> $HOME/ran", name)
}

func TestHooks(t *testing.T) {
	b := newBox(t)
	b.c.Reboot = install.RebootAsked
	b.pre("20-second", tells("second")+"; test -x install_update.sh && test \"$PWD\" = \"$BOXUP_DIR\"")
	b.pre("10-first", tells("first"))
	b.pre(".hidden", tells("hidden"))
	b.pre("30-backup~", tells("backup"))
	b.pre("40-not-executable", tells("not executable"))
	must(t, os.Chmod(filepath.Join(b.c.PreHooks, "40-not-executable"), 0o644))
	must(t, os.Mkdir(filepath.Join(b.c.PreHooks, "50-directory"), 0o755))
	must(t, os.Symlink("10-first", filepath.Join(b.c.PreHooks, "60-link")))
	b.post("10-check", tells("check")+"; test -x install_update.sh")
	b.mustInstall(script(t, 7, ran+"reboot\n"))
	b.wantTold("ran", "first_7_from", "second_7_from", "first_7_from", "7", "check_7_from_installed_yes")
}

func TestHooksThatAreNotThere(t *testing.T) {
	b := newBox(t)
	must(t, os.Remove(b.c.PreHooks))
	b.c.PostHooks = ""
	b.mustInstall(script(t, 7, ran))
}

// A hook before the update stops it. That is no failure of the update, and what was stopped is started.
func TestPreHookFails(t *testing.T) {
	b := newBox(t)
	b.pre("10-ok", tells("pre"))
	b.pre("20-no", "echo not now; exit 1")
	b.pre("30-never", tells("never"))
	b.post("10-start", tells("start"))
	p := script(t, 7, ran)
	s := b.fails(p, install.ErrHook)
	b.wantTold("ran", "pre_7_from", "start_7_from_failed_no")
	if len(s.Failures) != 0 || s.History[0].Outcome != install.OutcomeStopped || s.History[0].Reason != "20-no: exit status 1: not now" {
		t.Errorf("status is %+v", s)
	}
	must(t, os.Remove(filepath.Join(b.c.PreHooks, "20-no")))
	b.mustInstall(p)
}

func TestScriptFailsBetweenHooks(t *testing.T) {
	b := newBox(t)
	b.pre("10-stop", tells("stop"))
	b.post("10-start", tells("start")+"; exit 1")
	b.post("20-start", tells("start"))
	b.fails(script(t, 7, ran+"exit 1\n"), install.ErrScript)
	b.wantTold("ran", "stop_7_from", "7", "start_7_from_failed_no", "start_7_from_failed_no")
}

// checks is a check that refuses version 8.
const checks = "test $BOXUP_VERSION != 8 || { echo all is lost; exit 5; }"

func TestRolledBack(t *testing.T) {
	b := newBox(t)
	b.c.Reboot = install.RebootAsked
	good, bad := script(t, 7, ran+"test $BOXUP_PREVIOUS != 8 || reboot\n"), script(t, 8, ran)
	b.mustInstall(script(t, 6, ran))
	b.mustInstall(good)
	must(t, os.Remove(filepath.Join(b.home, "ran")))
	b.pre("10-stop", tells("stop"))
	b.post("10-check", tells("check")+"; "+checks)
	s := b.fails(bad, install.ErrRolledBack)
	b.wantTold("ran", "stop_8_from_7", "8", "check_8_from_7_installed_no", "stop_7_from_8", "7", "check_7_from_8_installed_yes")

	b.wantInstalled(s, good)
	if s.Previous.Name.Version().String() != "6" || s.Damaged != "" || s.Reboot == nil || !s.Reboot.Due {
		t.Errorf("status is %+v", s)
	}
	last := s.History[len(s.History)-1]
	if last.Outcome != install.OutcomeRolledBack || last.Name != bad.name || last.Reason != "10-check: exit status 5: all is lost" {
		t.Errorf("history ends with %+v", last)
	}
	if reason, ok := s.SetAside(bad.name, bad.digest); !ok || reason != last.Reason || s.Failures[0].Count != 1 {
		t.Errorf("failures are %+v", s.Failures)
	}
	b.fails(bad, install.ErrSetAside)
	b.fails(good, install.ErrInstalled)
	b.fails(script(t, 6, ran), install.ErrDowngrade)
	b.mustInstall(script(t, 9, ran))
}

// Where there is no way back, Status says so, and the version that should be there may be tried again.
func TestNoWayBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b *box, good parcel) // nil: nothing was installed before
		reason string
	}{
		{"nothing before", nil, "no other update was installed before"},
		{"kept archive changed", func(b *box, good parcel) {
			kept := b.at("archives", good.digest.String())
			raw, err := os.ReadFile(kept)
			must(b.t, err)
			raw[20] ^= 1
			must(b.t, os.Remove(kept))
			must(b.t, os.WriteFile(kept, raw, 0o400))
		}, "the archive of the update before: not the verified archive"},
		{"kept archive lost", func(b *box, good parcel) {
			must(b.t, os.Remove(b.at("archives", good.digest.String())))
		}, "the archive of the update before: open"},
		{"script fails", func(b *box, _ parcel) { b.program(filepath.Join(b.home, "trap"), "exit 9") }, "install_update.sh: exit status 9"},
		{"check fails again", func(b *box, _ parcel) { b.post("20-check", "exit 2") }, "20-check: exit status 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			good := script(t, 7, ran+"[ ! -e $HOME/trap ] || . $HOME/trap\n")
			if c.change != nil {
				b.mustInstall(good)
				c.change(b, good)
			}
			b.post("10-check", checks)
			p := script(t, 8, ran)
			s := b.with(func(i *install.Installer) {
				_, err := p.into(t, i, install.Options{})
				wantErr(t, err, install.ErrDamaged)
			})
			if !strings.Contains(s.Damaged, c.reason) || !strings.Contains(s.Damaged, "all is lost") {
				t.Errorf("damaged: %q, want %q", s.Damaged, c.reason)
			}
			if _, ok := s.SetAside(p.name, p.digest); !ok || s.History[len(s.History)-1].Outcome != install.OutcomeDamaged {
				t.Errorf("status is %+v", s)
			}
			must(t, os.RemoveAll(filepath.Join(b.c.PostHooks, "20-check")))
			must(t, os.RemoveAll(filepath.Join(b.home, "trap")))
			if s := b.mustInstall(good); s.Damaged != "" {
				t.Errorf("damaged: %q", s.Damaged)
			}
		})
	}
}

// The version that is installed can't be gone back to from itself.
func TestForcedAgainAndBad(t *testing.T) {
	b := newBox(t)
	p := script(t, 8, ran)
	b.mustInstall(p)
	b.post("10-check", checks)
	_, s, err := b.install(p, install.Options{Force: true})
	wantErr(t, err, install.ErrDamaged)
	b.wantInstalled(s, p)
	b.wantTold("ran", "8", "8")
}

// Stopping services may fail when the box goes back: there it has no choice.
func TestBackInSpiteOfAPreHook(t *testing.T) {
	b := newBox(t)
	b.mustInstall(script(t, 7, ran))
	b.pre("10-stop", "test $BOXUP_VERSION = 8")
	b.post("10-check", checks)
	b.fails(script(t, 8, ran), install.ErrRolledBack)
	b.wantTold("ran", "7", "8", "7")
}

// The log tells of both updates.
func TestLogOfABadUpdate(t *testing.T) {
	b := newBox(t)
	b.mustInstall(script(t, 7, "#!/bin/sh\n"))
	b.post("10-check", checks)
	s := b.fails(script(t, 8, "#!/bin/sh\n"), install.ErrRolledBack)
	raw, err := os.ReadFile(s.Log)
	must(t, err)
	head := func(version int, what string) string {
		return fmt.Sprintf("== 2026-03-01T12:00:00Z opq-box-update-%d.tar.gz %s\n", version, what)
	}
	want := head(7, "install_update.sh") + "-- succeeded\n" + head(8, "install_update.sh") + "-- succeeded\n" +
		head(8, "10-check") + "all is lost\n-- exit status 5\n" + head(7, "install_update.sh") + "-- succeeded\n" +
		head(7, "10-check") + "-- succeeded\n"
	if string(raw) != want {
		t.Errorf("log is\n%s, want\n%s", raw, want)
	}
}
