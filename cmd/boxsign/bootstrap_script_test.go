package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// goBuild builds the program of a folder for users, with more environment.
func goBuild(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command("go", "build", "-o", ts.MkAbs(args[0]), ".")
	cmd.Dir = ts.MkAbs(args[1])
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), args[2:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("go build: %v\n%s", err, out)
	}
}

// releasedBoxup builds boxup as a release of that version.
func releasedBoxup(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(testworld.BuildProgram(ts.MkAbs(args[0]), "./cmd/boxup", "-ldflags", "-X main.version="+args[1]))
}

// live runs a command line on this system, by default install_update.sh of the unpacked update args[0], with
// a layer of the directory args[1] above everything, so that all it changes is there. Systemd is a
// stand-in, which writes to srv/systemctl what it is asked for. What the command says is in live.out.
func live(ts *testscript.TestScript, _ bool, args []string) {
	layer, command := ts.MkAbs(args[1]), args[2:]
	if len(command) == 0 {
		command = []string{"/bin/sh", "-c", "cd /srv/update && ./install_update.sh"}
	}
	if _, err := os.Stat(layer); err != nil {
		makeLayer(ts, layer, ts.MkAbs(args[0]))
	}
	merged := filepath.Join(layer, "merged")
	options := "lowerdir=/,upperdir=" + filepath.Join(layer, "upper") + ",workdir=" + filepath.Join(layer, "work")
	ts.Check(syscall.Mount("overlay", merged, "overlay", 0, options))
	ts.Check(syscall.Mount("/dev", filepath.Join(merged, "dev"), "", syscall.MS_BIND, ""))
	ts.Check(syscall.Mount("proc", filepath.Join(merged, "proc"), "proc", 0, ""))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: merged}
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	for _, dir := range []string{"proc", "dev", ""} {
		ts.Check(syscall.Unmount(filepath.Join(merged, dir), 0))
	}
	if err != nil {
		ts.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	ts.Check(os.WriteFile(ts.MkAbs("live.out"), out, 0o644))
}

// makeLayer makes the directory of a layer, with what live needs there.
func makeLayer(ts *testscript.TestScript, layer, unpacked string) {
	ts.Check(os.MkdirAll(layer, 0o755))
	ts.Check(syscall.Mount("tmpfs", layer, "tmpfs", 0, ""))
	ts.Defer(func() { ts.Check(syscall.Unmount(layer, 0)) })
	for _, dir := range []string{"upper/srv", "upper/run/systemd/system", "upper/usr/local/sbin", "work", "merged"} {
		ts.Check(os.MkdirAll(filepath.Join(layer, dir), 0o755))
	}
	for _, name := range []string{"systemctl", "reboot", "shutdown"} { // nothing here reaches this machine's
		stub := "#!/bin/sh\necho \"$@\" >>/srv/" + name + "\n"
		ts.Check(os.WriteFile(filepath.Join(layer, "upper/usr/local/sbin", name), []byte(stub), 0o755))
	}
	ts.Check(exec.Command("cp", "-a", unpacked, filepath.Join(layer, "upper/srv/update")).Run())
}

// placed writes what lies below a directory, one line each, sorted: mode, path and, of a link, where to.
func placed(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command("find", ".", "!", "-type", "d", "-printf", `%m %P %l\n`)
	cmd.Dir = ts.MkAbs(args[0])
	out, err := cmd.Output()
	ts.Check(err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[4:], b[4:]) })
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}
