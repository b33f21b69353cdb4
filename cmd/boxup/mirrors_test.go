package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// TestFailover: of the blocks of an update each comes from the mirror that has it, and none comes twice.
func TestFailover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := tarball(t, named(t, one), map[string]string{"VERSION": "100\n", "install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran", "data": noise(17 << 20)})
	w.publish(trust.Conditions{}, map[string][]byte{one: big})
	path := "sha256/" + update.Sum(big).String()
	bad, cut, good := w.mirror(), w.mirror(), w.mirror()
	wrong := slices.Clone(big)
	wrong[2*update.BlockSize] ^= 1 // in the third block
	bad.put(path, wrong)
	var served atomic.Int64
	cut.on(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, path) {
			return false
		}
		var from int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err != nil {
			from = 0
		}
		rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(big)-1, len(big)))
		rw.Header().Set("Content-Length", fmt.Sprint(len(big)-from))
		rw.Header().Set("Etag", `"`+update.Sum(big).String()+`"`)
		rw.WriteHeader(http.StatusPartialContent)
		n, _ := rw.Write(big[from : from+update.BlockSize+5])
		served.Add(int64(n))
		return true // and the connection is cut
	})
	d := w.newDevice(nil, bad, cut, good)
	d.random = 0.999 // in the order of the configuration
	d.must(0, "update").says("installed: "+one, "block 2: expected digest", bad.URL)
	d.has("100", "100")
	if served.Load() == 0 {
		t.Error("the mirror that cuts was not asked")
	}
	for _, m := range []*mirror{bad, cut, good} {
		var archive []string
		for _, r := range m.asked() {
			if strings.Contains(r, path+" ") {
				archive = append(archive, r)
			}
		}
		if len(archive) != 1 {
			t.Errorf("%s was asked for the archive %q times", m.URL, archive)
		}
	}
	d.clean()
}

// TestMirrorBehind: a mirror that is behind one that was seen is not trusted to be newest.
func TestMirrorBehind(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	behind, good := w.mirror(), w.mirror()
	d := w.newDevice(nil, good, behind)
	d.must(status.ExitAvailable, "check")
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	good.sync(w)
	d.must(status.ExitAvailable, "check").says("update: " + two)
	d.must(0, "status").says("mirror: "+good.URL+"\n", "mirror: "+behind.URL+", behind another mirror\n")
	behind.asked()
	good.asked()
	d.must(0, "update")
	if got := behind.asked(); got != nil {
		t.Errorf("asked the mirror that is behind for %q", got)
	}
	// The first one is gone: the other is asked, and its list is refused.
	good.Close()
	d.must(status.ExitRefused, "check").says(behind.URL, "older than what was accepted before", "connection refused")
	d.has("200", "200")
	behind.sync(w)
	d.must(0, "check")
	d.must(0, "status").says("mirror: " + behind.URL + "\n")
}

// TestFirstMirrorBehind: the first mirror shows something new, another one something newer still.
func TestFirstMirrorBehind(t *testing.T) {
	w := newWorld(t)
	first, second := w.mirror(), w.mirror()
	d := w.newDevice(nil, first, second)
	d.must(0, "check")
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	first.sync(w)
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	second.sync(w)
	d.must(status.ExitAvailable, "check").says("update: " + two)
	d.must(0, "status").says("mirror: "+first.URL+", behind another mirror\n", "mirror: "+second.URL+"\n")
}

// TestFrozenMirror: what the first mirror has is valid, and so old that the origin must have signed
// again. The others are asked too.
func TestFrozenMirror(t *testing.T) {
	w := newWorld(t)
	frozen, good := w.mirror(), w.mirror()
	d := w.newDevice(nil, frozen, good)
	d.must(0, "check")
	w.pass(4 * 24 * time.Hour)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	good.sync(w)
	frozen.asked()
	good.asked()
	d.must(0, "check")
	frozen.sole(t, "GET metadata/timestamp.json 304")
	if got := good.asked(); got != nil {
		t.Errorf("asked for %q", got)
	}
	d.now = w.at
	d.must(status.ExitAvailable, "check").says("update: " + one)
	d.must(0, "status").says("mirror: " + frozen.URL + ", behind another mirror\n")
}

