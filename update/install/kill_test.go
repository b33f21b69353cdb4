package install_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
	"github.com/openpowerquality/box-update-server/update/install"
)

// victimEnv holds, in the environment of a process that is to be killed, what it does.
const victimEnv = "INSTALL_VICTIM"

// orders is what a process does until it is killed.
type orders struct {
	Dir, Home, Path, Pre, Post string
	Name, Archive              string
	Step                       int // before which it kills itself; 0: never
}

// victim installs one update and says at which step it is killed, or how that ended.
func victim() {
	var o orders
	if err := json.Unmarshal([]byte(os.Getenv(victimEnv)), &o); err != nil {
		panic(err)
	}
	err := o.obey()
	fmt.Println("ended:", err)
}

func (o orders) obey() error {
	var steps atomic.Int64
	step := func(what string) {
		if steps.Add(1) == int64(o.Step) {
			fmt.Println(what)
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {} // until the kernel gets to it
		}
	}
	c := killedConfig(o.Dir, o.Home, o.Path, o.Pre, o.Post)
	c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		if path == o.Archive {
			path = o.Dir + "/install/ the verified file"
		}
		step(string(op) + " ." + strings.TrimPrefix(path, o.Dir+"/install"))
		return true, nil
	}
	c.Logger = slog.New(stepper(step))
	i, err := install.Open(c)
	if err != nil {
		return err
	}
	err = o.install(i)
	if _, rebootErr := i.Reboot(context.Background()); rebootErr != nil {
		return rebootErr
	}
	return errors.Join(err, i.Close())
}

func (o orders) install(i *install.Installer) error {
	raw, err := os.ReadFile(o.Archive)
	if err != nil {
		return err
	}
	n, err := update.ParseName(o.Name)
	if err != nil {
		return err
	}
	v, err := verify(n, raw)
	if err != nil {
		return err
	}
	f, err := os.Open(o.Archive)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = i.Install(context.Background(), v, f, install.Options{})
	return err
}

func killedConfig(dir, home, path, pre, post string) install.Config {
	return install.Config{
		Dir: dir, Home: home, Path: path, PreHooks: pre, PostHooks: post, BootID: "first boot",
		Grace: 200 * time.Millisecond, Reboot: install.RebootAsked, RebootCommand: []string{"shutdown", "-r"},
		MaxFailures: 3, Now: func() time.Time { return epoch },
	}
}

// stepper makes each message of a log a step.
type stepper func(what string)

func (stepper) Enabled(context.Context, slog.Level) bool { return true }

func (s stepper) Handle(_ context.Context, r slog.Record) error {
	what := "log " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "phase" || a.Key == "program" || a.Key == "entry" {
			what += " " + a.Value.String()
		}
		return true
	})
	s(what)
	return nil
}

func (s stepper) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s stepper) WithGroup(string) slog.Handler      { return s }

// kill starts a process that installs p on the box, and reports what it said and whether it was killed.
func (b *box) kill(p parcel, step int, after time.Duration) (said string, killed bool) {
	b.t.Helper()
	raw, err := json.Marshal(orders{b.c.Dir, b.home, b.c.Path, b.c.PreHooks, b.c.PostHooks, p.name.String(), p.path, step})
	must(b.t, err)
	cmd := exec.CommandContext(b.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(raw))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(b.t, cmd.Start())
	if after > 0 {
		timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
		defer timer.Stop()
	}
	err = cmd.Wait()
	said = strings.TrimSpace(out.String())
	if err == nil && strings.HasPrefix(said, "ended:") {
		return said, false
	}
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		b.t.Fatalf("expected it killed or ended, got %v\n%s", err, said)
	}
	b.awaitLock()
	return said, true
}

// awaitLock waits until nobody has the lock: a process that is killed while it starts another shares it
// with that until the other program runs.
func (b *box) awaitLock() {
	b.t.Helper()
	if _, err := os.Stat(b.at()); err != nil {
		return
	}
	await(b.t, "the lock", func() bool {
		lock, err := disk.TryLock(b.at("lock"))
		if errors.Is(err, disk.ErrLocked) {
			return false
		}
		must(b.t, err)
		must(b.t, lock.Unlock())
		return true
	})
}

