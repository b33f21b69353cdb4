package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// newPlain is a server, and a box that has release.pub alone; the archives are published in their order.
func newPlain(t *testing.T, names ...string) (*world, *mirror, *device) {
	t.Helper()
	w := newWorld(t)
	for _, name := range names {
		w.publish(trust.Conditions{}, map[string][]byte{name: w.pack(name, "")})
	}
	m := w.mirror()
	w.plain(m, names...)
	d := w.bare()
	d.write("C/config.json", []byte(`{"reboot":"never","state":"../S","patience":"0s"}`))
	d.write("release.pub", w.release.Public().PEM())
	return w, m, d
}

func (d *device) key() string { return d.path("release.pub") }

func TestPlainUpdate(t *testing.T) {
	w, m, d := newPlain(t, one)
	d.must(0, "update", "--key", d.key(), m.URL+"/").says("installed: " + one)
	d.has("100", "100")
	d.clean()
	for _, r := range m.asked() {
		if strings.Contains(r, ".sha256") || strings.Contains(r, "metadata") {
			t.Errorf("asked for %s", r)
		}
	}
	d.must(0, "update", "--key", d.key(), m.URL).says("update: none: up to date")
	m.sole(t, "GET version 200")
	m.put("version", nil) // a server of files that has no more than the catalog
	d.must(0, "update", "--key", d.key(), m.URL).says("update: none: up to date")
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	w.plain(m, two)
	for name, b := range w.files {
		m.put(name, b)
	}
	d.must(0, "update", "--key", d.key(), m.URL).says("installed: " + two)
	d.has("200", "100 200")

	// The server goes back to what was before.
	w.plain(m, one)
	d.must(0, "update", "--key", d.key(), m.URL).says("update: none")
	d.has("200", "100 200")
	d.must(0, "update", "--key", d.key(), "--allow-downgrade", m.URL).says("installed: " + one)
	d.has("100", "100 200 100")
}

// TestSeedServer: a server that knows /version, /ls and /update alone.
func TestSeedServer(t *testing.T) {
	_, m, d := newPlain(t, one, two)
	m.put("updates.json", nil)
	m.put("ls", []byte(one+"\n"+two+"\nother-200.tar.gz\nnonsense"))
	d.must(0, "update", "--key", d.key(), m.URL).says("installed: " + two)
	d.has("200", "200")
	m.put("version", []byte("300"))
	d.must(status.ExitRefused, "update", "--key", d.key(), m.URL).says("expected version 300 of product opq-box-update in the list, got none")
	m.put("version", nil)
	d.must(status.ExitUnavailable, "update", "--key", d.key(), m.URL).says(m.URL+"/version", "not found", "404")
}

