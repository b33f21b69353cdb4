package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// steps are the changes that the story makes to the disk, by what is done to what kind of file. Each is
// a step of an ingest or of a commit that a crash may come between.
var steps = []string{
	"sync part", "create map", "write map", "sync map", "rename map", "syncdir staging",
	"mkdir sha256/ab", "syncdir sha256", "create blocks", "write blocks", "sync blocks", "rename blocks", "syncdir sha256/ab",
	"rename blob", "remove map",
	"link target", "syncdir targets",
	"syncdir .", "create root", "write root", "sync root", "rename root", "syncdir metadata",
	"create ledger", "write ledger", "sync ledger", "rename ledger",
	"create targets", "write targets", "sync targets", "rename targets",
	"create snapshot", "write snapshot", "sync snapshot", "rename snapshot",
	"create timestamp", "write timestamp", "sync timestamp", "rename timestamp",
	"remove targets", "remove snapshot", "remove target",
	"create copy", "write copy", "sync copy", "rename copy", "remove copy",
}

// stepName says what a change is about.
func stepName(dir string, op disk.Op, path string) string {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return err.Error()
	}
	return string(op) + " " + kindOf(rel)
}

func kindOf(rel string) string {
	if strings.HasSuffix(rel, disk.CopyPath("")) {
		return "copy"
	}
	if role, _, ok := trust.ParseFileName(filepath.Base(rel)); ok {
		return string(role)
	}
	top, rest, _ := strings.Cut(rel, "/")
	switch {
	case rest == "":
		return top
	case top == blobDir && len(rest) == 2:
		return blobDir + "/ab"
	case top == blobDir && strings.HasSuffix(rest, blocksSuffix):
		return "blocks"
	case top == blobDir:
		return "blob"
	case top == targetsDir:
		return "target"
	case strings.HasSuffix(rest, partSuffix):
		return "part"
	case strings.HasSuffix(rest, mapSuffix):
		return "map"
	}
	return rest
}

// story is what the faults interrupt: a store that lists two updates gets a list without the first, with
// a large one instead and with a new root.
type story struct {
	o        *origin
	old, new *trust.Repository
	dir      string
}

func newStory(t *testing.T) *story {
	t.Helper()
	st := &story{o: newOrigin(t), dir: filepath.Join(testworld.TempDir(t), "R")}
	s := st.open(t, disk.FS{})
	mustPublish(t, s, st.o.lists(small))
	mustPublish(t, s, st.o.lists(small, other))
	mustClose(t, s)
	st.plan()
	return st
}

// again returns the story from its beginning, in a directory of its own.
func (st *story) again(t *testing.T) *story {
	t.Helper()
	return &story{st.o, st.old, st.new, copyDir(t, st.dir)}
}

// plan makes the repositories before and after; the same ones in every process.
func (st *story) plan() {
	st.o = newOrigin(st.o.t)
	st.o.lists(small)
	st.old = st.o.lists(small, other)
	st.o.newRoot()
	st.new = st.o.lists(other, large, empty)
}