// victimBox returns a box that is as one of kill is.
func victimBox(t testing.TB) *box {
	t.Helper()
	b := newBox(t)
	b.c = killedConfig(b.c.Dir, b.home, b.c.Path, b.c.PreHooks, b.c.PostHooks)
	return b
}

// story is an installation in which a process is killed.
type story struct {
	name    string
	prepare func(b *box)
	p       parcel
	ends    []error         // one of which the next installation ends with; nil for success
	version string          // that is installed then
	outcome install.Outcome // that is recorded once
	reboot  bool            // is due then
	steps   []string        // at which it must have been killed
}

func stories(t testing.TB) []story {
	t.Helper()
	base := victimBox(t)
	base.mustInstall(script(t, 7, ran))
	hooked := func(b *box) {
		must(b.t, os.CopyFS(b.c.Dir, os.DirFS(base.c.Dir)))
		must(b.t, os.CopyFS(b.home, os.DirFS(base.home)))
		b.pre("stop", "echo stopped >> $HOME/service")
		b.post("check", "echo started >> $HOME/service; "+checks)
	}
	copied := script(t, 9, ran+"reboot\n")
	must(t, os.Chmod(copied.path, 0o644))
	record := []string{
		"create ./record.json.copy", "write ./record.json.copy", "sync ./record.json.copy", "rename ./record.json.copy",
		"create ./record.json", "write ./record.json", "sync ./record.json", "rename ./record.json", "syncdir .",
	}
	linked := []string{"sync ./ the verified file", "link ./archives/<digest>", "syncdir ./archives", "log unpacking", "remove ./archives/<digest>"}
	script9 := []string{"log phase script", "log running install_update.sh script"}
	before := append([]string{"log phase before", "log running stop before"}, script9...)
	unpacked := func(version int) (steps []string) {
		for _, name := range []string{"", "VERSION", "install_update.sh"} {
			steps = append(steps, fmt.Sprintf("log unpacking entry opq-box-update-%d/%s", version, name))
		}
		return steps
	}
	installed := []error{nil, install.ErrInstalled}
	return []story{
		{"update", hooked, script(t, 9, ran+"reboot\n"), installed, "9", install.OutcomeInstalled, true,
			slices.Concat(record, linked, unpacked(9), before, []string{"log phase check", "log running check check", "log installed", "log rebooting"})},
		{"first one, copied", func(*box) {}, copied, installed, "9", install.OutcomeInstalled, true,
			slices.Concat(record, unpacked(9), script9, []string{"mkdir .", "mkdir ./archives", "mkdir ./log", "create ./archives/<digest>", "write ./archives/<digest>", "log unpacking", "log installed"})},
		{"back", hooked, script(t, 8, ran), []error{install.ErrRolledBack, install.ErrSetAside}, "7", install.OutcomeRolledBack, false,
			slices.Concat(record, linked, unpacked(8), unpacked(7), before, []string{"log phase check", "log phase back", "log running stop back", "log running install_update.sh back", "log running check back", "log went back"})},
		{"fails", hooked, script(t, 9, ran+"exit 1\n"), []error{install.ErrScript}, "7", "", false,
			slices.Concat(record, linked, unpacked(9), before, []string{"log phase over", "log running check over"})},
		{"improper", hooked, packHeaders(t, 9, seedHeaders(9, ran)[:1]), []error{archive.ErrImproper, install.ErrSetAside}, "7", install.OutcomeRefused, false,
			slices.Concat(record, linked, unpacked(9)[:1])},
	}
}

