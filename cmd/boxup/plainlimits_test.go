package main

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// plainBig is a server with an update of 9 MiB and more, and a box that has release.pub alone.
func plainBig(t *testing.T, settings string) (*mirror, *device) {
	t.Helper()
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: tarball(t, named(t, one), map[string]string{
		"VERSION": "100\n", "install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran", "data": noise(9 << 20)})})
	m := w.mirror()
	w.plain(m, one)
	d := w.bare()
	d.write("C/config.json", []byte(`{"reboot":"never","state":"../S","patience":"0s",`+settings+`}`))
	d.write("release.pub", w.release.Public().PEM())
	return m, d
}

// archives counts what a mirror is asked for under the name of an update, and how many bytes it is asked for.
func (m *mirror) archives(bytes *int) {
	m.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, one) {
			var from, to int
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
				to = 1 << 30
			}
			*bytes += min(to+1, len(m.files["update/"+one])) - from
		}
		return false
	})
}

// TestPlainDailyCap: an update arrives in parts, day by day, and none of its bytes twice.
func TestPlainDailyCap(t *testing.T) {
	t.Parallel()
	m, d := plainBig(t, `"max_bytes_per_day":5242880`)
	asked := 0
	m.archives(&asked)
	d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("the daily cap is reached", "max_bytes_per_day leaves 0 today")
	if asked != 5<<20 {
		t.Errorf("asked for %d bytes", asked)
	}
	d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("the daily cap is reached")
	if asked != 5<<20 {
		t.Errorf("asked for %d bytes", asked)
	}
	d.has("", "")
	d.now = d.now.Add(24 * time.Hour)
	d.must(0, "update", "--key", d.key(), m.URL).says("installed: " + one)
	if all := len(m.files["update/"+one]); asked != all {
		t.Errorf("asked for %d bytes of %d", asked, all)
	}
	d.has("100", "100")
	d.clean()

	// A server that knows no ranges sends nothing that would have to come again.
	m, d = plainBig(t, `"max_bytes_per_day":5242880`)
	m.on(func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false })
	d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("the daily cap is reached", "this server has only the whole")
	d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("max_bytes_per_day leaves 5242880 today")
}

// TestPlainRate: an update comes below a cap.
func TestPlainRate(t *testing.T) {
	m, d := plainBig(t, `"rate":1048576000`)
	d.must(0, "update", "--key", d.key(), m.URL)
}

// TestPlainRetryAfter: a server that asks for a pause is, by the next run too.
func TestPlainRetryAfter(t *testing.T) {
	_, m, d := newPlain(t, one)
	for field, until := range map[string]string{
		"600":      "2026-03-01T12:10:00Z",
		"99999999": "2026-03-01T13:00:00Z",
		time.Now().Add(48 * time.Hour).UTC().Format(http.TimeFormat): "2026-03-01T13:00:00Z",
	} {
		d.now = start
		m.on(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", field)
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return true
		})
		d.must(status.ExitUnavailable, "update", "--key", d.key(), m.URL).says("503")
		if got := m.asked(); len(got) != 1 {
			t.Errorf("asked for %q", got)
		}
		m.on(nil)
		d.must(status.ExitUnavailable, "update", "--key", d.key(), m.URL+"/").says(m.URL+" asked for a pause until "+until, "503")
		if got := m.asked(); got != nil {
			t.Errorf("asked for %q", got)
		}
		d.now = must(time.Parse(time.RFC3339, until))
		d.must(status.ExitUnavailable, "update", "--key", d.key(), "http://127.0.0.1:1").says("connection refused")
		d.must(0, "update", "--key", d.key(), m.URL)
		m.asked()
	}
	d.has("100", "100")
}

// TestPlainPauses: what fails is asked for again after pauses, for as long as patience goes, and not at all without.
func TestPlainPauses(t *testing.T) {
	for settings, again := range map[string]bool{`"patience":"2s"`: true, `"patience":"0s"`: false} {
		_, m, d := newPlain(t, one)
		d.write("C/config.json", []byte(`{"reboot":"never","state":"../S",`+settings+`}`))
		m.on(func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "bad", http.StatusBadGateway)
			return true
		})
		d.must(status.ExitUnavailable, "update", "--key", d.key(), m.URL).says("502")
		if got := m.asked(); len(got) > 1 != again {
			t.Errorf("%s: asked for %q", settings, got)
		}
	}
}

// TestPlainWindow: a download that ends after the maintenance window is installed in the next one.
func TestPlainWindow(t *testing.T) {
	_, m, d := newPlain(t, one)
	d.write("C/config.json", []byte(`{"reboot":"never","state":"../S","window":"11:00-13:00"}`))
	m.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, one) {
			d.now = start.Add(2 * time.Hour)
		}
		return false
	})
	d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("waits: it is downloaded, and will be installed between 11:00-13:00")
	d.has("", "")
	d.now = start.Add(24 * time.Hour)
	m.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, one) && r.Header.Get("Range") == "" {
			t.Error("it comes again")
		}
		return false
	})
	d.must(0, "update", "--key", d.key(), m.URL).says("installed: " + one)
	d.clean()
}