func (st *story) open(t *testing.T, files disk.FS) *Store {
	t.Helper()
	s, err := Open(context.Background(), st.config(files))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (st *story) config(files disk.FS) Config {
	c := st.o.config(st.dir)
	c.FS = files
	c.Superseded = time.Nanosecond // so that each commit removes what it replaces
	return c
}

// run publishes the new list; the large update arrives with its first block last.
func (st *story) run(s *Store) error {
	for _, rel := range s.Missing(st.new) {
		if err := backwards(s, rel); err != nil {
			return err
		}
	}
	return s.Commit(context.Background(), st.new)
}

func backwards(s *Store, rel trust.Release) (err error) {
	data := content(rel.Name().String())
	_, blocks := sumsOf(rel.Name().String())
	in, err := s.Ingest(context.Background(), rel, blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	for _, i := range slices.Backward(in.Missing()) {
		if err := in.WriteBlock(i, blockOf(data, i)); err != nil {
			return err
		}
		if i == 0 {
			break
		}
		if err := syncedAll(in); err != nil { // as after some time
			return err
		}
	}
	return in.Commit(context.Background())
}

// syncedAll brings to the disk what has arrived.
func syncedAll(in *Ingest) error {
	a := in.partial
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.syncAll()
}

// record runs the story without a fault and returns its steps.
func (st *story) record(t *testing.T) []string {
	t.Helper()
	var all []string
	s := st.open(t, disk.FS{})
	s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
		all = append(all, stepName(st.dir, op, path))
		return true, nil
	}
	mustReload(t, s)
	if err := st.run(s); err != nil {
		t.Fatal(err)
	}
	s.c.FS.Hook = nil
	st.o.check(s)
	mustClose(t, s)
	return all
}

// mustReload gives the state of a store the store's file system.
func mustReload(t *testing.T, s *Store) {
	t.Helper()
	if err := s.load(); err != nil {
		t.Fatal(err)
	}
}

// expect checks that the store holds the old repository or the new one, and counts which.
func (st *story) expect(s *Store, seen map[string]int) {
	st.o.t.Helper()
	switch got := s.Repository(); {
	case got == nil:
		st.o.t.Fatalf("no repository: %v", s.current.Load().problem)
	case string(got.Raw(trust.RoleTimestamp)) == string(st.old.Raw(trust.RoleTimestamp)): // its root may be there before it
		seen["old"]++
	case sameRepository(got, st.new):
		seen["new"]++
	default:
		st.o.t.Fatal("neither the old repository nor the new one")
	}
	st.o.check(s)
}

// finish brings the story to its end on a store that works again.
func (st *story) finish(t *testing.T, s *Store) {
	t.Helper()
	if err := st.run(s); err != nil {
		t.Fatal(err)
	}
	if !sameRepository(s.Repository(), st.new) {
		t.Fatal("the new repository is not served")
	}
	st.o.check(s)
	if got, err := s.GC(context.Background(), GC{}); err != nil || len(got.Digests) > 0 {
		t.Fatalf("collected %v, %v", got, err)
	}
	left, err := os.ReadDir(s.path(stagingDir))
	if err != nil || len(left) > 0 {
		t.Fatalf("left in staging: %v, %v", left, err)
	}
	mustClose(t, s)
}

// wantSteps fails where a step was never hit, or one was hit that the list doesn't know.
func wantSteps(t *testing.T, hits map[string]int) {
	t.Helper()
	for _, step := range steps {
		if hits[step] == 0 {
			t.Errorf("never hit: %s", step)
		}
	}
	for step := range hits {
		if !slices.Contains(steps, step) {
			t.Errorf("not in the list of steps: %s", step)
		}
	}
	t.Logf("hits by step: %v", hits)
}

// TestSteps holds the order that makes the promise: data before the map that speaks of them, the
// archive before the list that names it, the timestamp last.
func TestSteps(t *testing.T) {
	all := newStory(t).record(t)
	before := func(first, then string) {
		t.Helper()
		i, j := slices.Index(all, first), lastIndex(all, then)
		if i < 0 || j < 0 || i > j {
			t.Errorf("expected %q before %q", first, then)
		}
	}
	before("sync part", "create map")
	before("rename blocks", "rename blob")
	if i := slices.Index(all, "rename blob"); !slices.Contains(all[:i], "sync part") || all[i+1] != "syncdir sha256/ab" {
		t.Errorf("around the rename: %v", all[i-1:i+2])
	}
	order := []string{"rename blob", "link target", "rename root", "rename ledger", "rename targets", "rename snapshot", "rename timestamp", "remove target"}
	for i := range len(order) - 1 {
		before(order[i], order[i])
		if last, first := lastIndex(all, order[i]), slices.Index(all, order[i+1]); last > first {
			t.Errorf("expected every %q before the first %q", order[i], order[i+1])
		}
	}
	before("link target", "syncdir targets")
	if i := slices.Index(all, "syncdir targets"); i > slices.Index(all, "rename root") {
		t.Error("the links were synced too late")
	}
	if i := slices.Index(all, "rename timestamp"); all[i+1] != "syncdir metadata" {
		t.Errorf("after the timestamp: %v", all[i+1])
	}
}

func lastIndex(all []string, step string) int {
	for i, s := range slices.Backward(all) {
		if s == step {
			return i
		}
	}
	return -1
}

// TestFaultAtEveryStep lets each step find the disk full once, carried out or not. The store that met the fault
// serves the old repository or the new one, and finishes when it is asked again.
func TestFaultAtEveryStep(t *testing.T) {
	t.Parallel()
	first := newStory(t)
	total := len(first.again(t).record(t))
	hits, seen, refused := map[string]int{}, map[string]int{}, 0
	for i := range total {
		for _, apply := range []bool{false, true} {
			st := first.again(t)
			s := st.open(t, disk.FS{})
			n := 0
			s.c.FS.Hook = func(op disk.Op, path string) (bool, error) {
				if n++; n == i+1 {
					hits[stepName(st.dir, op, path)]++
					return apply, &fs.PathError{Op: string(op), Path: path, Err: syscall.ENOSPC}
				}
				return true, nil
			}
			mustReload(t, s)
			if err := st.run(s); err != nil {
				wantErr(t, err, disk.ErrNoSpace)
				refused++
			}
			st.expect(s, seen)
			st.finish(t, s)
		}
	}
	wantSteps(t, hits)
	if seen["old"] == 0 || seen["new"] == 0 {
		t.Errorf("expected both repositories after some fault, got %v", seen)
	}
	if refused < total {
		t.Errorf("%d of %d faults were told of", refused, 2*total)
	}
	t.Logf("%d steps, each failed and half done: %v", total, seen)
}

// TestCrashAtEveryStep makes each step the last, before it or right after it, and opens the directory
// again.
func TestCrashAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	first := newStory(t)
	total := len(first.again(t).record(t))
	hits, seen := map[string]int{}, map[string]int{}
	for i := range total {
		for _, after := range []bool{false, true} {
			st := first.again(t)
			s := st.open(t, disk.FS{})
			s.c.FS = crashAfter(i, after, func(op disk.Op, path string) { hits[stepName(st.dir, op, path)]++ })
			mustReload(t, s)
			if err := st.run(s); err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("step %d: %v", i, err)
			}
			if err := s.Close(); err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			s = st.open(t, disk.FS{})
			st.expect(s, seen)
			st.finish(t, s)
		}
	}
	wantSteps(t, hits)
	if seen["old"] == 0 || seen["new"] == 0 {
		t.Errorf("expected both repositories after some crash, got %v", seen)
	}
	t.Logf("%d steps, each before and after: %v", total, seen)
}

