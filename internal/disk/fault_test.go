package disk_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// step is one change to the file system as a Hook sees it: "sync dir/file".
type step = string

// operation is one call on an FS in a directory with the sub-directories "dir" and "from".
type operation struct {
	name  string
	old   map[string]string // the files before
	run   func(f disk.FS, dir string) error
	done  map[string]string // the files after
	steps []step
	place int // the index in steps from whose application on the files are those of done
}

func operations() []operation {
	put := []step{"create dir/file", "write dir/file", "sync dir/file"}
	old, updated := map[string]string{"dir/file": "old"}, map[string]string{"dir/file": "new content"}
	data := []byte("new content")
	return []operation{
		{"WriteFile replaces", old, func(f disk.FS, dir string) error {
			return f.WriteFile(filepath.Join(dir, "dir/file"), data, 0o644)
		}, updated, append(put[:3:3], "rename dir/file", "syncdir dir"), 3},
		{"WriteFile makes", nil, func(f disk.FS, dir string) error {
			return f.WriteFile(filepath.Join(dir, "dir/file"), data, 0o644)
		}, updated, append(put[:3:3], "rename dir/file", "syncdir dir"), 3},
		{"CreateFile", nil, func(f disk.FS, dir string) error {
			return f.CreateFile(filepath.Join(dir, "dir/file"), data, 0o644)
		}, updated, append(put[:3:3], "link dir/file", "syncdir dir"), 3},
		{"Rename in a directory", map[string]string{"dir/a": "new content", "dir/file": "old"}, func(f disk.FS, dir string) error {
			return f.Rename(filepath.Join(dir, "dir/a"), filepath.Join(dir, "dir/file"))
		}, updated, []step{"rename dir/file", "syncdir dir"}, 0},
		{"Rename between directories", map[string]string{"from/a": "new content", "dir/file": "old"}, func(f disk.FS, dir string) error {
			return f.Rename(filepath.Join(dir, "from/a"), filepath.Join(dir, "dir/file"))
		}, updated, []step{"rename dir/file", "syncdir dir", "syncdir from"}, 0},
		{"Remove", old, func(f disk.FS, dir string) error {
			return f.Remove(filepath.Join(dir, "dir/file"))
		}, nil, []step{"remove dir/file", "syncdir dir"}, 0},
	}
}

// expected returns the files after the first n steps were applied.
func (o operation) expected(n int) map[string]string {
	if n > o.place {
		return o.done
	}
	return o.old
}

// prepare makes the directory of an operation.
func (o operation) prepare(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"dir", "from"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range o.old {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// checkFiles compares all files below root with want.
func checkFiles(t *testing.T, root string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		got[strings.TrimPrefix(path, root+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("files are %q, want %q", got, want)
	}
}

func TestSteps(t *testing.T) {
	for _, o := range operations() {
		t.Run(o.name, func(t *testing.T) {
			root := o.prepare(t)
			var got []step
			record := disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
				got = append(got, string(op)+" "+strings.TrimPrefix(path, root+"/"))
				return true, nil
			}}
			if err := o.run(record, root); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, o.steps) {
				t.Errorf("steps are %q, want %q", got, o.steps)
			}
			checkFiles(t, root, o.done)
		})
	}
}

// Each step fails once, carried out or not: the error arrives, the files are whole, and no temporary
// file stays.
func TestFaults(t *testing.T) {
	fault := errors.New("fault")
	for _, o := range operations() {
		for i, s := range o.steps {
			for _, apply := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/applied %t", o.name, s, apply), func(t *testing.T) {
					root := o.prepare(t)
					n := -1
					err := o.run(disk.FS{Hook: func(disk.Op, string) (bool, error) {
						if n++; n == i {
							return apply, fault
						}
						return true, nil
					}}, root)
					if !errors.Is(err, fault) {
						t.Errorf("error is %v, want %v", err, fault)
					}
					if n != i {
						t.Errorf("went on to step %d after step %d failed", n, i)
					}
					applied := i
					if apply {
						applied++
					}
					checkFiles(t, root, o.expected(applied))
				})
			}
		}
	}
}

// A process is killed before each step. What is left is whole, RemoveTemps removes the rest, and a
// second try succeeds.
func TestKill(t *testing.T) {
	for _, o := range operations() {
		for i, s := range o.steps {
			t.Run(o.name+"/"+s, func(t *testing.T) {
				t.Parallel()
				root := o.prepare(t)
				killed(t, "kill", o.name, strconv.Itoa(i), root)
				removeTemps(t, root)
				checkFiles(t, root, o.expected(i))
				if i > o.place {
					return
				}
				if err := o.run(disk.FS{}, root); err != nil {
					t.Fatal(err)
				}
				checkFiles(t, root, o.done)
			})
		}
	}
}

func TestKillWithinWrite(t *testing.T) {
	root := t.TempDir()
	killed(t, "halfway", filepath.Join(root, "file"))
	left, err := os.ReadDir(root)
	if err != nil || len(left) != 1 || !strings.HasPrefix(left[0].Name(), disk.TempPrefix) {
		t.Fatalf("left are %v, %v, want one temporary file", left, err)
	}
	if err := (disk.FS{}).RemoveTemps(root); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, root, nil)
}

func removeTemps(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{"dir", "from"} {
		if err := (disk.FS{}).RemoveTemps(filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// child returns a command that runs TestChild with these arguments in a process of its own.
func child(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "DURABLE_CHILD="+strings.Join(args, "\n"))
	cmd.Stderr = os.Stderr
	return cmd
}

// killed runs a child that must end by SIGKILL.
func killed(t *testing.T, args ...string) {
	t.Helper()
	err := child(t, args...).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("child %q ended with %v, want SIGKILL", args, err)
	}
}

// TestChild is the other process of the tests here.
func TestChild(t *testing.T) {
	env, ok := os.LookupEnv("DURABLE_CHILD")
	if !ok {
		t.Skip("runs in a process of its own")
	}
	args := strings.Split(env, "\n")
	switch args[0] {
	case "kill":
		childKill(t, args[1], args[2], args[3])
	case "halfway":
		childHalfway(t, args[1])
	case "lock":
		childLock(t, args[1])
	}
}

func childKill(t *testing.T, name, index, root string) {
	all := operations()
	at := slices.IndexFunc(all, func(o operation) bool { return o.name == name })
	n := 0
	err := all[at].run(disk.FS{Hook: func(disk.Op, string) (bool, error) {
		if strconv.Itoa(n) == index {
			killSelf(t)
		}
		n++
		return true, nil
	}}, root)
	t.Fatalf("step %s was never reached: %v", index, err)
}

func childHalfway(t *testing.T, path string) {
	err := disk.FS{}.CreateFileFunc(path, 0o644, func(file *os.File) error {
		if _, err := io.WriteString(file, "half of it"); err != nil {
			return err
		}
		killSelf(t)
		return nil
	})
	t.Fatal(err)
}

func killSelf(t *testing.T) {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {} // until the signal arrives
}