func TestPlainFiles(t *testing.T) {
	w, m, d := newPlain(t, one, two)
	d.write(one, m.files["update/"+one])
	d.write(one+".sig", m.files["update/"+one+".sig"])
	d.must(0, "verify", "--key", d.key(), d.path(one)).says("verified: "+one, "digest: "+update.Sum(m.files["update/"+one]).String(), "by: key "+w.release.Public().Fingerprint())
	d.must(0, "install", "--key", d.key(), d.path(one)).says("installed: " + one)
	d.has("100", "100")
	d.must(0, "verify", "--key", d.key(), "--sig", d.path(one+".sig"), "--json", d.path(one)).says(`"by": "key `)

	// One change each.
	good := map[string][]byte{"key": w.release.Public().PEM(), "archive": m.files["update/"+two], "sig": m.files["update/"+two+".sig"], "name": []byte(two)}
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		code   int
		text   string
	}{
		"nothing":          {func(map[string][]byte) {}, 0, "verified"},
		"another key":      {func(f map[string][]byte) { f["key"] = w.online.Public().PEM() }, status.ExitRefused, "signature does not fit"},
		"no key":           {func(f map[string][]byte) { f["key"] = []byte("key") }, cliFailed, "key: "},
		"another archive":  {func(f map[string][]byte) { f["archive"] = m.files["update/"+one] }, status.ExitRefused, "signature does not fit"},
		"no archive":       {func(f map[string][]byte) { f["archive"] = nil }, status.ExitRefused, "signature does not fit"},
		"another's sig":    {func(f map[string][]byte) { f["sig"] = m.files["update/"+one+".sig"] }, status.ExitRefused, "signature does not fit"},
		"a short sig":      {func(f map[string][]byte) { f["sig"] = f["sig"][:63] }, status.ExitRefused, "signature: "},
		"a long sig":       {func(f map[string][]byte) { f["sig"] = append(bytes.Clone(f["sig"]), 0) }, cliFailed, "expected at most 64 bytes"},
		"another name":     {func(f map[string][]byte) { f["name"] = []byte("opq-box-update-201.tar.gz") }, status.ExitRefused, "signature does not fit"},
		"no update's name": {func(f map[string][]byte) { f["name"] = []byte("update.tar.gz.part") }, 2, "expected a file with the name of its update"},
	} {
		t.Run(name, func(t *testing.T) {
			f := map[string][]byte{}
			for k, v := range good {
				f[k] = v
			}
			c.change(f)
			d := w.bare()
			d.t = t
			d.write("C/config.json", []byte(`{"reboot":"never","state":"../S"}`))
			d.write("k", f["key"])
			d.write(string(f["name"]), f["archive"])
			d.write(string(f["name"])+".sig", f["sig"])
			d.must(c.code, "verify", "--key", d.path("k"), d.path(string(f["name"]))).says(c.text)
			if c.code != 0 {
				d.must(c.code, "install", "--key", d.path("k"), d.path(string(f["name"]))).says(c.text)
				d.has("", "")
			}
		})
	}
}

// TestPlainGoesOn: a cut download continues, and one that does not verify is not kept.
func TestPlainGoesOn(t *testing.T) {
	_, m, d := newPlain(t, one)
	archive := m.files["update/"+one]
	part := filepath.Join("S/staging", one)
	d.write(part, archive[:100])
	d.write(filepath.Join("S/staging", two), []byte("old"))
	m.on(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, one) && !strings.HasPrefix(r.Header.Get("Range"), "bytes=100-") {
			t.Errorf("asked for range %q", r.Header.Get("Range"))
		}
		return false
	})
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
	d.clean()

	// With something else at its beginning the whole is not what was signed, and comes anew.
	_, m, d = newPlain(t, one)
	d.write(part, []byte("something else"))
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
	d.clean()

	// Where the server says no digest, only the signature tells.
	_, m, d = newPlain(t, one)
	m.put("updates.json", nil)
	m.put("ls", []byte(one))
	d.write(part, []byte("something else"))
	d.must(status.ExitRefused, "update", "--key", d.key(), m.URL).says("signature does not fit")
	d.clean()
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")

	_, m, d = newPlain(t, one)
	d.write(part, archive)
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
	d.write(part, archive) // as when the power fails before it is removed
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
	d.clean()
}

// TestPlainRangesRefused: a server that refuses ranges has the whole all the same.
func TestPlainRangesRefused(t *testing.T) {
	_, m, d := newPlain(t, one)
	d.write(filepath.Join("S/staging", one), m.files["update/"+one][:100])
	m.on(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "" {
			return false
		}
		w.WriteHeader(http.StatusNotImplemented)
		return true
	})
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
	d.clean()
}

