package main_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// adminOf returns the URL by which get and do reach the admin socket of a data directory.
func adminOf(dir string) string { return "http://" + hex.EncodeToString([]byte(dir)) + ".admin" }

// dialAdmin dials the admin socket that a host of adminOf stands for.
func dialAdmin(host string) (net.Conn, error) {
	dir, err := hex.DecodeString(strings.TrimSuffix(host, ".admin"))
	if err != nil {
		return nil, err
	}
	f, err := os.Open(string(dir))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/admin.sock", f.Fd()))
}

// isSocket fails the test unless the admin socket of a data directory is there, for its owner alone.
func isSocket(t *testing.T, dir string) {
	t.Helper()
	info, err := os.Lstat(filepath.Join(dir, "admin.sock"))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket of %s: %v, %v", dir, info.Mode(), err)
	}
}

// A server is asked through a socket in its data directory, however long that one's path is. It is gone when the server has
// ended, and one that a killed server left is replaced.
func TestAdminSocket(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	isSocket(t, w.dir)
	for _, name := range []string{"M", strings.Repeat("long/", 50) + "M"} {
		t.Run(fmt.Sprint(len(name)), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			socket := filepath.Join(dir, "admin.sock")
			c := w.mirrorIn(dir, origin.base).synced(t)
			isSocket(t, dir)
			if a := c.sync(t); a.status != 200 {
				t.Errorf("sync: %d %s", a.status, a.body)
			}
			says(t, exits(t, 0, "fsck", "--data-dir", dir), "checked 1 updates: 0 problems")
			says(t, exits(t, 0, "gc", "--data-dir", dir), "removed 0 archives")
			c.stop(t)
			if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after the end: %v", err)
			}
			doomed := launch{args: c.cmd.Args[1:]}.run(t)
			testworld.Await(t, "the socket", func() bool {
				conn, err := dialAdmin(strings.TrimPrefix(c.admin, "http://"))
				return err == nil && conn.Close() == nil
			})
			doomed.signal(t, syscall.SIGKILL)
			doomed.wait(t)
			isSocket(t, dir)
			w.mirrorIn(dir, origin.base).synced(t)
			isSocket(t, dir)
			says(t, exits(t, 0, "fsck", "--data-dir", dir), "checked 1 updates: 0 problems")
		})
	}
}

// Where the directory is held and nobody can be asked, fsck only looks, and the others say so.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	file := filepath.Join(t.TempDir(), "E")
	exits(t, 0, "export", "--data-dir", w.dir, file)
	for _, gone := range []func() error{
		func() error { // left by a server that was killed
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(w.dir, "admin.sock")})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return l.Close()
		},
		func() error { return os.Remove(filepath.Join(w.dir, "admin.sock")) },
	} {
		_ = os.Remove(filepath.Join(w.dir, "admin.sock"))
		if err := gone(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		says(t, exits(t, 0, "fsck", "--data-dir", w.dir), "nobody listens at "+w.dir+"/admin.sock: nothing is changed", "checked 1 updates: 0 problems")
		says(t, exits(t, 1, "gc", "--data-dir", w.dir), "the process that holds the data_dir can't be asked", "hint: is boxsign or a single sync at work")
		says(t, exits(t, 1, "import", "--data-dir", w.dir, "--root", w.pinned(), file), "the process that holds the data_dir can't be asked")
	}
}

// A configuration of the version before starts a server, which says where it is asked now.
func TestAdminOverTCP(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s := w.serve("--admin", admin)
	s.awaitLog(t, "level=WARN", `\"admin\" is not used any more`, "admin.sock in data_dir")
	if _, err := net.Dial("tcp", admin); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody listens at %s: %v", admin, err)
	}
	s.stop(t)
	write(t, w.dir, "settings.json", []byte(`{"admin": "`+admin+`"}`)) // as that version left it
	w.serve()
	says(t, exits(t, 0, "gc", "--data-dir", w.dir), "removed 0 archives")
	if a := do(t, http.MethodPost, adminOf(w.dir)+"/gc"); a.status != 200 {
		t.Errorf("gc: %d %s", a.status, a.body)
	}
	says(t, exits(t, 0, "config", "check", "--data-dir", w.dir, "--listen", ":1", "--admin", admin), `setting "admin" is not used any more`)
}
