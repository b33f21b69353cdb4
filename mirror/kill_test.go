package mirror_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// victimEnv holds, in the environment of a process that is to be killed, what it does.
const victimEnv = "MIRROR_VICTIM"

// victimOrders is what a process does until it is killed.
type victimOrders struct {
	Dir      string
	Root     []byte
	Upstream string
	At       time.Time
	Known    map[string]bool // the changes of the file system before which it does not kill itself; nil: all
}

// victim syncs once, and says at which step it is killed, or that it is done.
func victim() {
	var orders victimOrders
	if err := json.Unmarshal([]byte(os.Getenv(victimEnv)), &orders); err != nil {
		panic(err)
	}
	if err := orders.obey(); err != nil {
		panic(err)
	}
	fmt.Println("done")
}

func (v victimOrders) obey() error {
	disk := testworld.KilledBefore(v.Known, v.Dir)
	now := func() time.Time { return v.At }
	s, err := store.Open(context.Background(), store.Config{Dir: v.Dir, Root: v.Root, FS: disk, Now: now})
	if err != nil {
		return err
	}
	client, err := fetch.New(fetch.Config{Upstreams: []string{v.Upstream}})
	if err != nil {
		return err
	}
	m, err := mirror.New(mirror.Config{Store: s, Client: client, FS: disk, Now: now, Parallel: 1})
	if err != nil {
		return err
	}
	_, err = m.Sync(context.Background())
	return errors.Join(err, s.Close())
}

// killing is an origin that is ahead of a mirror, in copies of whose directory syncs are to fail.
type killing struct {
	o    *origin
	p    *proxy
	base string // the mirror's directory

	names []string // what is listed now, in place of one
}

func newKilling(t *testing.T, names ...string) killing {
	t.Helper()
	o := newOrigin(t, one)
	m := o.newMirror(setup{})
	m.sync()
	must(t, m.s.Close())
	o.withdraw(one)
	o.newRoot()
	o.publish(names...)
	return killing{o, newProxy(t, o.url), m.s.Dir(), names}
}

// copied returns a copy of the mirror's directory.
func (k killing) copied(t *testing.T) string {
	t.Helper()
	dir := testworld.TempDir(t)
	must(t, os.CopyFS(dir, os.DirFS(k.base)))
	return dir
}

// start starts a victim in a copy of the directory.
func (k killing) start(t *testing.T, known map[string]bool) (dir string, cmd *exec.Cmd, out *bytes.Buffer) {
	t.Helper()
	dir = k.copied(t)
	orders, err := json.Marshal(victimOrders{dir, k.o.rootOne(), k.p.url, k.o.at, known})
	must(t, err)
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(orders))
	out = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	return dir, cmd, out
}

// killed waits for a victim and reports whether it was killed. Otherwise it must be done.
func killed(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer) bool {
	t.Helper()
	return testworld.Killed(t, cmd.Wait(), out.String(), "done")
}

// after looks at what a victim left, and has another process go on. It reports whether the new
// repository was there, and what the other process asked for.
func (k killing) after(t *testing.T, dir string) (isNew bool, asked []string) {
	t.Helper()
	m := k.o.newMirror(setup{dir: dir, upstreams: []string{k.p.url}})
	got := m.listed()
	isNew = slices.Equal(got, k.names)
	if !isNew && !slices.Equal(got, []string{one}) {
		t.Fatalf("%v listed", got)
	}
	m.whole()
	k.p.taken()
	m.sync()
	asked = k.p.taken()
	m.wantListed(k.names...)
	must(t, m.s.Close())
	return isNew, asked
}

// arrived returns the archives all of whose blocks are on the disk, by their map or their place.
func (k killing) arrived(dir string) (out []trust.Release) {
	for _, rel := range k.o.s.Repository().Releases() {
		d := rel.Digest().String()
		_, placed := os.Stat(filepath.Join(dir, "sha256", d[:2], d))
		_, mapped := os.Stat(filepath.Join(dir, "staging", d+".map"))
		if placed == nil || mapped == nil {
			out = append(out, rel)
		}
	}
	return out
}

// TestKilledAtEveryStep kills a process that syncs before each change of its file system.
func TestKilledAtEveryStep(t *testing.T) {
	testworld.Unraced(t)
	if testing.Short() {
		t.Skip("starts some hundred processes")
	}
	t.Parallel()
	k := newKilling(t, pair)
	kills, seen := map[string]bool{}, map[bool]int{}
	for more := true; more; {
		dir, cmd, out := k.start(t, kills)
		more = killed(t, cmd, out)
		step := strings.TrimSpace(out.String())
		if more {
			kills[step] = true
		}
		arrived := k.arrived(dir)
		isNew, asked := k.after(t, dir)
		seen[isNew]++
		for _, rel := range arrived {
			if len(fetched(asked, rel)) > 0 {
				t.Errorf("%s: %v was there, and was fetched again: %v", step, rel.Name(), asked)
			}
		}
		if isNew && len(asked) != 2 { // the timestamp, and whether there is a new root
			t.Errorf("%s: expected nothing fetched again, got %v", step, asked)
		}
		must(t, os.RemoveAll(dir))
	}
	t.Logf("killed before %q", slices.Sorted(maps.Keys(kills)))
	for _, step := range syncSteps() {
		if !kills[step+" #1"] {
			t.Errorf("%q: never killed", step)
		}
	}
	if seen[false] == 0 || seen[true] < 2 {
		t.Errorf("expected kills that leave the old repository and some that leave the new one, got %v", seen)
	}
	t.Logf("%d times the old repository, %d times the new", seen[false], seen[true])
}

// TestKilledAtEveryRequest kills a process that syncs when it asks for each thing, and in the middle of
// an archive.
func TestKilledAtEveryRequest(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	k := newKilling(t, two, pair)
	kills := map[string]int{}
	for n, more := 1, true; more; n++ {
		requests := 0
		var victim *exec.Cmd
		started := make(chan struct{})
		k.p.answers(func(w http.ResponseWriter, r *http.Request) bool {
			<-started
			if requests++; requests != n {
				return false
			}
			kills[testworld.StepName("ask", r.URL.Path)]++
			if d, err := update.ParseDigest(strings.TrimPrefix(r.URL.Path, "/sha256/")); err == nil {
				u, _ := k.o.s.Catalog().ByDigest(d)
				data := content(u.Name.String())
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				w.Write(data[:len(data)/2])
				w.(http.Flusher).Flush()
			}
			if err := victim.Process.Kill(); err != nil {
				t.Error(err)
			}
			<-r.Context().Done() // the kernel closed its connection
			return true
		})
		dir, cmd, out := k.start(t, nil)
		victim = cmd
		close(started)
		more = killed(t, cmd, out)
		k.p.answers(nil)
		k.after(t, dir)
		must(t, os.RemoveAll(dir))
	}
	for _, step := range []string{"timestamp.json", "<N>.root.json", "<N>.snapshot.json", "<N>.targets.json"} {
		if kills["ask      /metadata/"+step] == 0 {
			t.Errorf("%q: never killed, of %v", step, kills)
		}
	}
	for _, step := range []string{"ask      /sha256/<digest>.blocks", "ask      /sha256/<digest>"} {
		if kills[step] == 0 {
			t.Errorf("%q: never killed, of %v", step, kills)
		}
	}
	t.Logf("killed: %v", kills)
}