// finish has another process go on where one was killed, and checks how that ends.
func (s story) finish(b *box) {
	b.t.Helper()
	b.with(func(i *install.Installer) {
		if err := i.Resume(context.Background()); err != nil && !errors.Is(err, install.ErrRolledBack) {
			b.t.Errorf("resume: %v", err)
		}
	})
	s.wantStarted(b)
	_, got, err := b.install(s.p, install.Options{})
	if !slices.ContainsFunc(s.ends, func(want error) bool { return errors.Is(err, want) }) {
		b.t.Fatalf("ended with %v, want one of %v", err, s.ends)
	}
	if got.Version.String() != s.version || got.Damaged != "" {
		b.t.Errorf("status is %+v, want version %s", got, s.version)
	}
	n := 0
	for _, e := range got.History {
		if e.Name == s.p.name && e.Outcome == s.outcome {
			n++
		}
	}
	if n != 1 && s.outcome != "" {
		b.t.Errorf("%q is recorded %d times in %+v", s.outcome, n, got.History)
	}
	if told := b.told("ran"); s.outcome != "" && (len(told) == 0 || told[len(told)-1] != s.version) {
		b.t.Errorf("scripts of versions %v ran, want %s as the last", told, s.version)
	}
	s.wantStarted(b)
	if due := got.Reboot != nil && got.Reboot.Due; due != s.reboot {
		b.t.Errorf("reboot is %+v, want due %t", got.Reboot, s.reboot)
	}
}

// wantStarted checks that what a hook stopped was started again by a later one.
func (story) wantStarted(b *box) {
	b.t.Helper()
	if service := b.told("service"); len(service) > 0 && service[len(service)-1] != "started" {
		b.t.Errorf("service is %v", service)
	}
}

// TestKilledAtEveryStep kills a process before each change of the file system and each message of the log.
func TestKilledAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	if testing.Short() {
		t.Skip("starts some hundred processes")
	}
	for _, s := range stories(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			kills := map[string]int{}
			for n, more := 1, true; more; n++ {
				b := victimBox(t)
				s.prepare(b)
				var said string
				if said, more = b.kill(s.p, n, 0); more {
					kills[stepName(said)]++
				}
				s.finish(b)
				if t.Failed() {
					t.Fatalf("step %d: %s", n, said)
				}
			}
			for _, step := range slices.Sorted(maps.Keys(kills)) {
				t.Logf("%s: killed %d times", step, kills[step])
			}
			for _, step := range s.steps {
				if kills[step] == 0 {
					t.Errorf("%q: never killed", step)
				}
			}
		})
	}
}

// stepName gives steps on files that differ in their digest one name.
func stepName(said string) string {
	return regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(said, "<digest>")
}

// TestKilledAtRandom kills processes while scripts run that take some time.
func TestKilledAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a hundred processes")
	}
	s := stories(t)[0]
	s.p = script(t, 9, "#!/bin/sh\nsleep 0.02\n"+strings.TrimPrefix(ran, "#!/bin/sh\n")+"sleep 0.02\nreboot\n")
	var runs, killed atomic.Int64
	t.Run("lanes", func(t *testing.T) {
		for i := range 8 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				b := victimBox(t)
				s.prepare(b)
				began := time.Now()
				b.kill(s.p, 0, 0)
				for span := int64(time.Since(began)); runs.Add(1) <= 100; {
					b := victimBox(t)
					s.prepare(b)
					if _, was := b.kill(s.p, 0, 1+time.Duration(rand.Int64N(span))); was {
						killed.Add(1)
					}
					s.finish(b)
				}
			})
		}
	})
	if killed.Load() < 20 {
		t.Errorf("killed %d of 100", killed.Load())
	}
	t.Logf("killed %d of 100", killed.Load())
}

// lethal are lines that kill the installer and leave a process running.
const lethal = "echo $$ >> $HOME/pids; kill -9 $PPID; exec sleep 305"

// A script that takes the installer down, as one does that reboots in a way that isn't noticed, runs again
// when it is tried again, and is set aside in the end.
func TestScriptKillsInstaller(t *testing.T) {
	b := victimBox(t)
	p := script(t, 7, ran+lethal+"\n")
	for n := 1; n <= 3; n++ {
		if said, killed := b.kill(p, 0, 0); !killed {
			t.Fatalf("%d: %s", n, said)
		}
		s := b.status()
		b.tidy(s)
		b.wantDead(n)
		if s.Failures[0].Count != n || s.Failures[0].SetAside != (n == 3) || s.History[n-1].Outcome != install.OutcomeInterrupted {
			t.Fatalf("%d: status is %+v", n, s)
		}
	}
	b.fails(p, install.ErrSetAside)
	b.mustInstall(script(t, 8, ran))
}

