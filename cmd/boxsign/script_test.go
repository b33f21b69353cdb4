package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
)

func TestMain(m *testing.M) {
	testscript.Main(withPrograms{m}, map[string]func(){"boxsign-at": mainAt})
}

// withPrograms puts the programs in the path of the tests.
type withPrograms struct{ *testing.M }

func (m withPrograms) Run() int { return testworld.RunWithPrograms(m.M) }

// program runs boxsign in a script.
func program(ts *testscript.TestScript, neg bool, args []string) {
	name := "boxsign"
	if ts.Getenv("TEST_NOW") != "" || ts.Getenv("TEST_SEAL") != "" {
		name = "boxsign-at"
	}
	if err := ts.Exec(name, args...); neg && err == nil {
		ts.Fatalf("unexpected command success")
	} else if !neg && err != nil {
		ts.Fatalf("unexpected command failure: %v", err)
	}
}

// mainAt is main with the clock that TEST_NOW says, a time like 2040-01-01T00:00:00Z, and killed before the
// change of the disk that TEST_KILL numbers; TEST_SEAL is what sealing a backup costs. It doesn't sync: a kill is no power cut; and between a temporary
// file that is empty and one that is full is no difference to who comes next.
func mainAt() {
	s := cli.System()
	if now := os.Getenv("TEST_NOW"); now != "" {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			panic(err)
		}
		s.Now = func() time.Time { return at }
	}
	left, _ := strconv.Atoi(os.Getenv("TEST_KILL")) // 0: never
	s.Disk.Hook = func(op disk.Op, _ string) (bool, error) {
		if op == disk.OpSync || op == disk.OpSyncDir {
			return false, nil
		}
		if op != disk.OpWrite {
			left--
		}
		if left == 0 && op != disk.OpWrite {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {}
		}
		return true, nil
	}
	sealCost, _ := strconv.Atoi(os.Getenv("TEST_SEAL")) // 0: as for users
	os.Exit(runProcess(s, sealCost))
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup:              setupValues,
		Condition:          condition,
		UpdateScripts:      os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"boxsign":     program,
			"usage":       usage,
			"nothing":     nothing,
			"hostile":     hostile,
			"interrupted": interrupted,
			"snapshot":    snapshot,
			"unchanged":   unchanged,
			"modes":       modes,
			"held":        held,
			"released":    released,
			"large":       large,
			"blobs-of":    blobsOf,
			"ci-recipe":   ciRecipe,
			"clean-of":    cleanOf,

			"bare-keys": bareKeys,

			"origin":  origin,
			"liar":    liar,
			"pick":    pick,
			"dropped": dropped,
			"answers": answers,

			"gobuild": goBuild,
			"before":  unpackBefore,
			"live":    live,
			"placed":  placed,

			"released-boxup": releasedBoxup,

			"again":         again,
			"change-blob":   changeBlob,
			"tamper":        tamper,
			"tamper-target": tamperTarget,
			"sig-of":        sigOf,

			"agent":         agent,
			"openssl-check": opensslCheck,
			"flip":          flip,
			"smalldisk":     smallDisk,
			"fill":          fill,
		},
	})
}

// usage runs boxsign and expects the exit code 2 and no result.
func usage(ts *testscript.TestScript, _ bool, args []string) {
	var exit *exec.ExitError
	err := ts.Exec("boxsign", args...)
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		ts.Fatalf("boxsign %s: got %v, want exit code 2", strings.Join(args, " "), err)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout has %q", out)
	}
}

// nothing expects no archive and no temporary file in the current directory.
func nothing(ts *testscript.TestScript, _ bool, _ []string) {
	for _, pattern := range []string{"*.tar.*", ".tmp-*"} {
		left, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(left) > 0 {
			ts.Fatalf("left behind: %q", left)
		}
	}
}

// ciRecipe writes the script that publishes from CI.
func ciRecipe(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(filepath.Join("..", "..", "packaging", "ci", "publish.sh"))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o755))
}

// cleanOf expects that a passphrase and the release key of A are neither in what the last command said nor in any file but the
// key itself, and that the recipe for CI left no directory.
func cleanOf(ts *testscript.TestScript, _ bool, args []string) {
	key := strings.Split(strings.TrimSpace(ts.ReadFile(filepath.Join(ts.Getenv("WORK"), "A", "release.pem"))), "\n")
	secrets := []string{args[0], key[len(key)-2]}
	for _, name := range []string{"stdout", "stderr"} {
		for _, secret := range secrets {
			if strings.Contains(ts.ReadFile(name), secret) {
				ts.Fatalf("%s has %s", name, secret)
			}
		}
	}
	ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || path == filepath.Join(ts.Getenv("WORK"), "A", "release.pem") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(b, []byte(secret)) {
				ts.Fatalf("%s has %s", path, secret)
			}
		}
		return err
	}))
	if left, err := filepath.Glob("/dev/shm/publish.*"); err != nil || len(left) > 0 {
		ts.Fatalf("left behind: %q, %v", left, err)
	}
}

// hostile writes an archive with an entry that a terminal must not see.
func hostile(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	ts.Check(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "p-2/\x1b[2J\u202egpj", Mode: 0o644, ModTime: time.Unix(0, 0)}))
	ts.Check(errors.Join(w.Close(), z.Close(), f.Close()))
}

// interrupted runs boxsign and interrupts it while it writes: it reads a sparse file that takes it
// minutes, and its temporary file is there.
func interrupted(ts *testscript.TestScript, _ bool, args []string) {
	large, err := os.Create(ts.MkAbs("DIR/large"))
	ts.Check(err)
	ts.Check(errors.Join(large.Truncate(8<<30), large.Close()))
	var out, errs strings.Builder
	path, err := exec.LookPath("boxsign")
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.Getenv("WORK"), &out, &errs
	ts.Check(cmd.Start())
	for deadline := time.Now().Add(testworld.Patience); ; {
		left, err := filepath.Glob(ts.MkAbs(".tmp-*"))
		ts.Check(err)
		if len(left) == 1 {
			break
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			ts.Fatalf("no temporary file: %s", errs.String())
		}
	}
	ts.Check(cmd.Process.Signal(syscall.SIGINT))
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 130 || out.String() != "" || errs.String() != "boxsign: interrupted\n" {
		ts.Fatalf("got %v, stdout %q, stderr %q; want exit code 130 and a word on stderr", err, out.String(), errs.String())
	}
}

// unpackBefore unpacks what an earlier version made into the directory of the script.
func unpackBefore(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(testworld.Before(ts.Getenv("WORK")))
}