// TestPlainWaitsWithoutDigest: an update without a known digest does not come again while it waits for its window, and what
// a server without ranges would send again does not use up the daily cap.
func TestPlainWaitsWithoutDigest(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		m, d := plainBig(t, `"max_bytes_per_day":15728640,"window":"03:00-03:01"`)
		m.put("updates.json", nil)
		m.put("ls", []byte(one+"\n"))
		whole := 0
		m.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if !ranges {
				r.Header.Del("Range")
			}
			if strings.HasSuffix(r.URL.Path, one) && r.Header.Get("Range") == "" {
				whole++
			}
			return false
		})
		for range 3 {
			d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("waits: it is downloaded")
		}
		if ranges && whole > 0 {
			t.Errorf("asked %d times for the whole", whole)
		}
		d.now = time.Date(2026, 3, 2, 3, 0, 30, 0, time.UTC)
		d.must(0, "update", "--key", d.key(), m.URL).says("installed: " + one)
		d.has("100", "100")
		d.clean()
	}
}

// TestPlainReplaced: a server that replaces an update while a part is here, and sends all of it, is not refused.
func TestPlainReplaced(t *testing.T) {
	m, d := plainBig(t, `"rate":1048576000`)
	m.put("updates.json", nil)
	m.put("ls", []byte(one+"\n"))
	d.write("S/staging/"+one, make([]byte, 1<<20)) // the beginning of other bytes
	m.on(func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false })
	d.must(0, "update", "--key", d.key(), m.URL).says("installed: " + one)
	d.has("100", "100")
	d.clean()
}

// TestPlainWrongRange: a server that sends another part than the one that was asked for.
func TestPlainWrongRange(t *testing.T) {
	_, m, d := newPlain(t, one)
	archive := m.files["update/"+one]
	d.write("S/staging/"+one, archive[:100])
	for _, field := range []string{"", "bytes 99-199/1000", "bytes 100-199/*", "bytes 100-99/1000", "bytes 0100-199/1000", fmt.Sprintf("bytes 100-199/%d", int64(update.MaxLength)+1)} {
		m.on(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, one) {
				return false
			}
			if field != "" {
				w.Header().Set("Content-Range", field)
			}
			w.WriteHeader(http.StatusPartialContent)
			_, err := w.Write(make([]byte, 100))
			return err == nil
		})
		d.must(status.ExitRefused, "update", "--key", d.key(), m.URL).says("refused", "expected")
	}
	m.on(nil)
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
}

// TestPlainFullDisk: a disk that fills while an update comes is told of as such, and asked for nothing again.
func TestPlainFullDisk(t *testing.T) {
	m, d := plainBig(t, `"rate":1048576000`)
	d.must(status.ExitUnavailable, "update", "--key", d.key(), "http://127.0.0.1:1") // makes the directory
	if err := syscall.Mount("tmpfs", d.path("S"), "tmpfs", 0, "size=48m"); err != nil {
		testworld.NotTested(t, "a full disk in the plain mode", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(d.path("S"), syscall.MNT_DETACH)) })
	asked := 0
	m.on(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, one) {
			return false
		}
		asked++
		b := m.files["update/"+one]
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b[:1<<20])
		d.write("S/ballast", make([]byte, 42<<20))
		_, _ = w.Write(b[1<<20:]) // the box hangs up
		return true
	})
	d.must(status.ExitNoSpace, "update", "--key", d.key(), m.URL).says("no space left")
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestPlainNoRoomToInstall: an archive that would fit, but not unpacked as well, is refused before it comes.
func TestPlainNoRoomToInstall(t *testing.T) {
	_, m, d := newPlain(t, one)
	var disk unix.Statfs_t
	check(t, unix.Statfs(d.dir, &disk))
	length := min(int64(disk.Bavail)*int64(disk.Bsize)/10*7, update.MaxLength) // of a larger disk it is too little for this test
	tooLong(m, length)
	d.must(status.ExitNoSpace, "update", "--key", d.key(), m.URL).says("and its installation ")
	for _, r := range m.asked() {
		if strings.HasPrefix(r, "GET update/"+one+" ") {
			t.Errorf("asked for it: %s", r)
		}
	}
	d.has("", "")

	// Without a catalog its length is known once it begins to come.
	m.put("updates.json", nil)
	m.put("ls", []byte(one))
	m.on(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, one) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(length))
		w.WriteHeader(http.StatusOK)
		return true
	})
	d.must(status.ExitNoSpace, "update", "--key", d.key(), m.URL).says("and its installation ")
	d.has("", "")
}
