package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
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

// live runs install_update.sh of an unpacked update on this system, with a layer of the directory
// args[1] above everything, so that all it changes is there. Systemd is a stand-in, which writes to
// srv/systemctl what it is asked for.
func live(ts *testscript.TestScript, _ bool, args []string) {
	layer := ts.MkAbs(args[1])
	if _, err := os.Stat(layer); err != nil {
		ts.Check(os.MkdirAll(layer, 0o755))
		ts.Check(syscall.Mount("tmpfs", layer, "tmpfs", 0, ""))
		ts.Defer(func() { ts.Check(syscall.Unmount(layer, 0)) })
		for _, dir := range []string{"upper/srv", "upper/run/systemd/system", "upper/usr/local/sbin", "work", "merged"} {
			ts.Check(os.MkdirAll(filepath.Join(layer, dir), 0o755))
		}
		stub := "#!/bin/sh\necho \"$@\" >>/srv/systemctl\n"
		ts.Check(os.WriteFile(filepath.Join(layer, "upper/usr/local/sbin/systemctl"), []byte(stub), 0o755))
		ts.Check(exec.Command("cp", "-a", ts.MkAbs(args[0]), filepath.Join(layer, "upper/srv/update")).Run())
	}
	merged := filepath.Join(layer, "merged")
	options := "lowerdir=/,upperdir=" + filepath.Join(layer, "upper") + ",workdir=" + filepath.Join(layer, "work")
	ts.Check(syscall.Mount("overlay", merged, "overlay", 0, options))
	cmd := exec.Command("/bin/sh", "-c", "cd /srv/update && ./install_update.sh")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: merged}
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	ts.Check(syscall.Unmount(merged, 0))
	if err != nil {
		ts.Fatalf("install_update.sh: %v\n%s", err, out)
	}
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
