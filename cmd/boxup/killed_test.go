package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update/install"
)

// randomKills is how often a box is killed at random instants, randomLanes how many are at once.
const (
	randomKills = 100
	randomLanes = 8
)

const patience = testworld.Patience

// killWorld is a box that has one update, and a mirror with the next.
type killWorld struct {
	*world
	m    *mirror
	base *device
}

func newKillWorld(t *testing.T) *killWorld {
	t.Helper()
	w := newWorldAt(t, time.Now().Add(-time.Hour).Truncate(time.Second))
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	k := &killWorld{w, w.mirror(), nil}
	k.base = w.newDevice(map[string]any{"state": "../S", "root": "root.json"}, k.m)
	k.base.must(0, "update")
	w.pass(time.Hour)
	k.base.now = w.at
	// Two blocks, and some files.
	w.publish(trust.Conditions{}, map[string][]byte{two: tarball(t, named(t, two), map[string]string{
		"VERSION": "200\n", "data": noise(5 << 20),
		"install_update.sh": "#!/bin/sh\nset -e\nK=../../../../../kill\n[ ! -e $K ] || . $K\necho $BOXUP_VERSION >>../../../../../ran\n[ ! -e $K ] || . $K\n",
	})})
	k.m.sync(w)
	return k
}

// fresh returns a copy of the box, so that each kill meets the same.
func (k *killWorld) fresh(t *testing.T) *device {
	t.Helper()
	return k.base.copied(t)
}

// copied returns a copy of a box whose configuration has relative paths.
func (d *device) copied(t *testing.T) *device {
	t.Helper()
	c := *d
	c.t, c.dir = t, t.TempDir()
	out, err := exec.CommandContext(t.Context(), "cp", "-a", d.dir+"/.", c.dir).CombinedOutput()
	if err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return &c
}

// command is boxup as it is, in a process of its own.
func (d *device) command(args ...string) *exec.Cmd {
	return exec.CommandContext(d.t.Context(), "boxup", append(args, "--config", d.path("C/config.json"))...)
}

// process is boxup update as a process of the test's own program.
func (d *device) process(env ...string) *exec.Cmd {
	d.t.Helper()
	self, err := os.Executable()
	check(d.t, err)
	cmd := exec.CommandContext(d.t.Context(), self, "update", "--config", d.path("C/config.json"))
	cmd.Env = append(os.Environ(), append(env, ordersVariable+"="+d.now.Format(time.RFC3339))...)
	return cmd
}

