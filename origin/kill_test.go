package origin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
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
	Known map[string]bool // the steps before which it is not killed
}

// victim carries a change out and is killed, by the kernel and without notice, before a step of its
// file system. It says which, and otherwise that the change was acknowledged.
func victim() {
	var orders victimOrders
	if err := json.Unmarshal([]byte(os.Getenv(victimEnv)), &orders); err != nil {
		panic(err)
	}
	w := &world{dir: orders.Dir, online: []*testworld.Signer{testworld.NewSigner("online")}}
	w.at(orders.At)
	w.fs = testworld.KilledBefore(orders.Known, w.dir)
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
	testworld.Unraced(t)
	if testing.Short() {
		t.Skip("starts some hundred processes")
	}
	t.Parallel()
	base := faultWorld(t)
	old := base.whole()
	for _, sc := range scenarios(t, base) {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			kills, seen := map[string]bool{}, map[bool]int{}
			for killed := true; killed; {
				w := base.on(t)
				var at string
				at, killed = runVictim(t, w, sc, kills)
				if killed {
					kills[at] = true
				}
				seen[wantOldOrNew(t, w, old, sc, !killed)]++
				w.open()
				wantOldOrNew(t, w, old, sc, !killed)
				must(t, sc.run(w, once))
				wantOldOrNew(t, w, old, sc, true)
				w.wantKept(nil, nil)
			}
			t.Logf("killed before %q", slices.Sorted(maps.Keys(kills)))
			if len(kills) < 5 || seen[false] == 0 || seen[true] < 2 {
				t.Errorf("expected kills that leave the old repository and some that leave the new one, got %v at %v", seen, kills)
			}
			t.Logf("%d times the old repository, %d times the new", seen[false], seen[true])
		})
	}
}

// runVictim returns the named step at which the process was killed.
func runVictim(t *testing.T, w *world, sc scenario, known map[string]bool) (step string, killed bool) {
	t.Helper()
	orders, err := json.Marshal(victimOrders{w.dir, sc.role, sc.files, w.now(), known})
	must(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(orders))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if !testworld.Killed(t, cmd.Run(), out.String(), "acknowledged") {
		return "", false
	}
	return strings.TrimSpace(out.String()), true
}
