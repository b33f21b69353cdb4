package main_test

import (
	"html"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// page returns the status page as a browser gets it.
func (s *server) page(t *testing.T) string {
	t.Helper()
	a := get(t, s.base+"/", "Accept", "text/html,*/*;q=0.8")
	if a.status != 200 || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %s: %.300s", a.status, a.header.Get("Content-Type"), a.body)
	}
	return a.body
}

// commands returns what the page tells people to do.
func (s *server) commands(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`(?s)<code id="commands">(.*?)</code>`).FindStringSubmatch(s.page(t))
	if found == nil {
		t.Fatal("no commands")
	}
	text := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(found[1], ""))
	return strings.ReplaceAll(text, "http://SERVER", s.base)
}

// shell runs commands as a person does, and returns what they said.
func shell(dir, commands string) (string, error) {
	cmd := exec.Command("bash", "-e")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// What the page tells people to do verifies what is served, and refuses another archive.
func TestPageCommandsVerify(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"wget", "openssl"} {
		need(t, program, program)
	}
	w := newSigner(t)
	s := w.serve()
	p := w.owner()
	file := packRandom(t, t.TempDir(), 1600000000, 1<<20)
	p.must("publish", file, s.base)
	commands := s.commands(t)
	dir := t.TempDir()
	write(t, dir, "release.pub", read(t, w.releaseKey()))
	if out, err := shell(dir, commands); err != nil || !strings.Contains(out, "Signature Verified Successfully") {
		t.Errorf("%v: %s\n%s", err, out, commands)
	}
	fetched, check, _ := strings.Cut(commands, "sha256sum")
	tampered := fetched + "printf x >> $U\nsha256sum" + check
	if out, err := shell(dir, tampered); err == nil || strings.Contains(out, "Verified Successfully") {
		t.Errorf("another archive passed: %s", out)
	}
}

// An archive that nobody signed can be compared with what the page says.
func TestPageCommandsOfADirectory(t *testing.T) {
	t.Parallel()
	need(t, "wget", "wget")
	dir := t.TempDir()
	write(t, dir, newest, []byte("archive"))
	s := serve(t, dir)
	s.awaitHashed(t, newest)
	out, err := shell(t.TempDir(), s.commands(t))
	if err != nil || out != newest+": OK\n" {
		t.Errorf("%v: %s", err, out)
	}
	if page := s.page(t); !strings.Contains(page, "It is not signed") || !strings.Contains(page, "plain directory") {
		t.Errorf("got %s", page)
	}
}

// What is known of a mirror is on its page and in its metrics.
func TestPageAndMetricsOfAMirror(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(5 << 20)}).publish(t, origin.base)
	m := w.mirror(origin.base).synced(t)
	says(t, m.page(t), "Up to date with the upstream.", "<li>"+origin.base+": in use</li>", ">timestamp ", "6 days left", ">"+w.release.Public().Fingerprint()+"<", newest)
	says(t, origin.page(t), "This is the origin", newest)
	testworld.Await(t, "how much the store takes", func() bool {
		return strings.Contains(get(t, m.base+"/metrics").body, "\nbox_update_server_store_bytes 5.24")
	})
	says(t, get(t, m.base+"/metrics").body, "\nbox_update_server_mirror 1\n", "\nbox_update_server_synced 1\n", "\nbox_update_server_healthy 1\n",
		"\nbox_update_server_catalog_updates 1\n", `box_update_server_metadata_version{role="targets"} 2`, "\nbox_update_server_sync_last_success_timestamp_seconds 1.")
	says(t, get(t, origin.base+"/metrics").body, "\nbox_update_server_mirror 0\n", `publish_attempts_total{outcome="committed"} 1`, `publish_attempts_total{outcome="staged"} 1`)
}

// A name that holds markup is shown as text.
func TestPageOfHostileNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "opq-box-update-<img src=x onerror=alert(1)>.tar.bz2", []byte("x"))
	page := serve(t, dir).page(t)
	says(t, page, "&lt;img src=x onerror=alert(1)&gt;")
	if strings.Contains(page, "<img") {
		t.Error("markup in a file name came through")
	}
}

func TestMetricsOff(t *testing.T) {
	t.Parallel()
	s := launch{settings: map[string]any{"updates_dir": t.TempDir(), "metrics": false}}.start(t)
	get(t, s.base+"/metrics").isNotFound(t)
}

// How syncs went is on the page of a mirror and in its metrics: what came, from where, and what was wrong.
func TestPageAndMetricsOfSyncs(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(5 << 20)}).publish(t, origin.base)
	w.refresh(origin.base)
	up := newTap(t, origin.base)
	m := w.mirror(up.URL).synced(t)
	testworld.Await(t, "the first sync", func() bool { return strings.Contains(m.page(t), "<td>1 archive, 5.2 MB</td>") })
	says(t, get(t, m.base+"/metrics").body, `box_update_server_sync_attempts_total{outcome="success"} 1`, `box_update_server_sync_attempts_total{outcome="failure"} 0`,
		`box_update_server_upstream_received_bytes_total{upstream="`+up.URL+`"} 5.2`, "\nbox_update_server_sync_failing 0\n")
	w.list(map[string][]byte{name(1600000000, "tar.gz"): pattern(6 << 20)}).publish(t, origin.base)
	up.wrong.Store(true)
	if a := m.sync(t); a.status != 502 {
		t.Errorf("sync: %d %s", a.status, a.body)
	}
	testworld.Await(t, "the failed sync", func() bool { return strings.Contains(m.page(t), "<td>failed: refused</td>") })
	says(t, m.page(t), "Stale", "Behind the upstream by 1 update", "No sync went well since")
	says(t, get(t, m.base+"/metrics").body, `box_update_server_sync_attempts_total{outcome="failure"} 1`, "\nbox_update_server_sync_failing 1\n",
		`box_update_server_verification_failures_total{reason="mismatch"} 1`, "\nbox_update_server_sync_behind_updates 1\n")
}
