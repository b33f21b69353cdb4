package origin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// victimEnv holds, in the environment of a process that is to be killed, what it does.
const victimEnv = "ORIGIN_VICTIM"

// victimOrders is what a process does until it kills itself.
type victimOrders struct {
	Dir   string
	Role  trust.Role
	Files [][]byte
	At    time.Time
	Step  int // before which it is killed
}

// victim carries a change out and is killed, by the kernel and without notice, before a step of its
// file system. It says which, and otherwise that the change was acknowledged.
func victim() {
	var orders victimOrders
	if err := json.Unmarshal([]byte(os.Getenv(victimEnv)), &orders); err != nil {
		panic(err)
	}
	w := &world{dir: orders.Dir, online: []*signer{newSigner("online")}}
	w.at(orders.At)
	var steps atomic.Int64 // an archive's blocks reach the disk beside its other steps
	w.fs = durable.FS{Hook: func(op durable.Op, path string) (bool, error) {
		if steps.Add(1) == int64(orders.Step) {
			fmt.Println(op, strings.TrimPrefix(path, w.dir))
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {} // until the kernel gets to it
		}
		return true, nil
	}}
	if err := w.tryOpen(); err != nil {
		panic(err)
	}
	if err := (scenario{role: orders.Role, files: orders.Files}).run(w, once); err != nil {
		panic(err)
	}
	fmt.Println("acknowledged")
}

// TestKilledAtEveryStep kills a process with SIGKILL before each step of each change, looks at what is
// there, and has another process do it again.
func TestKilledAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("starts some hundred processes")
	}
	t.Parallel()
	base := faultWorld(t)
	old := base.whole()
	for _, sc := range scenarios(t, base) {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			kills, seen := map[string]int{}, map[bool]int{}
			for n, killed := 1, true; killed; n++ {
				w := base.on(t)
				var at string
				at, killed = runVictim(t, w, sc, n)
				if killed {
					kills[at]++
				}
				seen[wantOldOrNew(t, w, old, sc, !killed)]++
				w.open()
				wantOldOrNew(t, w, old, sc, !killed)
				must(t, sc.run(w, once))
				wantOldOrNew(t, w, old, sc, true)
				w.wantKept(nil, nil)
			}
			for _, step := range slices.Sorted(maps.Keys(kills)) {
				t.Logf("%s: killed %d times", step, kills[step])
			}
			if len(kills) < 5 || seen[false] == 0 || seen[true] < 2 {
				t.Errorf("expected kills that leave the old repository and some that leave the new one, got %v at %v", seen, kills)
			}
			t.Logf("%d times the old repository, %d times the new", seen[false], seen[true])
		})
	}
}

// runVictim returns the named step at which the process was killed.
func runVictim(t *testing.T, w *world, sc scenario, n int) (step string, killed bool) {
	t.Helper()
	orders, err := json.Marshal(victimOrders{w.dir, sc.role, sc.files, w.now(), n})
	must(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(orders))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	out := strings.TrimSpace(stdout.String())
	if err == nil && out == "acknowledged" {
		return "", false
	}
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("step %d: expected it killed, got %v\n%s%s", n, err, out, &stderr)
	}
	return stepName(out), true
}

// stepName gives steps on files that differ in digest or time one name.
func stepName(s string) string {
	op, path, _ := strings.Cut(s, " ")
	path = regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(path, "<digest>")
	path = regexp.MustCompile(`[0-9]{10}`).ReplaceAllString(path, "<time>")
	return fmt.Sprintf("%-8s %s", op, filepath.ToSlash(path))
}
