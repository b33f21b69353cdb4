package disk_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// TestStamp: a stamp tells each kind of change, and is the same by path and by open file.
func TestStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	at := time.Unix(1_000_000_000, 5).UTC()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	stamp := func() disk.Stamp {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s := disk.StampOf(info)
		if open, err := disk.StampOpen(f); err != nil || open != s {
			t.Errorf("the open file has %+v and error %v, its path %+v", open, err, s)
		}
		return s
	}
	write("one")
	was := stamp()
	if was != stamp() || was.Size != 3 || !was.ModTime().Equal(at) || was.ChangeTime().Before(at) {
		t.Errorf("got %+v", was)
	}
	write("four")
	if is := stamp(); is.SameBytes(was) || !is.SameFile(was) {
		t.Errorf("after a write: %+v, before %+v", is, was)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	write("one")
	if is := stamp(); is == was || is.SameFile(was) || !is.SameBytes(was) {
		t.Errorf("after a replacement: %+v, before %+v", is, was)
	}
}