// killed reports whether a command was killed, and fails the test where it failed otherwise.
func killed(t *testing.T, out []byte, err error) bool {
	t.Helper()
	if err == nil {
		return false
	}
	exit, ok := err.(*exec.ExitError)
	if !ok {
		t.Fatal(err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("expected it killed, got %v\n%s", err, out)
	}
	return true
}

// recovers has another boxup go on, and checks that the right version is installed exactly once as
// recorded, and that nothing else is left.
func (d *device) recovers(when string) {
	d.t.Helper()
	// Processes that the one that was killed had started may hold its lock for a moment.
	deadline := time.Now().Add(patience)
	var out []byte
	var err error
	for {
		out, err = d.command("update").CombinedOutput()
		exit, failed := err.(*exec.ExitError)
		if !failed || exit.ExitCode() != status.ExitLocked || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		d.t.Errorf("killed %s: %v\n%s", when, err, out)
		return
	}
	s, err := install.ReadStatus(d.path("S"))
	check(d.t, err)
	recorded := 0
	for _, e := range s.History {
		if e.Name == named(d.t, two) && e.Outcome == install.OutcomeInstalled {
			recorded++
		}
	}
	if s.Installed == nil || s.Installed.Name != named(d.t, two) || s.Attempt != nil || recorded != 1 || !strings.HasPrefix(d.ran(), "100 200") {
		d.t.Errorf("killed %s: installed %+v, attempt %+v, recorded %d times, ran %q", when, s.Installed, s.Attempt, recorded, d.ran())
	}
	d.clean()
}

// stepName says what a step on the disk belongs to.
func stepName(line string) string {
	op, path, _ := strings.Cut(line, " ")
	for _, s := range []struct{ part, name string }{
		{"/S/metadata", "trust"},
		{"/S/staging", "fetch"},
		{"/S/sha256", "fetch"},
		{"/S/targets", "fetch"},
		{"/S/install/record.json", "record"},
		{"/S/install/archives", "hold"},
		{"/S/install/work", "unpack"},
		{"/S/install", "install"},
		{"/S/box.json", "remember"},
	} {
		if strings.Contains(path, s.part) {
			if s.name == "fetch" && op == "remove" {
				return "tidy"
			}
			return s.name
		}
	}
	return "open"
}

// TestKilledAtEveryStep kills a box with kill -9 before every step that it takes on the disk from the first
// request to the record, in its script, and while it unpacks.
func TestKilledAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	k := newKillWorld(t)
	d := k.fresh(t)
	log := filepath.Join(t.TempDir(), "steps")
	if out, err := d.process(stepsVariable + "=" + log).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(log)
	check(t, err)
	steps := strings.Split(strings.TrimSpace(string(b)), "\n")
	kills := map[string]int{}
	var mu sync.Mutex
	t.Run("steps", func(t *testing.T) {
		for i, line := range steps {
			t.Run(strconv.Itoa(i+1), func(t *testing.T) {
				t.Parallel()
				d := k.fresh(t)
				out, err := d.process(killVariable + "=" + strconv.Itoa(i+1)).CombinedOutput()
				if !killed(t, out, err) {
					t.Fatalf("%s never came", line)
				}
				mu.Lock()
				kills[stepName(line)]++
				mu.Unlock()
				d.recovers("before " + line)
			})
		}
	})
	kills["script"] = k.killInScript(t)
	kills["unpack"] += k.killWhen(t, "unpacking", "S/install/work/update/"+named(t, two).Top()+"/data")
	kills["download"] = k.killWhen(t, "downloading", "S/staging/*.part")
	for _, step := range []string{"trust", "fetch", "download", "tidy", "hold", "unpack", "script", "record", "remember"} {
		t.Logf("%s: killed %d times", step, kills[step])
		if kills[step] == 0 {
			t.Errorf("%s: never killed", step)
		}
	}
}

// killInScript has the script kill the boxup that started it, at its begin or at its end.
func (k *killWorld) killInScript(t *testing.T) (kills int) {
	t.Helper()
	for _, at := range []string{"1", "2"} {
		d := k.fresh(t)
		d.write("kill", []byte("N=$((${N:-0}+1))\n[ $N != "+at+" ] || { rm ../../../../../kill; kill -9 $PPID; sleep 60; }\n"))
		out, err := d.command("update").CombinedOutput()
		if killed(t, out, err) {
			kills++
		}
		d.recovers("in the script, " + at)
	}
	return kills
}

// killWhen kills a box as soon as a file is there.
func (k *killWorld) killWhen(t *testing.T, when, pattern string) (kills int) {
	t.Helper()
	for range 5 {
		d := k.fresh(t)
		cmd := d.command("update")
		check(t, cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		var err error
		for ended := false; !ended; {
			select {
			case err = <-done:
				ended = true
			default:
				if found, _ := filepath.Glob(d.path(pattern)); found != nil {
					_ = cmd.Process.Kill() // it may have ended
					err = <-done
					ended = true
				}
			}
		}
		if killed(t, nil, err) {
			kills++
		}
		d.recovers(when)
	}
	return kills
}

// TestKilledAtRandom kills boxes at random instants.
func TestKilledAtRandom(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	k := newKillWorld(t)
	var runs, kills atomic.Int64
	t.Run("lanes", func(t *testing.T) {
		for i := range randomLanes {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				took := k.took(t)
				for kills.Load() < randomKills && runs.Add(1) <= 4*randomKills {
					kills.Add(k.killAfter(t, time.Duration(rand.Float64()*float64(took))))
				}
			})
		}
	})
	t.Logf("killed %d times in %d runs", kills.Load(), runs.Load())
	if kills.Load() < randomKills {
		t.Error("killed too seldom")
	}
}

// took returns how long an update takes that nobody kills.
func (k *killWorld) took(t *testing.T) time.Duration {
	t.Helper()
	d, began := k.fresh(t), time.Now()
	if out, err := d.command("update").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return time.Since(began)
}

// killAfter kills a box after that time, and returns how often, once or never, it was still at work then.
func (k *killWorld) killAfter(t *testing.T, after time.Duration) (kills int64) {
	t.Helper()
	d := k.fresh(t)
	cmd := d.command("update")
	check(t, cmd.Start())
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended
	err := cmd.Wait()
	timer.Stop()
	if killed(t, nil, err) {
		kills++
	}
	d.recovers(fmt.Sprintf("after %v", after))
	return kills
}

