package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A finding is what doctor found.
type finding struct{ Check, Level, Text, Advice string }

// doctor runs the command and returns its exit code and what it found.
func doctor(t *testing.T, args ...string) (code int, found []finding) {
	t.Helper()
	return doctorAs(t, 0, args...)
}

// doctorAs is doctor as another account, where this one is root.
func doctorAs(t *testing.T, account uint32, args ...string) (code int, found []finding) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"doctor", "--json"}, args...)...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if account != 0 && os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: account, Gid: account}}
	}
	err := cmd.Run()
	if e := json.Unmarshal([]byte(stdout.String()), &found); e != nil {
		t.Fatalf("%v, %v: %s%s", err, e, &stdout, &stderr)
	}
	return cmd.ProcessState.ExitCode(), found
}

// found fails the test unless one finding of this check and level has these texts, the last of them as its
// advice.
func found(t *testing.T, all []finding, check, level, text, advice string) {
	t.Helper()
	for _, f := range all {
		if f.Check == check && f.Level == level && strings.Contains(f.Text, text) && strings.Contains(f.Advice, advice) {
			return
		}
	}
	t.Errorf("no %s %s with %q and %q in %+v", check, level, text, advice, all)
}

// healthy fails the test unless nothing is wrong, and every check that isn't in order has advice.
func healthy(t *testing.T, code int, all []finding) {
	t.Helper()
	for _, f := range all {
		if f.Level == "wrong" || f.Level == "warning" && f.Advice == "" {
			t.Errorf("%+v", f)
		}
	}
	if code != 0 || len(all) < 3 {
		t.Errorf("exit code %d, %d findings", code, len(all))
	}
}

// An origin, a mirror of it and a plain directory, all running and in order. Nothing is changed.
func TestDoctorFindsNothing(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	m := w.mirror(origin.base).synced(t)
	plain := dropped(t, newest)
	for name, c := range map[string]struct {
		dir  string
		args []string
	}{
		"origin": {w.dir, []string{"--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", origin.addr}},
		"mirror": {m.dir, []string{"--data-dir", m.dir, "--upstream", origin.base, "--root", w.pinned(), "--listen", m.addr}},
		"plain":  {plain, []string{"--updates-dir", plain, "--listen", "127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t, c.dir)
			code, all := doctor(t, c.args...)
			healthy(t, code, all)
			if after := snapshot(t, c.dir); after != before {
				t.Errorf("something changed: was\n%s\nis\n%s", before, after)
			}
		})
	}
	_, all := doctor(t, "--data-dir", m.dir, "--upstream", origin.base, "--listen", m.addr)
	for check, text := range map[string]string{
		"upstream": "verifies, with snapshot", "clock": "as that of", "server": "ready at", "disk": "is kept",
		"expiry of root": "until", "expiry of timestamp": "until", "repository": "verifies",
	} {
		found(t, all, check, "ok", text, "")
	}
	out := exits(t, 0, "doctor", "--updates-dir", plain, "--listen", "127.0.0.1:1")
	if !strings.Contains(out, "[+] updates_dir: 1 archives can be read\n") {
		t.Errorf("got %s", out)
	}
}

// A fault is one thing that is wrong in a world in order, and what doctor has to say of it.
type fault struct {
	provoke                    func(t *testing.T, w *sick)
	check, level, text, advice string
}

// A sick world is a mirror, its origin and certificates, of which one thing will be wrong.
type sick struct {
	*signer
	origin, mirror string // data directories
	authority      *authority
	pair           pairDir
	upstream       *httptest.Server
	skew           atomic.Int64 // of the upstream's clock, in seconds
	args           []string     // of a doctor that looks at the mirror
	account        uint32       // as which it runs; 0: as this one
	extra          []string     // arguments that come last
}