// TestPlainCut: a server that cuts each time is asked again, from where it cut, up to a limit.
func TestPlainCut(t *testing.T) {
	_, m, d := newPlain(t, one)
	d.write("C/config.json", []byte(`{"reboot":"never","state":"../S","patience":"2s"}`))
	archive := m.files["update/"+one]
	var mu sync.Mutex
	var asked []string
	m.on(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, one) {
			return false
		}
		mu.Lock()
		asked = append(asked, r.Header.Get("Range"))
		mu.Unlock()
		var from int
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(archive)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(archive)-1, len(archive)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(archive[from : from+10])
		return true
	})
	d.must(status.ExitUnavailable, "update", "--key", d.key(), m.URL).says("unavailable", "the connection was cut")
	mu.Lock()
	defer mu.Unlock()
	for i, got := range asked {
		if want := fmt.Sprintf("bytes=%d-%d", 10*i, len(archive)-1); i > 0 && got != want || i == 0 && got != "" {
			t.Errorf("asked for %q", asked)
		}
	}
	if len(asked) < 2 {
		t.Errorf("asked for %q alone", asked)
	}
	m.on(nil)
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
}

func TestPlainRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*mirror)
		code   int
		text   string
	}{
		"no update":          {func(m *mirror) { m.put("updates.json", []byte(`{"newest":null}`)) }, status.ExitRefused, "expected the newest update for every box, got none"},
		"another product":    {func(m *mirror) { m.put("updates.json", []byte(`{"newest":"other-1.tar.gz"}`)) }, status.ExitRefused, "expected an update of product opq-box-update"},
		"no JSON":            {func(m *mirror) { m.put("updates.json", []byte(`{`)) }, status.ExitRefused, "updates.json: refused"},
		"a catalog too long": {func(m *mirror) { m.put("updates.json", bytes.Repeat([]byte(" "), 8<<20+1)) }, status.ExitRefused, "expected at most"},
		"no signature":       {func(m *mirror) { m.put("update/"+one+".sig", nil) }, status.ExitUnavailable, "not found"},
		"half a signature":   {func(m *mirror) { m.put("update/"+one+".sig", make([]byte, 32)) }, status.ExitRefused, ".sig: refused"},
		"no archive":         {func(m *mirror) { m.put("update/"+one, nil) }, status.ExitUnavailable, "not found"},
		"a busy server": {func(m *mirror) {
			m.on(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "60")
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return true
			})
		}, status.ExitUnavailable, `Retry-After "60"`},
		"an archive of no length": {func(m *mirror) {
			m.on(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, one) {
					return false
				}
				testworld.Endless(w, nil)
				return true
			})
		}, status.ExitRefused, "refused"},
		"an archive of no length whose digest nobody says": {func(m *mirror) {
			m.put("updates.json", nil)
			m.put("ls", []byte(one))
			m.on(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, one) {
					return false
				}
				testworld.Endless(w, nil)
				return true
			})
		}, status.ExitRefused, "expected a Content-Length"},
		"another archive": {func(m *mirror) { m.put("update/"+one, []byte("another")) }, status.ExitRefused, "Content-Length 7"},
		"one byte changed": {func(m *mirror) {
			b := bytes.Clone(m.files["update/"+one])
			b[len(b)/2] ^= 1
			m.put("update/"+one, b)
		}, status.ExitRefused, "expected digest"},
		"another digest": {func(m *mirror) {
			m.put("updates.json", fmt.Appendf(nil, `{"newest":%q,"updates":[{"name":%q,"sha256":"%v","length":7}]}`, one, one, update.Sum([]byte("another"))))
			m.put("update/"+one, []byte("another"))
		}, status.ExitRefused, "signature does not fit"},
		"an archive too long":              {func(m *mirror) { tooLong(m, update.MaxLength+1) }, status.ExitRefused, "expected a length up to"},
		"an archive too long for the disk": {func(m *mirror) { tooLong(m, update.MaxLength) }, status.ExitNoSpace, "no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			_, m, d := newPlain(t, one)
			c.change(m)
			d.must(c.code, "update", "--key", d.key(), m.URL).says(c.text)
			d.has("", "")
		})
	}
	_, m, d := newPlain(t, one)
	d.must(2, "update", m.URL).says("a URL and --key belong together")
	d.must(2, "update", "--key", d.key()).says("a URL and --key belong together")
	d.must(2, "update", "--key", d.key(), "ftp://x").says("expected http://host or https://host")
	d.must(2, "install", "--key", d.key()).says("--key needs a file to install")
	d.must(cliFailed, "update", "--key", d.path("missing"), m.URL).says("key: open")
}