// TestResumed: a download that was killed goes on where it was, and only what is not on the disk yet comes
// again.
func TestResumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mirror()
	d := w.newDevice(map[string]any{"state": "../S", "rate": 40 << 20}, m)
	big := tarball(t, named(t, one), map[string]string{"VERSION": "100\n", "install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran\n", "data": noise(80 << 20)})
	w.publish(trust.Conditions{}, map[string][]byte{one: big})
	m.sync(w)
	cmd := d.process()
	check(t, cmd.Start())
	deadline := time.Now().Add(patience)
	for {
		if found, _ := filepath.Glob(d.path("S/staging/*.map")); found != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no block was settled")
		}
	}
	check(t, cmd.Process.Kill())
	if !killed(t, nil, cmd.Wait()) {
		t.Fatal("it was not killed")
	}
	d.configure(map[string]any{"rate": int64(1) << 40})
	m.asked()
	ranged := ""
	m.on(headerOf(&ranged))
	if out, err := d.process().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var from int
	if _, err := fmt.Sscanf(ranged, "bytes=%d-", &from); err != nil || from == 0 {
		t.Errorf("asked for range %q of %d bytes", ranged, len(big))
	}
	d.has("100", "100")
	d.clean()
}

// TestServicesAreStartedFirst: a box that was killed while a hook had stopped a service starts it with its next
// run, before it waits, whatever is the matter with its root, its metadata and its mirrors.
func TestServicesAreStartedFirst(t *testing.T) {
	t.Parallel()
	k := newKillWorld(t)
	for name, c := range map[string]struct {
		code int
		hurt func(d *device)
	}{
		"nothing":     {0, func(*device) {}},
		"root":        {cliFailed, func(d *device) { check(t, os.Remove(d.path("C/root.json"))) }},
		"metadata":    {status.ExitUnavailable, func(d *device) { d.write("S/metadata/2.root.json", []byte("{")); d.offline() }},
		"mirrors":     {status.ExitUnavailable, (*device).offline},
		"the key":     {cliFailed, func(*device) {}}, // of the plain mode, which names a file that is missing
		"the product": {status.ExitRefused, func(d *device) { d.configure(map[string]any{"product": "another"}) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := k.fresh(t)
			hook := func(dir, text string) {
				d.write(dir+"/10-service", []byte("#!/bin/sh\n"+text+" >>"+d.path("service")+"\n"))
				check(t, os.Chmod(d.path(dir+"/10-service"), 0o755))
			}
			hook("pre", "echo stopped")
			hook("post", "echo started after $BOXUP_RESULT")
			d.configure(map[string]any{"pre_install": "../pre", "post_install": "../post"})
			d.write("kill", []byte("rm ../../../../../kill; kill -9 $PPID; sleep 60\n"))
			if out, err := d.command("update").CombinedOutput(); !killed(t, out, err) {
				t.Fatalf("it was not killed\n%s", out)
			}
			c.hurt(d)
			args := []string{"update", "--splay", "100h"}
			if name == "the key" {
				args = append(args, "--key", d.path("missing.pub"), "http://127.0.0.1:1")
			}
			var out []byte
			var err error
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
				out, err = d.command(args...).CombinedOutput()
				if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != status.ExitLocked {
					break // what was killed while it started another program shares its lock for a moment
				}
			}
			code := 0
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				code = exit.ExitCode()
			}
			b, err := os.ReadFile(d.path("service"))
			check(t, err)
			want := "stopped\nstarted after failed\n"
			switch name {
			case "nothing":
				want += "stopped\nstarted after installed\n"
			case "the product": // what was interrupted is another product's
				want = "stopped\n"
			}
			if code != c.code || string(b) != want {
				t.Errorf("exit code %d, service %q, want %d, %q\n%s", code, b, c.code, want, out)
			}
		})
	}
}

// offline has the box know no mirror that answers, and nothing that was fetched.
func (d *device) offline() {
	d.t.Helper()
	check(d.t, os.RemoveAll(d.path("S/sha256")))
	d.configure(map[string]any{"mirrors": []string{"http://127.0.0.1:1"}})
}