func newSick(t *testing.T) *sick {
	t.Helper()
	w := &sick{signer: newSigner(t), authority: newAuthority(t)}
	w.pair = pairDir(t.TempDir()).put(t, w.authority.issue(90*24*time.Hour))
	w.check(os.Chmod(w.pair.key(), 0o600))
	s := w.serve()
	w.list(map[string][]byte{newest: body(newest)}).publish(t, s.base)
	target, err := url.Parse(s.base)
	w.check(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		at := time.Now().Add(time.Duration(w.skew.Load()) * time.Second)
		r.Header.Set("Date", at.UTC().Format(http.TimeFormat))
		return nil
	}
	w.upstream = httptest.NewServer(proxy)
	t.Cleanup(w.upstream.Close)
	w.origin, w.mirror = w.dir, filepath.Join(t.TempDir(), "M")
	w.args = []string{"--data-dir", w.mirror, "--root", w.pinned(), "--upstream", w.upstream.URL,
		"--listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		"--tls-listen", "127.0.0.1:1", "--tls-certificate", w.pair.certificate(), "--tls-key", w.pair.key()}
	exits(t, 0, "mirror", w.upstream.URL, "--root", w.pinned(), "--data-dir", w.mirror, "--once")
	return w
}

func faults() map[string]fault {
	return map[string]fault{
		"unknown setting": {func(t *testing.T, w *sick) {
			config := write(t, t.TempDir(), "config.json", []byte(`{"bandwith": 5}`))
			w.extra = []string{"--config", config}
		}, "settings", "warning", "bandwith", "misspelt"},
		"bad setting": {func(t *testing.T, w *sick) { w.extra = []string{"--interval", "1ms"} },
			"settings", "wrong", "interval", "config check"},
		"missing directory": {func(t *testing.T, w *sick) { w.extra = []string{"--updates-dir", "/nowhere"} },
			"settings", "wrong", "/nowhere", "correct the settings"},
		"archive that can't be read": {func(t *testing.T, w *sick) {
			dir := dropped(t, newest)
			w.check(os.Chmod(filepath.Join(dir, newest), 0o600))
			w.extra, w.account = []string{"--updates-dir", dir}, nobody
		}, "updates_dir", "wrong", "1 of 1 archives can't be read", "chmod"},
		"archives that are ignored": {func(t *testing.T, w *sick) {
			dir := dropped(t, newest)
			w.check(os.Symlink(newest, filepath.Join(dir, name(1999999999, "tar.gz"))))
			w.extra = []string{"--updates-dir", dir}
		}, "updates_dir", "warning", "1 archives can be read, 1 are ignored", "product"},
		"nothing but what is ignored": {func(t *testing.T, w *sick) {
			dir := dropped(t, newest)
			w.check(os.Rename(filepath.Join(dir, newest), filepath.Join(dir, "other-box-7.tar.gz")))
			w.extra = []string{"--updates-dir", dir}
		}, "updates_dir", "wrong", `other-box-7.tar.gz is of product "other-box"`, "product"},
		"data_dir of somebody else": {func(_ *testing.T, w *sick) {
			w.check(os.Chmod(filepath.Dir(filepath.Dir(w.mirror)), 0o755))
			w.account = nobody
		},
			"data_dir", "wrong", "can't be written to", "chown"},
		"a command ran as root": {func(t *testing.T, w *sick) {
			w.check(os.Chown(filepath.Join(w.mirror, "lock"), nobody, nobody))
		}, "data_dir", "warning", "another account", "chown -R"},
		"anybody may write": {func(t *testing.T, w *sick) { w.check(os.Chmod(w.mirror, 0o777)) },
			"data_dir", "wrong", "anybody may write", "chmod o-w"},
		"archive is gone": {func(t *testing.T, w *sick) {
			d := digest(body(newest))
			w.check(os.Remove(filepath.Join(w.mirror, "sha256", d[:2], d)))
		}, "archives", "wrong", "1 that are listed can't be served", "fsck"},
		"metadata are damaged": {func(t *testing.T, w *sick) {
			path := filepath.Join(w.mirror, "metadata", "timestamp.json")
			w.check(os.WriteFile(path, []byte("{}"), 0o644))
			w.check(os.WriteFile(path+".copy", []byte("{}"), 0o644))
		}, "repository", "wrong", "timestamp", "backup"},
		"metadata with a copy are damaged": {func(t *testing.T, w *sick) {
			path := filepath.Join(w.mirror, "metadata", "timestamp.json")
			w.check(os.WriteFile(path, []byte("{}"), 0o644))
		}, "repository", "warning", "its copy is used", "restart"},
		"certificate has expired": {func(t *testing.T, w *sick) { w.pair.put(t, w.authority.issue(-time.Minute)) },
			"certificate", "wrong", "expired at", "new one"},
		"certificate will expire": {func(t *testing.T, w *sick) { w.pair.put(t, w.authority.issue(time.Minute)) },
			"certificate", "warning", "expires at", "new one"},
		"key of another certificate": {func(t *testing.T, w *sick) { write(t, string(w.pair), "privkey.pem", w.authority.issue(time.Hour).key) },
			"certificate", "wrong", "does not match", "new one"},
		"key that others may read": {func(t *testing.T, w *sick) { w.check(os.Chmod(w.pair.key(), 0o644)) },
			"certificate", "warning", "others than its owner", "chmod 600"},
		"certificate authorities of nobody": {func(t *testing.T, w *sick) { w.extra = []string{"--ca-file", "/dev/null"} },
			"certificate", "wrong", "expected certificates in PEM", "PEM"},
		"upstream is down": {func(t *testing.T, w *sick) { w.upstream.Close() },
			"upstream", "wrong", "connection refused", "curl"},
		"upstream serves another repository": {func(t *testing.T, w *sick) {
			w.extra = []string{"--upstream", newSigner(t).serve().base}
		}, "upstream", "wrong", "", "right root"},
		"mirror is behind": {func(t *testing.T, w *sick) {
			base := w.upstream.URL
			w.refresh(base)
			w.list(map[string][]byte{name(1600000000, "tar.bz2"): []byte("another")}).publish(t, base)
		}, "upstream", "warning", "not here yet", "--once"},
		"clocks differ": {func(_ *testing.T, w *sick) { w.skew.Store(60) },
			"clock", "wrong", "apart", "timedatectl"},
		"clocks differ a little": {func(_ *testing.T, w *sick) { w.skew.Store(-10) },
			"clock", "warning", "apart", "timedatectl"},
		"nothing synced yet": {func(t *testing.T, w *sick) { w.extra = []string{"--data-dir", filepath.Join(t.TempDir(), "new")} },
			"repository", "warning", "nothing has been synced", "first sync"},
		"a setting of no use": {func(_ *testing.T, w *sick) { w.extra = []string{"--admin", "0.0.0.0:8153"} },
			"settings", "warning", `"admin" is not used any more`, "leave it out"},
		"another program listens": {func(t *testing.T, w *sick) {
			other := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(other.Close)
			w.extra = []string{"--listen", strings.TrimPrefix(other.URL, "http://")}
		}, "server", "wrong", "404", "another program"},
	}
}

func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	for name, f := range faults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSick(t)
			f.provoke(t, w)
			code, all := doctorAs(t, w.account, append(w.args, w.extra...)...)
			found(t, all, f.check, f.level, f.text, f.advice)
			bad := 0
			for _, f := range all {
				if f.Level == "wrong" {
					bad++
				}
				if f.Level != "ok" && f.Advice == "" {
					t.Errorf("no advice: %+v", f)
				}
			}
			if (code == 1) != (bad > 0) || f.level == "wrong" && code != 1 {
				t.Errorf("exit code %d with %d wrong", code, bad)
			}
		})
	}
}

// What goes wrong with an origin alone.
func TestDoctorFindsFaultsOfOrigins(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	args := []string{"--data-dir", w.dir, "--listen", fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	_, all := doctor(t, args...)
	found(t, all, "online_key", "warning", "not set", "online.pem")
	w.check(os.Chmod(w.onlineKey(), 0o644))
	_, all = doctor(t, append(args, "--online-key", w.onlineKey())...)
	found(t, all, "online_key", "wrong", "online.pem", "0600")
	other := newSigner(t)
	_, all = doctor(t, append(args, "--online-key", other.onlineKey())...)
	found(t, all, "online_key", "wrong", "does not name it", "rotate")
	plain := []string{"--updates-dir", dropped(t, newest), "--listen", "127.0.0.1:1"}
	_, all = doctor(t, append(plain, "--release-key", w.pinned())...)
	found(t, all, "release_key", "wrong", "1.root.json", "release.pub")
	_, all = doctor(t, append(plain, "--data-dir", t.TempDir(), "--tls-listen", "127.0.0.1:2", "--acme-domains", acmeName)...)
	found(t, all, "certificate", "warning", "none was obtained", "443")
}