// TestKillAtEveryStep does it with a process and SIGKILL.
func TestKillAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	first := newStory(t)
	all := first.again(t).record(t)
	hits, seen := map[string]int{}, map[string]int{}
	for i, step := range all {
		st := first.again(t)
		killed(t, "STORE_CHILD="+st.dir+"\n"+strconv.Itoa(i))
		hits[step]++
		s := st.open(t, disk.FS{})
		st.expect(s, seen)
		st.finish(t, s)
	}
	wantSteps(t, hits)
	if seen["old"] == 0 || seen["new"] == 0 {
		t.Errorf("expected both repositories after some kill, got %v", seen)
	}
	t.Logf("%d kills: %v", len(all), seen)
}

// killed runs TestChild in a process that must end by SIGKILL.
func killed(t *testing.T, env string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("child ended with %v, want SIGKILL\n%s", err, out)
	}
}

// TestChild is the process that is killed.
func TestChild(t *testing.T) {
	env, ok := os.LookupEnv("STORE_CHILD")
	if !ok {
		t.Skip("runs in a process of its own")
	}
	dir, at, _ := strings.Cut(env, "\n")
	st := &story{o: &origin{t: t}, dir: dir}
	st.plan()
	s := st.open(t, disk.FS{})
	n := 0
	s.c.FS.Hook = func(disk.Op, string) (bool, error) {
		if fmt.Sprint(n) == at {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			select {} // until the signal arrives
		}
		n++
		return true, nil
	}
	mustReload(t, s)
	t.Fatalf("step %s was never reached: %v", at, st.run(s))
}