// TestRetryAfter: a mirror that asks for a pause is, by the next run too.
func TestRetryAfter(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	m.on(func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.Header().Set("Retry-After", "600")
		http.Error(rw, "Come back later.", http.StatusServiceUnavailable)
		return true
	})
	d.must(status.ExitUnavailable, "check").says("503")
	m.on(nil)
	m.asked()
	d.must(status.ExitUnavailable, "update").says("every mirror asked for a pause", "503")
	d.must(0, "status").says("mirror: " + m.URL + ", paused until 2026-03-01T12:")
	d.now = d.now.Add(9 * time.Minute)
	d.must(status.ExitUnavailable, "fetch").says("every mirror asked for a pause")
	if got := m.asked(); got != nil {
		t.Errorf("asked for %q", got)
	}
	other := w.mirror()
	d.configure(map[string]any{"mirrors": []string{m.URL, other.URL}})
	d.must(status.ExitAvailable, "check")
	if got := m.asked(); got != nil {
		t.Errorf("asked for %q", got)
	}
	d.configure(map[string]any{"mirrors": []string{m.URL}})
	d.now = d.now.Add(2 * time.Minute)
	d.must(0, "update").says("installed: " + one)
	// A pause by a clock that was far ahead is none.
	d.write("S/box.json", []byte(`{"mirrors":[{"url":"`+m.URL+`","until":"2040-01-01T00:00:00Z"}]}`))
	d.must(0, "check")
}

// TestOwnAuthority: mirrors over TLS, by an authority of one's own.
func TestOwnAuthority(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	plain := w.mirror()
	m := &mirror{files: plain.files}
	m.Server = httptest.NewTLSServer(m)
	t.Cleanup(m.Close)
	d := w.newDevice(nil, m)
	d.must(status.ExitUnavailable, "check").says("certificate")
	d.write("C/ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Certificate().Raw}))
	d.configure(map[string]any{"ca_file": "ca.pem"})
	d.must(0, "update").says("installed: " + one)
	d.write("C/ca.pem", []byte("nothing"))
	d.must(cliFailed, "check").says("ca_file", "expected certificates in PEM")
}

// TestNoBlockLists: a mirror that is a plain TUF server. The update comes in one piece.
func TestNoBlockLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	archive := w.pack(one, "")
	w.publish(trust.Conditions{}, map[string][]byte{one: tarball(t, named(t, one), map[string]string{
		"VERSION": "100\n", "install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran", "data": noise(5 << 20)})})
	m := w.mirror()
	for name := range m.files {
		if strings.HasSuffix(name, ".blocks") {
			m.put(name, nil)
		}
	}
	d := w.newDevice(nil, m)
	d.must(0, "update").says("installed: " + one)
	d.has("100", "100")
	d.clean()
	w.publish(trust.Conditions{}, map[string][]byte{two: tarball(t, named(t, two), map[string]string{"VERSION": "200\n", "install_update.sh": "#!/bin/sh\n", "data": noise(5 << 20)})})
	rel, _ := w.repo.Release(named(t, two))
	m.sync(w)
	m.put("sha256/"+rel.Digest().String()+".blocks", nil)
	m.put("sha256/"+rel.Digest().String(), archive)
	d.must(status.ExitRefused, "update").says(two, "refused")
	d.has("100", "100")
}

// TestNoRoom: an update that does not fit, packed and unpacked, is refused before anything comes.
func TestNoRoom(t *testing.T) {
	w := newWorld(t)
	archive := w.pack(one, "")
	var h update.Hasher
	_, _ = h.Write(archive)
	digest, blocks, length := h.Result()
	w.files["sha256/"+digest.String()], w.files["sha256/"+digest.String()+".blocks"] = archive, blocks.Bytes()
	w.edit(func(e *trust.TargetsEdit) error {
		return e.Add(trust.Addition{Name: named(t, one), Digest: digest, Length: length, Blocks: update.Sum(blocks.Bytes()), Unpacked: 8 << 40})
	})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(status.ExitNoSpace, "update").says(one, "no space left", fmt.Sprint(install.Needs(length, 8<<40))+" of them to install the update")
	for _, r := range m.asked() {
		if strings.Contains(r, "sha256") {
			t.Errorf("asked for %s", r)
		}
	}
}