// attempts counts how often a process is killed that installs p, until one isn't.
func (b *box) attempts(p parcel) (kills int) {
	b.t.Helper()
	for kills < 10 {
		if _, killed := b.kill(p, 0, 0); !killed {
			break
		}
		kills++
	}
	return kills
}

func TestPreHookKillsInstaller(t *testing.T) {
	b := victimBox(t)
	p := script(t, 8, ran)
	b.pre("10-stop", lethal)
	if kills := b.attempts(p); kills != 10 {
		t.Errorf("%d kills: they don't count", kills)
	}
	if s := b.status(); len(s.Failures) != 0 {
		t.Errorf("failures are %+v", s.Failures)
	}
	b.wantDead(10)
	b.wantTold("ran")
}

func TestCheckKillsInstaller(t *testing.T) {
	b := victimBox(t)
	seven, p := script(t, 7, ran), script(t, 8, ran)
	b.mustInstall(seven)
	b.post("10-check", "[ $BOXUP_VERSION != 8 ] || { "+lethal+"; }")
	if said, killed := b.kill(p, 0, 0); !killed {
		t.Fatal(said)
	}
	s := b.status()
	if s.Attempt == nil || s.Attempt.Phase != install.PhaseCheck || s.Version.String() != "7" {
		t.Errorf("status is %+v", s)
	}
	if kills := b.attempts(p); kills != 3 {
		t.Errorf("%d further checks, want 3", kills)
	}
	b.wantTold("ran", "7", "8", "7") // the script that had ended well did not run again
	s = b.fails(p, install.ErrSetAside)
	b.wantInstalled(s, seven)
	if s.History[len(s.History)-1].Outcome != install.OutcomeRolledBack {
		t.Errorf("history is %+v", s.History)
	}
	b.wantDead(4)
}

func TestStartKillsInstaller(t *testing.T) {
	b := victimBox(t)
	b.post("10-start", lethal)
	p := script(t, 8, ran+"exit 1\n")
	if kills := b.attempts(p); kills != 10 { // each of two tries: once, and three times by Resume
		t.Errorf("%d kills", kills)
	}
	b.wantTold("ran", "8", "8", "8")
	b.status()
	b.wantDead(10)
}

func TestGoingBackKillsInstaller(t *testing.T) {
	b := victimBox(t)
	b.mustInstall(script(t, 7, ran+"[ -z \"$BOXUP_PREVIOUS\" ] || { "+lethal+"; }\n"))
	b.post("10-check", checks)
	p := script(t, 8, ran)
	if kills := b.attempts(p); kills != 4 {
		t.Errorf("%d times back, want 4", kills)
	}
	s := b.fails(p, install.ErrSetAside)
	if !strings.Contains(s.Damaged, "can't go back: interrupted") {
		t.Errorf("status is %+v", s)
	}
	b.wantDead(4)
}

// A check that was interrupted and now succeeds ends the installation; the script doesn't run again.
func TestResume(t *testing.T) {
	b := victimBox(t)
	b.post("10-check", "[ -e $HOME/well ] || { "+lethal+"; }")
	p := script(t, 7, ran+"reboot\n")
	if said, killed := b.kill(p, 0, 0); !killed {
		t.Fatal(said)
	}
	must(t, os.WriteFile(filepath.Join(b.home, "well"), nil, 0o644))
	r, s, err := b.install(p, install.Options{})
	must(t, err)
	b.wantInstalled(s, p)
	b.wantTold("ran", "7")
	b.wantDead(1)
	if !r.Resumed || !r.Reboot || r.Installed != *s.Installed || s.Reboot == nil || !s.Reboot.Asked {
		t.Errorf("result is %+v, status %+v", r, s)
	}
}

