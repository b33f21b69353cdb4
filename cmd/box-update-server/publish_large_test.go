package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A large update goes through the proxy of the fleet, which takes bodies of 10 MB.
func TestLargePublishBehindNginx(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s, p := w.serve(), w.owner()
	base := behindNginx(t, s)
	dir := t.TempDir()
	path := packRandom(t, dir, 1600000000, 300_000_000)
	at := base + "/update/" + filepath.Base(path)
	says(t, p.must("publish", path, base), "state: published\n", "at: "+at+"\n")
	if n := len(s.blocksTaken()); n != 72 {
		t.Errorf("%d blocks were taken", n)
	}
	command(t, dir, need(t, "curl", "curl"), "-fsS", "-o", "fetched", at)
	command(t, dir, need(t, "cmp", "diffutils"), "fetched", path)
	says(t, succeed(t, boxsign("verify-repo", "--root", p.root, base)), "archives verified: 1\n")
}

// tmpfs mounts a disk of that size, which is unmounted when the test ends.
func tmpfs(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		testworld.NotTested(t, "a full disk of its own takes root: mount", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// On a full disk a publish fails with a clear error and loses nothing, and goes on when there is room.
func TestPublishToAFullDisk(t *testing.T) {
	t.Parallel()
	disk := tmpfs(t, "16m")
	w := newSigner(t)
	dir := filepath.Join(disk, "R")
	w.check(os.CopyFS(dir, os.DirFS(w.dir)))
	w.dir = dir
	s, p := w.serve(), w.owner()
	small := packRandom(t, t.TempDir(), 1600000000, 1<<20)
	p.must("publish", small, s.base)
	before := tree(t, dir)
	large := packRandom(t, t.TempDir(), 1600000001, 30<<20)
	p.refused("publish", []string{large, s.base}, "507", "make room on the disk of the origin")
	if after := tree(t, dir); after != before {
		t.Errorf("a publish that does not fit left something: was\n%s\nis\n%s", before, after)
	}

	// Somebody else fills the disk while an archive comes.
	middle := packRandom(t, t.TempDir(), 1600000002, 10<<20)
	slow := relayTo(t, s.addr, 1<<20)
	cut := begin(t, p.boxsign("publish", middle, slow.base))
	s.awaitLog(t, "method=PUT", digest(read(t, middle))+".blocks", "status=204")
	other, err := os.Create(filepath.Join(disk, "other"))
	w.check(err)
	for b := make([]byte, 64<<10); err == nil; {
		_, err = other.Write(b)
	}
	w.check(other.Close())
	slow.lift()
	<-cut.done
	says(t, cut.out.String(), "507", "make room on the disk of the origin")
	if cut.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v", cut.err)
	}
	get(t, s.base+"/update/"+filepath.Base(small)).isArchive(t, filepath.Base(small), read(t, small))
	p.lists(s.base, filepath.Base(small))
	// It has no room to note which blocks came, and ends well all the same: they come again.
	s.stop(t)
	s = w.serve()
	p.lists(s.base, filepath.Base(small))

	// With more room everything goes on, the first too.
	w.check(os.Remove(other.Name()))
	w.check(unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	says(t, p.must("publish", middle, s.base), "targets: 2 -> 3\n", "state: published\n")
	says(t, p.must("publish", large, s.base), "targets: 3 -> 4\n", "state: published\n")
	p.lists(s.base, filepath.Base(small), filepath.Base(large), filepath.Base(middle))
	s.stop(t)
}
