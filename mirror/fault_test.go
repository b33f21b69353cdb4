package mirror_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/store"
)

// faulty makes the changes of a store and its mirror go through hook, when it is set.
func faulty(o *origin, dir string, hook *func(disk.Op, string) (bool, error)) *site {
	var one sync.Mutex // archives are brought to the disk side by side
	fsys := disk.FS{Hook: func(op disk.Op, path string) (bool, error) {
		one.Lock()
		defer one.Unlock()
		if *hook == nil {
			return true, nil
		}
		return (*hook)(op, path)
	}}
	return o.newMirror(setup{
		dir:    dir,
		store:  func(c *store.Config) { c.FS = fsys },
		config: func(c *mirror.Config) { c.FS, c.Parallel = fsys, 1 },
	})
}

// TestDiskFullAtEveryWrite: from one change on, each in its turn, the disk is full. What is served stays whole, the error
// says what is wrong, and with space again the sync goes on.
func TestDiskFullAtEveryWrite(t *testing.T) {
	t.Parallel()
	for _, carriedOut := range []bool{false, true} {
		t.Run(fmt.Sprintf("carried out %v", carriedOut), func(t *testing.T) {
			t.Parallel()
			// Two goroutines write, in an order that differs from sync to sync: a change is known by its name and
			// by how often that came, not by its place.
			failed := map[string]bool{}
			k := newKilling(t, pair)
			for more := true; more; {
				var hook func(disk.Op, string) (bool, error)
				m := faulty(k.o, k.copied(t), &hook)
				m.wantListed(one)
				count, change := map[string]int{}, ""
				hook = func(op disk.Op, path string) (bool, error) {
					step := testworld.StepName(string(op), strings.TrimPrefix(path, m.s.Dir()))
					count[step]++
					if name := fmt.Sprint(step, " ", count[step]); change == "" && !failed[name] {
						failed[name], change = true, name
					}
					if change == "" {
						return true, nil
					}
					return carriedOut, unix.ENOSPC
				}
				_, err := m.Sync(t.Context())
				more = change != ""
				if err != nil && (!errors.Is(err, disk.ErrNoSpace) || !strings.Contains(err.Error(), "no space left")) {
					t.Errorf("%s: expected it to say that the disk is full, got %v", change, err)
				}
				if got := m.listed(); !slices.Equal(got, []string{one}) && !slices.Equal(got, []string{pair}) {
					t.Fatalf("%s: %v listed", change, got)
				}
				hook = nil
				m.whole()
				m.sync()
				m.wantListed(pair)
			}
			for _, step := range syncSteps() {
				if !failed[step+" 1"] {
					t.Errorf("%q never failed, of %q", step, slices.Sorted(maps.Keys(failed)))
				}
			}
		})
	}
}

// syncSteps are changes of the file system that every sync makes that brings something.
func syncSteps() []string {
	return []string{
		"sync     /staging/<digest>.part",
		"create   /sha256/<xx>/<digest>.blocks", "write    /sha256/<xx>/<digest>.blocks", "rename   /sha256/<xx>/<digest>", "syncdir  /sha256/<xx>",
		"link     /targets/<digest>.<name>", "syncdir  /targets",
		"write    /metadata/ledger", "rename   /metadata/<N>.targets.json", "rename   /metadata/<N>.snapshot.json",
		"create   /metadata/timestamp.json", "write    /metadata/timestamp.json", "sync     /metadata/timestamp.json", "rename   /metadata/timestamp.json",
		"syncdir  /metadata", "remove   /targets/<digest>.<name>", "rename   /mirror.json",
	}
}

// TestSmallDisk: on a disk that is too small the sync is refused before it fetches, and with some other
// archive in the way it says so and recovers.
func TestSmallDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		testworld.NotTested(t, "a real small disk", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := newOrigin(t, one)
	m := o.newMirror(setup{dir: dir + "/D"})
	m.sync()
	ballast := dir + "/ballast"
	must(t, os.WriteFile(ballast, make([]byte, 8<<20), 0o600))
	o.publish(big)
	m.syncFails(disk.ErrNoSpace)
	m.wantListed(one)
	must(t, os.Remove(ballast))
	m.sync()
	m.wantListed(one, big)
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("expected the disk full now, got %v", err)
	}
	o.publish(two)
	_, err := m.Sync(t.Context())
	wantErr(t, err, disk.ErrNoSpace)
	m.whole()
	must(t, os.Remove(ballast))
	m.sync()
	m.wantListed(one, two, big)
}