// TestSupersededDownload: what has arrived of an update that is not wanted any more goes.
func TestSupersededDownload(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	d := w.newDevice(nil, m)
	d.must(0, "fetch")
	part := filepath.Join("S/staging", strings.Repeat("ab", 32)+".part")
	d.write(part, []byte("part"))
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	m.sync(w)
	d.must(0, "fetch").says("fetched: " + two)
	if _, err := os.Stat(d.path(part)); err == nil {
		t.Error("the part of another update is still there")
	}
	all, err := filepath.Glob(d.path("S/sha256/*/*"))
	if err != nil || len(all) != 1 {
		t.Errorf("%q, %v", all, err)
	}
	d.must(0, "update")
	d.clean()
}

// headerOf notes the range that an archive is asked for.
func headerOf(ranged *string) func(http.ResponseWriter, *http.Request) bool {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/sha256/") && !strings.HasSuffix(r.URL.Path, ".blocks") {
			*ranged = r.Header.Get("Range")
		}
		return false
	}
}

// TestPasswordIsNotShown: a mirror may want a user and a password, which nobody gets to see.
func TestPasswordIsNotShown(t *testing.T) {
	w := newWorld(t)
	m := w.mirror()
	d := w.newDevice(map[string]any{"mirrors": []string{strings.Replace(m.URL, "http://", "http://box:geheim@", 1)}}, m)
	m.on(func(rw http.ResponseWriter, r *http.Request) bool {
		if _, password, _ := r.BasicAuth(); password == "geheim" {
			return false
		}
		http.Error(rw, "who?", http.StatusUnauthorized)
		return true
	})
	check(t, os.Chmod(d.path("C/config.json"), 0o644))
	d.must(0, "check").says("other users can read the password in ")
	m.on(func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.Header().Set("Retry-After", "600")
		http.Error(rw, "busy", http.StatusServiceUnavailable)
		return true
	})
	for _, args := range [][]string{{"check"}, {"check"}, {"status"}, {"status", "--json"}} {
		if a := d.boxup(args...); strings.Contains(a.out+a.err, "geheim") {
			t.Errorf("%q shows the password:\n%s%s", args, a.out, a.err)
		}
	}
	d.must(0, "status").says("mirror: " + strings.Replace(m.URL, "http://", "http://***@", 1) + ", paused until")
}

// TestCapWithoutBlockLists: what comes in one piece alone and is longer than a day's share never comes, and the
// box says so.
func TestCapWithoutBlockLists(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: tarball(t, named(t, one), map[string]string{
		"VERSION": "100\n", "install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran", "data": noise(5 << 20)})})
	m := w.mirror()
	for name := range m.files {
		if strings.HasSuffix(name, ".blocks") {
			m.put(name, nil)
		}
	}
	d := w.newDevice(map[string]any{"max_bytes_per_day": 4 << 20}, m)
	d.must(status.ExitHeld, "update").says("no mirror has its block list", "expected max_bytes_per_day of at least 52")
	d.configure(map[string]any{"max_bytes_per_day": 6 << 20})
	m.on(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/sha256/") || strings.HasSuffix(r.URL.Path, ".blocks") {
			return false
		}
		b := m.files[strings.TrimPrefix(r.URL.Path, "/")]
		rw.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, err := rw.Write(b[:1<<20])
		return err == nil // and the connection is cut
	})
	d.must(status.ExitUnavailable, "update").says("the connection was cut")
	d.must(0, "status").says("left today: " + fmt.Sprint(5<<20)) // what came counts, whole or not
	m.on(nil)
	d.must(0, "update").says("installed: " + one)
}

// TestSlowMirror: one that another one outpaced is asked last for an hour, by later runs too.
func TestSlowMirror(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	slow, quick := w.mirror(), w.mirror()
	d := w.newDevice(nil, slow, quick)
	d.must(status.ExitAvailable, "check")
	path := d.path("S/box.json")
	b, _, err := disk.ReadState(path, 1<<20, nil)
	check(t, err)
	url := `"url": "` + slow.URL + `"`
	b = bytes.Replace(b, []byte(url), []byte(url+`, "slow": "`+d.now.Add(time.Hour).Format(time.RFC3339)+`"`), 1)
	check(t, disk.FS{}.WriteState(path, b, 0o600))
	slow.asked()
	d.must(0, "fetch")
	if got := slow.asked(); got != nil {
		t.Errorf("asked the slow mirror for %q", got)
	}
	d.must(0, "status").says("mirror: " + slow.URL + ", much slower than another mirror")
	d.now = d.now.Add(time.Hour)
	d.must(status.ExitAvailable, "check")
	if got := slow.asked(); got == nil {
		t.Error("the mirror that was slow is not asked first again")
	}
}
