package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// onDisk puts the repository on a disk of its own and serves it from there.
func (s *signer) onDisk(disk string) *server {
	s.t.Helper()
	dir := filepath.Join(disk, "R")
	s.check(os.CopyFS(dir, os.DirFS(s.dir)))
	s.dir = dir
	return s.serve()
}

// The space that one archive has on the disk is not asked for a second time when another list comes.
func TestRoomIsCountedOnce(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s := w.onDisk(tmpfs(t, "32m"))
	archive, more := pattern(20<<20), pattern(2<<20)
	first := w.list(map[string][]byte{newest: archive})
	at := s.base + "/publish/" + first.stage(t, s.base) + "/" + digest(archive)
	var h update.Hasher
	_, _ = h.Write(archive)
	_, blocks, _ := h.Result()
	put(t, at+".blocks", blocks.Bytes()).isTaken(t)
	put(t, at+"/0", archive[:update.BlockSize]).isTaken(t)
	second := w.listAbove(first.Version(), map[string][]byte{newest: archive, name(1600000000, "tar.gz"): more})
	id := second.stage(t, s.base)
	for _, b := range second.archives {
		sendArchive(t, fmt.Sprintf("%s/publish/%s/%s", s.base, id, digest(b)), b)
	}
	if a := put(t, s.base+"/publish/"+id+"/commit", nil); a.status != 200 {
		t.Fatalf("commit: %d %s", a.status, a.body)
	}
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest+"\n"+name(1600000000, "tar.gz"))
}

// isTaken fails the test unless a block or a list of them was taken.
func (a answer) isTaken(t *testing.T) {
	t.Helper()
	if a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// Archives never fill a disk so far that nothing could be renewed or withdrawn.
func TestArchivesLeaveRoomForMetadata(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s := w.onDisk(tmpfs(t, "32m"))
	p, dir := w.owner(), t.TempDir()
	p.refused("publish", []string{packRandom(t, dir, 1600000000, 29<<20), s.base}, "507")
	fits := packRandom(t, dir, 1600000001, 27<<20)
	p.must("publish", fits, s.base)
	p.refused("publish", []string{packRandom(t, dir, 1600000002, 1<<20), s.base}, "507")
	before := s.timestamp(t)
	s.stop(t)
	s = w.serve()
	if now := s.timestamp(t); now != before+1 {
		t.Errorf("timestamp %d was followed by %d", before, now)
	}
	says(t, p.must("withdraw", filepath.Base(fits), "--repo", s.base), "state: published\n")
}

// A list that brings no archive goes out on a disk that has no room for those that others wait for.
func TestWithdrawBesideAListWithoutRoom(t *testing.T) {
	t.Parallel()
	disk := tmpfs(t, "32m")
	w := newSigner(t)
	s := w.onDisk(disk)
	waits := w.list(map[string][]byte{newest: pattern(20 << 20)})
	waits.stage(t, s.base)
	write(t, disk, "other", make([]byte, 28<<20))
	if a := put(t, fmt.Sprintf("%s/publish/targets/%d", s.base, waits.Version()+1), w.listAbove(waits.Version(), map[string][]byte{newest: pattern(5 << 20)}).Raw()); a.status != 507 {
		t.Errorf("another archive: %d %s", a.status, a.body)
	}
	id := w.listAbove(waits.Version(), nil).stage(t, s.base)
	if a := put(t, s.base+"/publish/"+id+"/commit", nil); a.status != 200 {
		t.Fatalf("commit: %d %s", a.status, a.body)
	}
}