// A service that is stopped for an update runs again whatever ends that: a kill in each program that runs, the
// next start, and the end of all tries.
func TestServicesAreStarted(t *testing.T) {
	const stop, start = "echo stopped for $BOXUP_VERSION >> $HOME/service", "echo started after $BOXUP_RESULT $BOXUP_VERSION >> $HOME/service"
	t.Run("killed in the script", func(t *testing.T) {
		b := victimBox(t)
		b.pre("10-stop", stop)
		b.post("10-start", start)
		p := script(t, 7, ran+lethal+"\n")
		for n := 1; n <= 3; n++ {
			if said, killed := b.kill(p, 0, 0); !killed {
				t.Fatalf("%d: %s", n, said)
			}
			s := b.resume(nil)
			b.wantDead(n)
			if s.Failures[0].Count != n || s.Attempt != nil {
				t.Fatalf("%d: status is %+v", n, s)
			}
		}
		b.fails(p, install.ErrSetAside)
		round := []string{"stopped_for_7", "started_after_failed_7"}
		b.wantTold("service", slices.Concat(round, round, round)...)
	})
	t.Run("killed in a hook before", func(t *testing.T) {
		b := victimBox(t)
		b.pre("10-stop", stop)
		b.pre("20-kill", lethal)
		b.post("10-start", start)
		if said, killed := b.kill(script(t, 7, ran), 0, 0); !killed {
			t.Fatal(said)
		}
		if s := b.resume(nil); len(s.Failures) != 0 {
			t.Errorf("failures are %+v", s.Failures)
		}
		b.wantTold("service", "stopped_for_7", "started_after_failed_7")
	})
	t.Run("killed while they are started", func(t *testing.T) {
		b := victimBox(t)
		b.pre("10-stop", stop)
		b.post("10-start", "[ -e $HOME/well ] || { "+lethal+"; }\n"+start)
		p := script(t, 7, ran+"exit 1\n")
		for range 2 {
			if said, killed := b.kill(p, 0, 0); !killed {
				t.Fatal(said)
			}
		}
		must(t, os.WriteFile(filepath.Join(b.home, "well"), nil, 0o644))
		b.resume(nil)
		b.wantTold("service", "stopped_for_7", "started_after_failed_7")
	})
	t.Run("no way back", func(t *testing.T) {
		b := victimBox(t)
		b.pre("10-stop", stop)
		b.post("10-check", checks)
		b.post("20-start", start)
		b.fails(script(t, 8, ran), install.ErrDamaged)
		b.wantTold("service", "stopped_for_8", "started_after_failed_8")
	})
	t.Run("interrupted in the check", func(t *testing.T) {
		b := victimBox(t)
		b.c.Grace = 20 * time.Second
		b.pre("10-stop", stop)
		b.post("10-check", "[ $BOXUP_RESULT = failed ] || { touch $HOME/ready; exec sleep 306; }")
		b.post("20-start", start)
		p := script(t, 7, ran)
		s := b.with(func(i *install.Installer) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				f, err := os.Open(p.path)
				if err == nil {
					_, err = i.Install(ctx, p.v, f, install.Options{})
					f.Close()
				}
				ended <- err
			}()
			await(t, "the check", func() bool { _, err := os.Stat(filepath.Join(b.home, "ready")); return err == nil })
			cancel()
			wantErr(t, <-ended, context.Canceled)
		})
		if s.Attempt == nil || s.Attempt.Phase != install.PhaseCheck {
			t.Errorf("attempt is %+v", s.Attempt)
		}
		b.wantTold("service", "stopped_for_7", "started_after_failed_7")
		b.post("10-check", "true")
		b.resume(nil)
		b.mustBeInstalled(p)
		b.wantTold("service", "stopped_for_7", "started_after_failed_7", "started_after_installed_7")
	})
}

// resume has another process go on.
func (b *box) resume(want error) install.Status {
	b.t.Helper()
	return b.with(func(i *install.Installer) { wantErr(b.t, i.Resume(context.Background()), want) })
}

func (b *box) mustBeInstalled(p parcel) {
	b.t.Helper()
	b.wantInstalled(b.status(), p)
}