// tooLong has a mirror say that the update has another length.
func tooLong(m *mirror, length int64) {
	m.put("updates.json", fmt.Appendf(nil, `{"newest":%q,"updates":[{"name":%q,"sha256":"%v","length":%d}]}`, one, one, update.Sum(m.files["update/"+one]), length))
}

// TestPlainHint: where the signature does not fit the digest that the server names, the archive is not asked for.
func TestPlainHint(t *testing.T) {
	_, m, d := newPlain(t, one)
	m.put("updates.json", fmt.Appendf(nil, `{"newest":%q,"updates":[{"name":%q,"sha256":"%v","length":7}]}`, one, one, update.Sum([]byte("another"))))
	m.put("update/"+one, []byte("another"))
	d.must(status.ExitRefused, "update", "--key", d.key(), m.URL).says("signature does not fit")
	for _, r := range m.asked() {
		if strings.HasPrefix(r, "GET update/"+one+" ") {
			t.Errorf("asked for it: %s", r)
		}
	}
	d.has("", "")
	d.clean()
}

// TestPlainSecondKey: of several signatures the one by the box's key is asked for.
func TestPlainSecondKey(t *testing.T) {
	w, m, d := newPlain(t, one)
	second := testworld.NewSigner("release 2")
	d.write("release.pub", second.Public().PEM())
	sig, err := signing.Sign(t.Context(), second, update.Sum(m.files["update/"+one]), named(t, one))
	check(t, err)
	m.on(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("key") != string(second.Public().ID()) {
			return false
		}
		_, err := rw.Write(sig[:])
		return err == nil
	})
	d.must(0, "update", "--key", d.key(), m.URL)
	d.has("100", "100")
	d.write("release.pub", w.release.Public().PEM())
	d.must(0, "update", "--key", d.key(), m.URL).says("update: none")
}

func TestPlainFailures(t *testing.T) {
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "exit 1")})
	m := w.mirror()
	w.plain(m, one)
	d := w.bare()
	d.write("C/config.json", []byte(`{"reboot":"never","state":"../S","max_failures":2,"window":"12:00-13:00","patience":"0s"}`))
	d.write("release.pub", w.release.Public().PEM())
	d.must(status.ExitScript, "update", "--key", d.key(), m.URL).says("install script failed")
	d.must(status.ExitScript, "update", "--key", d.key(), m.URL)
	d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("not yet: " + one + ": it failed on this box")
	d.clean()
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "")})
	w.plain(m, two)
	d.now = start.Add(time.Hour)
	d.must(status.ExitHeld, "update", "--key", d.key(), m.URL).says("update: "+two, "waits: it is downloaded, and will be installed between 12:00-13:00")
	d.must(0, "update", "--key", d.key(), "--any-time", m.URL).says("installed: " + two)
	d.has("200", "100 100 200")
}

// TestPlainStatus: a box that was given no root says what it has installed, and what failed.
func TestPlainStatus(t *testing.T) {
	w, m, d := newPlain(t, one)
	d.must(cliFailed, "status").says("expected mirrors and root")
	d.must(0, "update", "--key", d.key(), m.URL)
	w.publish(trust.Conditions{}, map[string][]byte{two: w.pack(two, "exit 1")})
	w.plain(m, two)
	for range 3 {
		d.must(status.ExitScript, "update", "--key", d.key(), m.URL)
	}
	a := d.must(0, "status").says("installed: "+one+", at ", "set aside: "+two+": 3 times", "problem: ", "expected mirrors and root")
	if strings.Contains(a.out, "root: version") {
		t.Errorf("it has no root, and says %s", a.out)
	}
	d.must(0, "status", "--json").says(`"root": null`, `"name": "`+one+`"`, `"set_aside": true`)
	check(t, os.Remove(d.path("C/config.json")))
	d.must(0, "status", "--state", d.path("S")).says("installed: "+one, "problem: configuration: open")
}
