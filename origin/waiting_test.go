package origin_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestWhatWaitsInTheDirectory has a server take over what boxsign left there, and leave alone what it
// can't judge.
func TestWhatWaitsInTheDirectory(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	p := w.list(w.releases[:1], one)
	held := w.list(w.releases[:2], two)
	path := func(role trust.Role, version int64) string {
		return filepath.Join(w.dir, "staging", trust.FileName(role, version))
	}
	must(t, os.WriteFile(path(trust.RoleTargets, 2), p.Raw(), 0o644))
	must(t, os.Chtimes(path(trust.RoleTargets, 2), day, day))
	must(t, os.WriteFile(path(trust.RoleTargets, 3), held.Raw(), 0o644)) // under another number
	must(t, os.WriteFile(path(trust.RoleRoot, 2), []byte("{}"), 0o644))
	w.restart()
	w.wantKept(nil, []int64{2})
	if _, err := os.Lstat(path(trust.RoleTargets, 2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("expected the file to be gone, got %v", err)
	}
	for _, left := range []string{path(trust.RoleTargets, 3), path(trust.RoleRoot, 2)} {
		if _, err := os.Lstat(left); err != nil {
			t.Error(err)
		}
	}
	w.restart()
	both, err := p.Cosign(t.Context(), w.releases[1])
	must(t, err)
	w.finish(w.send(both, origin.StatusStaged))
	w.wantListed(one)
}

// read reads what waits as somebody who changes nothing.
func (w *world) read() origin.Waiting {
	w.t.Helper()
	before := w.files()
	got, err := origin.Read(w.t.Context(), origin.Config{Store: w.s, Now: w.now, Local: true})
	must(w.t, err)
	if after := w.files(); !slices.Equal(before, after) {
		w.t.Fatalf("expected the files %v, got %v", before, after)
	}
	return got
}

// local opens the world as the signer does who publishes without a server.
func (w *world) local() {
	w.t.Helper()
	w.change = func(c *origin.Config) { c.Local = true }
	w.restart()
}

// TestHeldList has a complete list wait for a further signature, however long, and goes out with both.
func TestHeldList(t *testing.T) {
	w := newWorldOf(t, 2, 1)
	w.local()
	p := w.list(w.releases[:1], one)
	w.send(p, origin.StatusStaged)
	w.at(day.Add(20 * days))
	w.restart()
	if got := w.read(); len(got.Proposals) != 1 || got.Reserved != 2 || len(got.Unfit) > 0 {
		t.Fatalf("got %+v", got)
	}
	both, err := p.Cosign(t.Context(), w.releases[1])
	must(t, err)
	out := w.send(both, origin.StatusStaged)
	if got := w.read(); len(got.Proposals) != 1 || !bytes.Equal(got.Proposals[0].Raw(), both.Raw()) {
		t.Fatalf("expected the list with both signatures, got %+v", got)
	}
	w.finish(out)
	w.wantListed(one)
	if r, err := trust.Open(trust.Config{Dir: filepath.Join(w.dir, "metadata"), DeferRoots: true}); err != nil {
		t.Error(err)
	} else if r, err := r.Current(); err != nil || len(r.Signers(trust.RoleTargets)) != 2 {
		t.Errorf("expected two signatures, got %v", err)
	}
	if got := w.read(); len(got.Proposals) != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestOldDirectory has a signer take over what an earlier boxsign left there, a complete list too, and drop it.
func TestOldDirectory(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	staging := filepath.Join(w.dir, "staging")
	write := func(p *trust.Proposal) {
		must(t, os.WriteFile(filepath.Join(staging, trust.FileName(p.Role(), p.Version())), p.Raw(), 0o644))
	}
	list, root := w.list(w.releases[:2], one), w.root(w.roots[:1], func(*trust.RootEdit) error { return nil })
	write(list)
	write(root)
	if got := w.read(); len(got.Proposals) != 2 || got.Proposals[0].Role() != trust.RoleTargets || got.Reserved != 2 {
		t.Fatalf("got %+v", got)
	}
	w.local()
	w.wantKept([]int64{2}, []int64{2})
	for _, p := range []*trust.Proposal{list, root} {
		if _, err := os.Lstat(filepath.Join(staging, trust.FileName(p.Role(), p.Version()))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("expected the old file to be gone, got %v", err)
		}
	}
	must(t, w.Drop(t.Context(), root))
	wantErr(t, w.Drop(t.Context(), root), origin.ErrNotFound)
	w.restart()
	w.wantKept([]int64{2}, nil)
	w.finish(w.send(list, origin.StatusStaged))
	w.wantListed(one)
}

// TestUnfit: what nobody can publish is told of, stays, and keeps its number, until something newer is published.
func TestUnfit(t *testing.T) {
	w := newWorldOf(t, 2, 2)
	w.local()
	w.send(w.list(w.releases[:1], one), origin.StatusPending)
	files := w.staged()
	if len(files) != 1 {
		t.Fatal(files)
	}
	raw, err := os.ReadFile(files[0])
	must(t, err)
	raw[len(raw)/2] ^= 1
	must(t, os.WriteFile(files[0], raw, 0o644))
	for range 2 {
		w.restart()
		got := w.read()
		if len(got.Proposals) != 0 || got.Reserved != 2 || len(got.Unfit) != 1 || !strings.Contains(got.Unfit[0].Error(), files[0]) {
			t.Fatalf("got %+v", got)
		}
	}
	p := w.list(w.releases, two)
	if p.Version() != 3 {
		t.Errorf("expected another number than that of the damaged list, got %d", p.Version())
	}
	w.finish(w.send(p, origin.StatusStaged))
	if got := w.read(); len(got.Unfit) > 0 {
		t.Errorf("got %v", got.Unfit)
	}
	if left, _ := filepath.Glob(files[0]); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// server opens the world as a server does.
func (w *world) server() {
	w.t.Helper()
	w.change = nil
	w.restart()
}

// staged returns the files of staging/publish of list 2.
func (w *world) staged() []string {
	w.t.Helper()
	out, err := filepath.Glob(filepath.Join(w.dir, "staging", "publish", "2.targets.*"))
	must(w.t, err)
	return out
}

// TestServerLeavesAHeldListAlone has a signer hold a complete list back in a directory where a server starts then: it
// does not count there, however old it is, and waits for the signer.
func TestServerLeavesAHeldListAlone(t *testing.T) {
	for _, old := range []bool{false, true} {
		w := newWorldOf(t, 2, 1)
		w.grace = time.Hour
		w.now = time.Now
		held := w.list(w.releases[:1], one)
		if old {
			path := filepath.Join(w.dir, "staging", trust.FileName(trust.RoleTargets, 2))
			must(t, os.WriteFile(path, held.Raw(), 0o644))
			must(t, os.Chtimes(path, day, day))
			w.server()
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
		}
		w.local()
		must(t, w.s.IngestFile(t.Context(), held.Releases()[0], testworld.Blocks(content(one)), bytes.NewReader(content(one))))
		w.send(held, origin.StatusStaged)
		for range 2 {
			w.server()
			w.wantKept([]int64{}, nil)
			if files := w.staged(); len(files) != 1 {
				t.Fatalf("expected the held list to stay, got %v", files)
			}
			w.now = func() time.Time { return time.Now().Add(8 * days) }
		}
		if got, err := w.GC(t.Context(), false); err != nil || len(got.Digests) > 0 {
			t.Errorf("expected its archive to stay, got %v, %v", got, err)
		}
		w.local()
		w.wantKept([]int64{2}, nil)
		w.finish(w.send(held, origin.StatusStaged))
		w.wantListed(one)
	}
}

// TestHeldListIsNotInTheWay has a signer hold back a list that another one, at the server, does not see.
func TestHeldListIsNotInTheWay(t *testing.T) {
	w := newWorldOf(t, 2, 1)
	w.local()
	w.send(w.list(w.releases[:1], one), origin.StatusStaged)
	w.server()
	other := w.list(w.releases[1:], two)
	if other.Version() != 2 {
		t.Fatalf("expected list 2, got %d", other.Version())
	}
	w.finish(w.send(other, origin.StatusStaged))
	w.wantListed(two)
	w.local()
	if files := w.staged(); len(files) > 0 {
		t.Errorf("expected the signer to remove the list that can't be published any more, got %v", files)
	}
}

// TestServerKeepsPendingFromItsStart has a signer gather signatures slowly: at a server, the time of a list begins with
// that server, also where its clock has lost the time.
func TestServerKeepsPendingFromItsStart(t *testing.T) {
	for _, old := range []bool{false, true} {
		w := newWorldOf(t, 2, 2)
		p := w.list(w.releases[:1], one)
		if path := filepath.Join(w.dir, "staging", trust.FileName(trust.RoleTargets, 2)); old {
			must(t, os.WriteFile(path, p.Raw(), 0o644))
			must(t, os.Chtimes(path, day, day))
		} else {
			w.local()
			w.send(p, origin.StatusPending)
		}
		w.at(time.Unix(0, 0))
		w.server()
		w.wantKept([]int64{}, []int64{2})
		w.at(day.Add(8 * days))
		w.server()
		w.wantKept([]int64{}, []int64{2})
		w.at(day.Add(14 * days))
		w.server()
		w.wantKept([]int64{}, []int64{2})
		w.local() // a signer takes it back
		w.at(day.Add(30 * days))
		w.server()
		w.wantKept([]int64{}, []int64{2})
		w.at(day.Add(38 * days))
		w.server()
		w.wantKept([]int64{}, []int64{})
		w.local()
		w.wantKept([]int64{}, []int64{})
	}
}

// TestServerLeavesDamagedFiles turns a bit in what a signer keeps, or makes unreadable what a server keeps: the file
// stays.
func TestServerLeavesDamagedFiles(t *testing.T) {
	for _, local := range []bool{true, false} {
		w := newWorldOf(t, 2, 2)
		if local {
			w.local()
		}
		w.send(w.list(w.releases[:1], one), origin.StatusPending)
		files := w.staged()
		raw, err := os.ReadFile(files[0])
		must(t, err)
		if local {
			raw[len(raw)/2] ^= 1
			must(t, os.WriteFile(files[0], raw, 0o644))
		} else if must(t, os.Chmod(files[0], 0)); os.Geteuid() == 0 {
			continue // root reads it nevertheless
		}
		for range 2 {
			w.server()
			w.wantKept([]int64{}, []int64{})
			if left := w.staged(); !slices.Equal(left, files) {
				t.Fatalf("expected %v, got %v", files, left)
			}
			w.at(day.Add(8 * days))
		}
		w.finish(w.send(w.list(w.releases, two), origin.StatusStaged))
		w.local()
		if left := w.staged(); len(left) > 0 {
			t.Errorf("expected the file to go once its number is published, got %v", left)
		}
	}
}

// TestHeldRoot has a complete root wait in a directory until its signer publishes it, for which alone the online key is
// needed.
func TestHeldRoot(t *testing.T) {
	w := newWorldOf(t, 2, 1)
	online := w.online
	w.online = nil
	w.local()
	p := w.root(w.roots[:1], func(*trust.RootEdit) error { return nil })
	w.send(p, origin.StatusPending)
	if got := w.read(); len(got.Proposals) != 1 || got.Proposals[0].Role() != trust.RoleRoot {
		t.Fatalf("got %+v", got)
	}
	w.online = online
	w.server()
	w.wantKept([]int64{}, nil)
	w.local()
	must(t, w.Publish(t.Context(), trust.Change{Root: p}))
	if got := w.read(); len(got.Proposals) != 0 || w.whole().Root().Version() != 2 {
		t.Errorf("expected root 2 published and nothing to wait, got %+v", got)
	}
}
